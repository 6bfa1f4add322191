// Walks the files of a workspace.
#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "service/core/layout.h"
#include "service/doctor/check.h"
#include "service/doctor/place.h"

namespace mlops::doctor {
namespace {

// Returns whether a link in `directory`, relative to the workspace
// and "" for its top, leads out of the workspace `root`. Compares names,
// and follows no link.
bool Leaves(absl::string_view root, absl::string_view directory,
            const std::string& target) {
  const std::string place =
      absl::StartsWith(target, "/")
          ? Normalized(target)
          : Normalized(absl::StrCat(root, "/", directory, "/", target));
  return !IsWithin(place, root);
}

class Walk {
 public:
  Walk(const ProjectView& project, Findings& findings)
      : project_(project), findings_(findings), root_(project.path()) {}

  // Visits every entry except those of uploads. Memory is bounded by the names
  // of the directories that were found but not yet read.
  void Run() {
    for (const ProjectView::Entry& entry : project_.entries) {
      if (!absl::StartsWith(entry.name, core::layout::kUploadsDir))
        Visit("", entry.name, entry.type);
    }
    while (!pending_.empty()) {
      const std::string path = std::move(pending_.back());
      pending_.pop_back();
      Read(path);
    }
  }

 private:
  void Read(const std::string& path) {
    const auto dir = project_.dir.OpenDir(path);
    absl::Status read = dir.status();
    if (read.ok()) {
      read =
          (*dir)->ForEachEntry([&](absl::string_view name, fs::EntryType type) {
            Visit(path, name, type);
            return true;
          });
    }
    // The directory may have been removed or replaced meanwhile.
    if (read.ok() || absl::IsNotFound(read) ||
        absl::IsFailedPrecondition(read)) {
      return;
    }
    Finding finding = project_.At(Severity::kError, "tree-unreadable", path);
    finding.problem = absl::StrCat("cannot be read: ", read.message());
    finding.fix =
        "Check its permissions and the disk; run this command as the server's "
        "user or as root";
    findings_.Add(std::move(finding));
  }

  void Visit(absl::string_view directory, absl::string_view name,
             fs::EntryType type) {
    const std::string path =
        absl::StrCat(directory, directory.empty() ? "" : "/", name);
    switch (type) {
      case fs::EntryType::kFile:
        return;
      case fs::EntryType::kDirectory:
        // CheckFileSystems() reports mounts.
        if (!project_.base.mount_points.contains(
                absl::StrCat(project_.project.str(), "/", path)))
          pending_.push_back(path);
        return;
      case fs::EntryType::kSymlink:
        return VisitLink(directory, path);
      case fs::EntryType::kOther:
        Finding finding = project_.At(Severity::kWarning, "special-file", path);
        finding.problem =
            "is a device, FIFO or socket, which the service neither serves nor "
            "copies";
        finding.fix = "Remove it";
        findings_.Add(std::move(finding));
    }
  }

  void VisitLink(absl::string_view directory, const std::string& path) {
    // CheckDirectories() and CheckRecord() report a link in one of
    // these places.
    const bool is_own =
        path == core::layout::kRecord ||
        std::find(core::kDirectories.begin(), core::kDirectories.end(), path) !=
            core::kDirectories.end();
    if (is_own) return;
    const auto target = project_.dir.ReadLink(path);
    if (!target.ok() || !target->has_value() ||
        !Leaves(root_, directory, **target))
      return;
    Finding finding = project_.At(Severity::kWarning, "link-leaves", path);
    finding.problem =
        absl::StrCat("leads out of the workspace, to ", **target,
                     ": the service does not follow it, and copies lose it");
    finding.fix = "Put the file itself in its place, as cp -rL does";
    findings_.Add(std::move(finding));
  }

  const ProjectView& project_;
  Findings& findings_;
  const std::string root_;
  std::vector<std::string> pending_;
};

}  // namespace

void CheckTree(ProjectView& project, Findings& findings) {
  // Without a readable record, the directory may belong to someone else.
  if (project.workspace) Walk(project, findings).Run();
}

}  // namespace mlops::doctor
