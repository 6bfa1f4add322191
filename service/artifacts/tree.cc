#include "service/artifacts/tree.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "proto/cpp/base/decimal_nanos.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/id.h"
#include "proto/cpp/base/status_macros.h"
#include "service/core/errors.h"
#include "service/core/layout.h"
#include "service/core/workspace.h"

namespace mlops::artifacts {
namespace {

constexpr size_t kEtagDigits = 16;
// The kernel's limit.
constexpr int kMaxLinks = 40;

}  // namespace

std::string ArtifactEtag(const fs::FileStamp& stamp) {
  return base::HashHex(absl::StrCat(stamp.inode, " ", stamp.size_bytes, " ",
                                    base::DecimalNanos(stamp.modify_time), " ",
                                    base::DecimalNanos(stamp.change_time)),
                       kEtagDigits);
}

Artifact DescribeArtifact(std::string shown, const fs::FileStamp& stamp) {
  const bool directory = stamp.type == fs::EntryType::kDirectory;
  return {.path = std::move(shown),
          .directory = directory,
          .size_bytes = directory ? 0 : stamp.size_bytes,
          .etag = directory ? "" : ArtifactEtag(stamp),
          .modify_time = stamp.modify_time};
}

absl::StatusOr<ArtifactTree> ArtifactTree::Open(
    const fs::Dir& base, const core::ProjectName& project) {
  auto root = base.OpenDir(project.str());
  if (absl::IsNotFound(root.status()))
    return core::WorkspaceNotFound(project.str());
  RETURN_IF_ERROR(root.status());
  ASSIGN_OR_RETURN(const fs::FileStamp stamp, (*root)->StatSelf());
  return ArtifactTree(project, *std::move(root), stamp);
}

absl::Status ArtifactTree::Error(const absl::Status& status,
                                 const RelativePath& path) const {
  const auto info = base::GetErrorInfo(status);
  if (!info)
    return absl::IsNotFound(status)
               ? core::ArtifactNotFound(project_.str(), path.shown())
               : status;
  // An error that names its project is already in the form of the contract,
  // possibly for another path.
  if (info->reason != "PATH_UNSUITABLE" || info->metadata.contains("project"))
    return status;
  return core::PathUnsuitable(project_.str(), path.shown(),
                              info->metadata.at("problem"));
}

absl::StatusOr<std::unique_ptr<fs::Dir>> ArtifactTree::OpenParent(
    const RelativePath& path) const {
  auto parent = root_->OpenDir(path.parent());
  if (!parent.ok()) return Error(parent.status(), path);
  return parent;
}

absl::StatusOr<fs::FileStamp> ArtifactTree::Stat(
    const RelativePath& path) const {
  auto stamp = StatOnDisk(path.on_disk());
  if (!stamp.ok()) return Error(stamp.status(), path);
  return stamp;
}

absl::StatusOr<fs::FileStamp> ArtifactTree::StatOnDisk(
    absl::string_view on_disk) const {
  const size_t slash = on_disk.rfind('/');
  if (slash == absl::string_view::npos) return root_->Stat(on_disk);
  // Open the parent separately: a stat of the whole path would follow
  // links in it.
  ASSIGN_OR_RETURN(const auto parent, root_->OpenDir(on_disk.substr(0, slash)));
  return parent->Stat(on_disk.substr(slash + 1));
}

// The server follows the links itself, name by name. The kernel could
// confine the path to the workspace, but could not exclude its hidden files.
// The result is then opened without following links, so that a link created
// in the meantime leads nowhere.
absl::StatusOr<std::string> ArtifactTree::Resolve(
    const RelativePath& path) const {
  const auto unsuitable = [&](absl::string_view problem) {
    return core::PathUnsuitable(project_.str(), path.shown(), problem);
  };
  // The resolved part; contains no link, except the last name while it
  // is examined.
  std::vector<std::string> way;
  // The names still to resolve, the next one last.
  std::vector<std::string> rest;
  const auto push = [&](absl::string_view names) {
    const std::vector<std::string> split = absl::StrSplit(names, '/');
    rest.insert(rest.end(), split.rbegin(), split.rend());
  };
  push(path.on_disk());
  for (int links = 0; !rest.empty();) {
    const std::string name = std::move(rest.back());
    rest.pop_back();
    // Link targets may contain "//" and ".".
    if (name.empty() || name == ".") continue;
    if (name == ".." && way.empty())
      return unsuitable("leads out of the workspace by a symbolic link");
    if (name == "..") {
      way.pop_back();
      continue;
    }
    way.push_back(name);
    const auto target = root_->ReadLink(absl::StrJoin(way, "/"));
    if (absl::IsNotFound(target.status()) && links > 0)
      return core::BrokenLink(project_.str(), path.shown());
    if (!target.ok()) return Error(target.status(), path);
    if (!target->has_value()) continue;
    // A link in place of one of the five directories is never followed.
    if (way.size() == 1)
      return unsuitable(
          "leads through one of the workspace's directories that is a symbolic "
          "link");
    if (absl::StartsWith(**target, "/"))
      return unsuitable("leads through a symbolic link that is absolute");
    if (++links > kMaxLinks)
      return unsuitable("leads through too many symbolic links");
    way.pop_back();
    push(**target);
  }
  // A relative link may still lead to the record or to a hidden directory.
  if (way.empty() ||
      std::find(core::kDirectories.begin(), core::kDirectories.end(),
                way.front()) == core::kDirectories.end()) {
    return unsuitable(
        "leads through a symbolic link out of the workspace's five "
        "directories");
  }
  return absl::StrJoin(way, "/");
}

template <typename Call>
auto ArtifactTree::Following(const RelativePath& path, Call call) const
    -> decltype(call(absl::string_view())) {
  // Try without links first, which is the common case.
  auto found = call(path.on_disk());
  if (absl::IsFailedPrecondition(found.status())) {
    ASSIGN_OR_RETURN(const std::string target, Resolve(path));
    if (target != path.on_disk()) found = call(target);
  }
  if (!found.ok()) return Error(found.status(), path);
  return found;
}

absl::StatusOr<fs::FileStamp> ArtifactTree::StatTarget(
    const RelativePath& path) const {
  return Following(
      path, [&](absl::string_view on_disk) -> absl::StatusOr<fs::FileStamp> {
        ASSIGN_OR_RETURN(const fs::FileStamp stamp, StatOnDisk(on_disk));
        if (stamp.type != fs::EntryType::kSymlink) return stamp;
        return core::PathUnsuitable(project_.str(), path.shown(),
                                    "is a symbolic link");
      });
}

absl::StatusOr<std::unique_ptr<fs::FileReader>> ArtifactTree::OpenFile(
    const RelativePath& path) const {
  return Following(path, [this](absl::string_view on_disk) {
    return root_->OpenFile(on_disk);
  });
}

absl::StatusOr<std::unique_ptr<fs::Dir>> ArtifactTree::OpenDir(
    const RelativePath& path) const {
  return Following(path, [this](absl::string_view on_disk) {
    return root_->OpenDir(on_disk);
  });
}

absl::StatusOr<std::unique_ptr<fs::Dir>> ArtifactTree::OpenUploads() const {
  return OpenOrMakeDir(*root_, core::layout::kUploadsDir);
}

absl::StatusOr<std::unique_ptr<fs::Dir>> OpenOrMakeDir(fs::Dir& dir,
                                                       absl::string_view name) {
  auto opened = dir.OpenDir(name);
  if (!absl::IsNotFound(opened.status())) return opened;
  // Another caller may create it at the same moment.
  if (absl::Status made = dir.MakeDir(name);
      !made.ok() && !absl::IsAlreadyExists(made))
    return made;
  return dir.OpenDir(name);
}

absl::Status CheckSuitable(const ArtifactTree& tree, const RelativePath& path,
                           const fs::FileStamp& stamp) {
  switch (stamp.type) {
    case fs::EntryType::kFile:
    case fs::EntryType::kDirectory:
      return absl::OkStatus();
    case fs::EntryType::kSymlink:
      return core::PathUnsuitable(tree.project().str(), path.shown(),
                                  "is a symbolic link");
    case fs::EntryType::kOther:
      break;
  }
  return core::PathUnsuitable(tree.project().str(), path.shown(),
                              "is neither a regular file nor a directory");
}

}  // namespace mlops::artifacts
