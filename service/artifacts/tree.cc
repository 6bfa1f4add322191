#include "service/artifacts/tree.h"

#include <algorithm>
#include <optional>

#include "absl/hash/hash.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/id.h"
#include "proto/cpp/base/status_macros.h"
#include "service/core/errors.h"
#include "service/core/layout.h"
#include "service/core/workspace.h"
#include "service/fs/move_tree.h"

namespace mlops::core {
namespace {

constexpr size_t kEtagDigits = 16;
constexpr size_t kMaxDurableNames = 1024;  // In each stripe.
constexpr int kMaxLinks = 40;              // As the kernel has it.

// Opens the directory `name` in `dir`, making it if it is missing.
absl::StatusOr<std::unique_ptr<fs::Dir>> OpenOrMakeDir(fs::Dir& dir, absl::string_view name) {
  auto opened = dir.OpenDir(name);
  if (!absl::IsNotFound(opened.status())) return opened;
  // Somebody else may make it at the same moment.
  if (absl::Status made = dir.MakeDir(name); !made.ok() && !absl::IsAlreadyExists(made)) return made;
  return dir.OpenDir(name);
}

// For each directory of the chain, what tells this name of this directory in this other one from everything else; none
// where the file system does not tell.
std::vector<std::optional<size_t>> NameKeys(const ArtifactTree& tree, const ArtifactTree::Chain& chain) {
  std::vector<std::optional<size_t>> keys;
  std::string parent = tree.root().Identity();
  for (const ArtifactTree::Step& step : chain) {
    std::string child = step.dir->Identity();
    const bool known = !parent.empty() && !child.empty();
    keys.push_back(known ? std::optional(absl::HashOf(parent, step.name, child)) : std::nullopt);
    parent = std::move(child);
  }
  return keys;
}

}  // namespace

std::string ArtifactEtag(const fs::FileStamp& stamp) {
  return base::HashHex(absl::StrCat(stamp.inode, " ", stamp.size_bytes, " ", absl::ToUnixNanos(stamp.modify_time), " ",
                                    absl::ToUnixNanos(stamp.change_time)),
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

absl::StatusOr<ArtifactTree> ArtifactTree::Open(const fs::Dir& base, const ProjectName& project) {
  auto root = base.OpenDir(project.str());
  if (absl::IsNotFound(root.status())) return WorkspaceNotFound(project.str());
  RETURN_IF_ERROR(root.status());
  return ArtifactTree(project, *std::move(root));
}

absl::Status ArtifactTree::Error(const absl::Status& status, const RelativePath& path) const {
  const auto info = base::GetErrorInfo(status);
  if (!info) return absl::IsNotFound(status) ? ArtifactNotFound(project_.str(), path.shown()) : status;
  // One that names its project has its place already, maybe about another path.
  if (info->reason != "PATH_UNSUITABLE" || info->metadata.contains("project")) return status;
  return PathUnsuitable(project_.str(), path.shown(), info->metadata.at("problem"));
}

absl::StatusOr<std::unique_ptr<fs::Dir>> ArtifactTree::OpenParent(const RelativePath& path) const {
  auto parent = root_->OpenDir(path.parent());
  if (!parent.ok()) return Error(parent.status(), path);
  return parent;
}

absl::StatusOr<fs::FileStamp> ArtifactTree::Stat(const RelativePath& path) const {
  auto stamp = StatOnDisk(path.on_disk());
  if (!stamp.ok()) return Error(stamp.status(), path);
  return stamp;
}

absl::StatusOr<fs::FileStamp> ArtifactTree::StatOnDisk(absl::string_view on_disk) const {
  const size_t slash = on_disk.rfind('/');
  if (slash == absl::string_view::npos) return root_->Stat(on_disk);
  // Not at once: links on the way would be followed.
  ASSIGN_OR_RETURN(const auto parent, root_->OpenDir(on_disk.substr(0, slash)));
  return parent->Stat(on_disk.substr(slash + 1));
}

// The links are followed here, name by name, and not by the kernel, which could be kept beneath the workspace but not
// out of what is hidden there. What is opened then is opened without following any: one that is put in the way
// meanwhile leads nowhere.
absl::StatusOr<std::string> ArtifactTree::Resolve(const RelativePath& path) const {
  const auto unsuitable = [&](absl::string_view problem) {
    return PathUnsuitable(project_.str(), path.shown(), problem);
  };
  std::vector<std::string> way;   // No link, but for the last name while it is looked at.
  std::vector<std::string> rest;  // What comes behind, the next name last.
  const auto push = [&](absl::string_view names) {
    const std::vector<std::string> split = absl::StrSplit(names, '/');
    rest.insert(rest.end(), split.rbegin(), split.rend());
  };
  push(path.on_disk());
  for (int links = 0; !rest.empty();) {
    const std::string name = std::move(rest.back());
    rest.pop_back();
    if (name.empty() || name == ".") continue;
    if (name == ".." && way.empty()) return unsuitable("leads out of the workspace by a symbolic link");
    if (name == "..") {
      way.pop_back();
      continue;
    }
    way.push_back(name);
    const auto target = root_->ReadLink(absl::StrJoin(way, "/"));
    if (!target.ok()) return Error(target.status(), path);
    if (!target->has_value()) continue;
    if (absl::StartsWith(**target, "/")) return unsuitable("leads through a symbolic link that is absolute");
    if (++links > kMaxLinks) return unsuitable("leads through too many symbolic links");
    way.pop_back();
    push(**target);
  }
  if (way.empty() || std::find(kDirectories.begin(), kDirectories.end(), way.front()) == kDirectories.end()) {
    return unsuitable("leads by a symbolic link to what is in none of the workspace's directories");
  }
  return absl::StrJoin(way, "/");
}

template <typename Call>
auto ArtifactTree::Following(const RelativePath& path, Call call) const -> decltype(call(absl::string_view())) {
  auto found = call(path.on_disk());
  if (absl::IsFailedPrecondition(found.status())) {
    ASSIGN_OR_RETURN(const std::string target, Resolve(path));
    if (target != path.on_disk()) found = call(target);
  }
  if (!found.ok()) return Error(found.status(), path);
  return found;
}

absl::StatusOr<fs::FileStamp> ArtifactTree::StatTarget(const RelativePath& path) const {
  return Following(path, [&](absl::string_view on_disk) -> absl::StatusOr<fs::FileStamp> {
    ASSIGN_OR_RETURN(const fs::FileStamp stamp, StatOnDisk(on_disk));
    if (stamp.type != fs::EntryType::kSymlink) return stamp;
    return PathUnsuitable(project_.str(), path.shown(), "is a symbolic link");
  });
}

absl::StatusOr<std::unique_ptr<fs::FileReader>> ArtifactTree::OpenFile(const RelativePath& path) const {
  return Following(path, [this](absl::string_view on_disk) { return root_->OpenFile(on_disk); });
}

absl::StatusOr<std::unique_ptr<fs::Dir>> ArtifactTree::OpenDir(const RelativePath& path) const {
  return Following(path, [this](absl::string_view on_disk) { return root_->OpenDir(on_disk); });
}

absl::StatusOr<ArtifactTree::Chain> ArtifactTree::MakeParents(const RelativePath& path) const {
  Chain chain;
  fs::Dir* dir = root_.get();
  if (path.is_top()) return chain;
  for (absl::string_view name : absl::StrSplit(path.parent(), '/')) {
    auto next = OpenOrMakeDir(*dir, name);
    if (!next.ok()) return Error(next.status(), path);
    chain.push_back({.name = std::string(name), .dir = *std::move(next)});
    dir = chain.back().dir.get();
  }
  return chain;
}

absl::StatusOr<std::unique_ptr<fs::Dir>> ArtifactTree::OpenUploads() const {
  return OpenOrMakeDir(*root_, layout::kUploadsDir);
}

absl::Status CheckSuitable(const ArtifactTree& tree, const RelativePath& path, const fs::FileStamp& stamp) {
  switch (stamp.type) {
    case fs::EntryType::kFile:
    case fs::EntryType::kDirectory:
      return absl::OkStatus();
    case fs::EntryType::kSymlink:
      return PathUnsuitable(tree.project().str(), path.shown(), "is a symbolic link");
    case fs::EntryType::kOther:
      break;
  }
  return PathUnsuitable(tree.project().str(), path.shown(), "is neither a regular file nor a directory");
}

absl::Status CheckReplaceable(const ArtifactTree& tree, const RelativePath& path,
                              const absl::StatusOr<fs::FileStamp>& existing, const Precondition& precondition) {
  const std::string& project = tree.project().str();
  if (absl::IsNotFound(existing.status())) {
    if (precondition.etag.empty()) return absl::OkStatus();
    return ArtifactEtagMismatch(project, path.shown(), precondition.etag, "");
  }
  if (!existing.ok()) return tree.Error(existing.status(), path);
  if (precondition.create_only) return ArtifactExists(project, path.shown());
  RETURN_IF_ERROR(CheckSuitable(tree, path, *existing));
  if (existing->type == fs::EntryType::kDirectory) return PathUnsuitable(project, path.shown(), "is a directory");
  const std::string etag = ArtifactEtag(*existing);
  if (precondition.etag.empty() || precondition.etag == etag) return absl::OkStatus();
  return ArtifactEtagMismatch(project, path.shown(), precondition.etag, etag);
}

Placer::Stripe& Placer::StripeOf(const ProjectName& project) {
  return stripes_[absl::HashOf(project) % stripes_.size()];
}

absl::Status Placer::CheckCurrent(const ArtifactTree& tree) const {
  const auto named = base_->Stat(tree.project().str());
  ASSIGN_OR_RETURN(const fs::FileStamp opened, tree.root().StatSelf());
  if (named.ok() && named->inode == opened.inode && named->device == opened.device) return absl::OkStatus();
  return WorkspaceNotFound(tree.project().str());
}

absl::Status Placer::Change(const ArtifactTree& tree, absl::FunctionRef<absl::Status()> change) {
  absl::MutexLock lock(&StripeOf(tree.project()).mutex);
  RETURN_IF_ERROR(CheckCurrent(tree));
  return change();
}

absl::StatusOr<ArtifactTree::Chain> Placer::MakeParents(const ArtifactTree& tree, const RelativePath& path) {
  Stripe& stripe = StripeOf(tree.project());
  int64_t forgotten = 0;
  {
    absl::MutexLock lock(&stripe.mutex);
    forgotten = stripe.forgotten;
  }
  auto chain = tree.MakeParents(path);
  // In a workspace that is being deleted nothing can be made.
  if (!chain.ok()) RETURN_IF_ERROR(CheckCurrent(tree));
  RETURN_IF_ERROR(chain.status());
  const auto keys = NameKeys(tree, *chain);
  std::vector<size_t> unknown;  // Nobody knows who made these, and whether that was synced.
  {
    absl::MutexLock lock(&stripe.mutex);
    for (size_t i = 0; i < keys.size(); ++i) {
      if (!keys[i] || !stripe.durable.contains(*keys[i])) unknown.push_back(i);
    }
  }
  if (unknown.empty()) return chain;
  for (size_t i : unknown) {
    RETURN_IF_ERROR(health_->Sync(i == 0 ? tree.root() : *(*chain)[i - 1].dir));
  }
  absl::MutexLock lock(&stripe.mutex);
  // A directory that was moved meanwhile was synced where it is not any more.
  if (stripe.forgotten != forgotten) return chain;
  if (stripe.durable.size() >= kMaxDurableNames) stripe.durable.clear();
  for (size_t i : unknown) {
    if (keys[i]) stripe.durable.insert(*keys[i]);
  }
  return chain;
}

absl::StatusOr<fs::FileStamp> Placer::PlaceLocked(const ArtifactTree& tree, fs::Dir& from, absl::string_view name,
                                                  fs::Dir& to, const RelativePath& path,
                                                  const Precondition& precondition) {
  ASSIGN_OR_RETURN(const fs::FileStamp source, from.Stat(name));
  const auto existing = to.Stat(path.name());
  const bool onto_directory = existing.ok() && existing->type == fs::EntryType::kDirectory;
  // Whether a directory may take the place of another, the rename knows best.
  if (source.type != fs::EntryType::kDirectory || !onto_directory || precondition.create_only) {
    RETURN_IF_ERROR(CheckReplaceable(tree, path, existing, precondition));
  }
  if (source.type == fs::EntryType::kDirectory) {
    Stripe& stripe = StripeOf(tree.project());
    stripe.mutex.AssertHeld();
    stripe.durable.clear();
    ++stripe.forgotten;
  }
  const fs::RenameMode mode = precondition.create_only ? fs::RenameMode::kNoReplace : fs::RenameMode::kReplace;
  absl::Status renamed = from.Rename(name, to, path.name(), mode);
  if (fs::IsCrossDevice(renamed) && source.type == fs::EntryType::kDirectory) {
    ASSIGN_OR_RETURN(const auto uploads, tree.OpenUploads());
    renamed = fs::MoveTree({.from = from,
                            .name = std::string(name),
                            .to = to,
                            .to_name = std::string(path.name()),
                            .mode = mode,
                            .staging = *uploads,
                            .staging_name = absl::StrCat(base::RandomId(), layout::kTempSuffix)},
                           [&] { return health_->Sync(to); });
  }
  if (absl::IsAlreadyExists(renamed)) return ArtifactExists(tree.project().str(), path.shown());
  if (absl::IsNotFound(renamed) && from.Stat(name).ok()) {
    return WorkspaceBusy(tree.project().str(), "a directory on the way is being removed");
  }
  if (absl::IsNotFound(renamed)) return renamed;
  if (!renamed.ok()) return tree.Error(renamed, path);
  return to.Stat(path.name());
}

absl::StatusOr<fs::FileStamp> Placer::Place(const ArtifactTree& tree, fs::Dir& from, absl::string_view name,
                                            const RelativePath& path, const Precondition& precondition,
                                            absl::FunctionRef<absl::Status()> check) {
  RETURN_IF_ERROR(health_->Check());
  // Durable before the rename: a power cut right after it must not take what was moved away with a directory that
  // nobody has heard of.
  ASSIGN_OR_RETURN(const ArtifactTree::Chain parents, MakeParents(tree, path));
  fs::Dir& to = tree.EndOf(parents);
  absl::StatusOr<fs::FileStamp> placed;
  RETURN_IF_ERROR(Change(tree, [&] {
    RETURN_IF_ERROR(check());
    placed = PlaceLocked(tree, from, name, to, path, precondition);
    return placed.status();
  }));
  RETURN_IF_ERROR(health_->Sync(to));
  return placed;
}

}  // namespace mlops::core
