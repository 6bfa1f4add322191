// Checks the entries of the base other than workspaces, and the trash.
#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "proto/cpp/base/error.h"
#include "service/core/layout.h"
#include "service/core/workspace_yaml.h"
#include "service/doctor/check.h"

namespace mlops::doctor {
namespace {

namespace layout = core::layout;

// Entries of the base that are neither workspaces nor foreign.
constexpr absl::string_view kKnown[] = {
    layout::kServerDir, layout::kStagingDir, layout::kTrashDir,
    layout::kTemplatesDir,
    // Made by mkfs at the top of a file system.
    "lost+found"};

bool IsKnown(absl::string_view name) {
  for (absl::string_view known : kKnown) {
    if (name == known) return true;
  }
  return false;
}

Finding RemovingFinding(absl::string_view path) {
  return {.severity = Severity::kNote,
          .code = "trash-removing",
          .path = std::string(path),
          .problem = "is a deleted workspace whose removal was cut off",
          .fix = "Nothing to do: the next start removes the rest",
          .transient = true};
}

// A directory whose name no project can have.
Finding UnreachableFinding(const BaseView& base, absl::string_view name) {
  Finding finding{.project = std::string(name), .path = std::string(name)};
  // A record shows that the directory was meant to be a workspace.
  if (base.dir.Stat(absl::StrCat(name, "/", layout::kRecord)).ok()) {
    finding.severity = Severity::kWarning;
    finding.code = "name-unreachable";
    finding.problem =
        absl::StrCat("has a record, but no project can have this name: it ",
                     core::ProjectName::Parse(name).status().message());
    finding.fix = "Rename the directory";
  } else {
    finding.code = "foreign-directory";
    finding.problem = "is not a workspace, and the service ignores it";
    finding.fix = "Move it out of the base if it does not belong there";
  }
  return finding;
}

void AddCollisions(
    const std::map<std::string, std::vector<std::string>>& by_lower,
    Findings& findings) {
  for (const auto& [lower, names] : by_lower) {
    if (names.size() < 2) continue;
    findings.Add(
        {.severity = Severity::kWarning,
         .code = "case-collision",
         .project = names.front(),
         .path = names.front(),
         .problem = absl::StrCat(
             "differs only by case from ",
             absl::StrJoin(names.begin() + 1, names.end(), ", "),
             ": where names ignore case, copies of the base mix them up"),
         .fix = "Rename one of them"});
  }
}

// Returns the problem of the record of a workspace in the trash, or "".
std::string ProblemInTrash(const BaseView& base, const std::string& path,
                           const layout::TrashName& name) {
  const std::string file = absl::StrCat(path, "/", layout::kRecord);
  const auto content = base.dir.ReadFile(file, core::kMaxRecordBytes);
  if (!content.ok()) return std::string(content.status().message());
  // Decode the record as the restored workspace would be, in its old place.
  const auto decoded = core::DecodeWorkspace(
      content->data,
      {.project = name.project,
       .root_path = absl::StrCat(base.path, "/", name.project.str()),
       .file = file,
       .modify_time = content->stamp.modify_time});
  return decoded.ok() ? "" : std::string(decoded.status().message());
}

void CheckDeleted(const BaseView& base, const std::string& path,
                  const layout::TrashName& name, Findings& findings) {
  // Names written by the first release have no purge time.
  const absl::Time purge_time =
      name.purge_time.value_or(name.delete_time + base.purge_delay);
  if (purge_time < base.now) {
    findings.Add(
        {.severity = Severity::kNote,
         .code = "trash-expired",
         .project = name.project.str(),
         .path = path,
         .problem =
             absl::StrCat("was to be purged at ",
                          absl::FormatTime(purge_time, absl::UTCTimeZone())),
         .fix = "Start the server, which purges it; undelete it at once if "
                "you need it",
         .transient = true});
  }
  const std::string problem = ProblemInTrash(base, path, name);
  // The workspace may have been restored or purged meanwhile.
  if (problem.empty() || !base.dir.Stat(path).ok()) return;
  findings.Add(
      {.severity = Severity::kWarning,
       .code = "trash-record-corrupt",
       .project = name.project.str(),
       .path = absl::StrCat(path, "/", layout::kRecord),
       .problem = absl::StrCat(
           "cannot be read, so the workspace could not be used after a "
           "restore: ",
           problem),
       .fix = "Repair the record by hand before you undelete it"});
}

}  // namespace

void CheckTrash(const BaseView& base, Findings& findings) {
  const auto dir = base.dir.OpenDir(layout::kTrashDir);
  if (!dir.ok()) return;
  // Best effort: report the entries that can be read.
  (*dir)
      ->ForEachEntry([&](absl::string_view entry, fs::EntryType type) {
        const std::string path = absl::StrCat(layout::kTrashDir, "/", entry);
        const auto name = layout::ParseTrashName(entry);
        if (!name || type != fs::EntryType::kDirectory) {
          findings.Add(
              {.severity = Severity::kWarning,
               .code = "trash-foreign",
               .path = path,
               .problem = "is not a deleted workspace, so the service neither "
                          "lists nor purges it",
               .fix = "Move it out of the trash, or remove it"});
        } else if (name->being_removed()) {
          findings.Add(RemovingFinding(path));
        } else {
          CheckDeleted(base, path, *name, findings);
        }
        return true;
      })
      .IgnoreError();
}

void CheckNames(const BaseView& base, Findings& findings) {
  std::map<std::string, std::vector<std::string>> by_lower;
  base.dir
      .ForEachEntry([&](absl::string_view name, fs::EntryType type) {
        const bool is_dir = type == fs::EntryType::kDirectory;
        if (IsKnown(name)) return true;
        // The server uses such a name to delete a workspace if the trash
        // has no room.
        if (layout::IsHiddenName(name)) {
          findings.Add(RemovingFinding(name));
        } else if (!is_dir && type != fs::EntryType::kSymlink) {
          findings.Add({.severity = Severity::kNote,
                        .code = "foreign-file",
                        .path = std::string(name),
                        .problem = "is a file, which the service ignores",
                        .fix = "Move it out of the base if it does not belong "
                               "there"});
        } else if (core::ProjectName::IsValid(name)) {
          by_lower[absl::AsciiStrToLower(name)].emplace_back(name);
        } else if (is_dir) {
          findings.Add(UnreachableFinding(base, name));
        }
        return true;
      })
      .IgnoreError();
  // Sort, because a directory returns its entries in any order.
  for (auto& [lower, names] : by_lower) std::sort(names.begin(), names.end());
  AddCollisions(by_lower, findings);
}

}  // namespace mlops::doctor
