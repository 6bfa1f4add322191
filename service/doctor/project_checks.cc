// Checks of a workspace's record, directories and uploads.
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "proto/cpp/base/error.h"
#include "service/artifacts/upload_record.h"
#include "service/core/layout.h"
#include "service/core/workspace_yaml.h"
#include "service/doctor/check.h"

namespace mlops::doctor {
namespace {

namespace layout = core::layout;

// Times for which the server keeps uploads; see artifacts/uploads.h.
constexpr absl::Duration kPartTtl = absl::Hours(24);
constexpr absl::Duration kFinishedTtl = absl::Hours(1);
constexpr absl::string_view kSweptByServer =
    "Nothing to do: a running server removes it";

// Returns a finding about a directory without a record. If it has one of
// the five directories, it counts as a workspace that has lost its record.
Finding WithoutRecord(const ProjectView& project) {
  bool looks_like_one = false;
  for (const ProjectView::Entry& entry : project.entries) {
    for (absl::string_view name : core::kDirectories)
      looks_like_one = looks_like_one || entry.name == name;
  }
  Finding finding = looks_like_one
                        ? project.At(Severity::kWarning, "record-missing", "")
                        : project.At(Severity::kNote, "foreign-directory", "");
  finding.problem = looks_like_one
                        ? "has the directories of a workspace but no "
                          "workspace.yaml, so the service does not list it"
                        : "is not a workspace, and the service ignores it";
  finding.fix = looks_like_one
                    ? "Create the workspace again, which keeps its files, or "
                      "restore workspace.yaml from a backup"
                    : "Move it out of the base if it does not belong there";
  return finding;
}

Finding UnreadableRecord(const ProjectView& project,
                         const absl::Status& problem) {
  if (absl::IsOutOfRange(problem)) {
    Finding finding =
        project.At(Severity::kError, "record-corrupt", layout::kRecord);
    finding.problem = "is larger than 1 MiB";
    finding.fix = "Repair the file, or restore it from a backup";
    return finding;
  }
  const bool unsuitable = absl::IsFailedPrecondition(problem);
  Finding finding = project.At(
      Severity::kError, unsuitable ? "record-unsuitable" : "record-unreadable",
      layout::kRecord);
  finding.problem = std::string(problem.message());
  finding.fix = unsuitable ? "Put a regular file in its place"
                           : "Check its permissions and the disk; run this "
                             "command as the server's user or as root";
  return finding;
}

Finding CorruptRecord(const ProjectView& project, const absl::Status& problem) {
  Finding finding =
      project.At(Severity::kError, "record-corrupt", layout::kRecord);
  finding.problem = std::string(problem.message());
  // The finding shows the path already, so keep only the line and the problem.
  if (const auto info = base::GetErrorInfo(problem)) {
    const auto line = info->metadata.find("line");
    const auto what = info->metadata.find("problem");
    if (line != info->metadata.end() && what != info->metadata.end()) {
      finding.problem =
          line->second == "0"
              ? what->second
              : absl::StrCat("line ", line->second, ": ", what->second);
    }
  }
  finding.fix = "Repair the line, or restore the file from a backup";
  return finding;
}

// Checks one directory of a workspace; "" is the workspace itself.
void CheckDirectory(const ProjectView& project, absl::string_view name,
                    Findings& findings) {
  const fs::Account& server = project.base.server;
  const std::string path =
      absl::StrCat(project.path(), name.empty() ? "" : absl::StrCat("/", name));
  const auto found = fs::OwnershipOf(path);
  // Only a workspace must have the five directories.
  if (absl::IsNotFound(found.status()) && !name.empty() && project.workspace) {
    Finding finding = project.At(Severity::kWarning, "directory-missing", name);
    finding.problem = "is missing";
    finding.fix = "Run doctor --repair, or mkdir";
    finding.repairs = {{Repair::Kind::kMakeDirectory, finding.path}};
    findings.Add(std::move(finding));
  }
  if (!found.ok()) return;
  if (found->type != fs::EntryType::kDirectory) {
    Finding finding =
        project.At(Severity::kError, "directory-unsuitable", name);
    finding.problem = found->type == fs::EntryType::kSymlink
                          ? "is a symbolic link, which the service does not "
                            "follow"
                          : "is not a directory";
    finding.fix = "Put a directory with the same content in its place";
    findings.Add(std::move(finding));
  } else if (!fs::MayUseDirectory(server, path, *found)) {
    Finding finding =
        project.At(Severity::kError, "directory-not-accessible", name);
    finding.problem =
        absl::StrCat("cannot be read and written by user ", server.uid);
    finding.fix = absl::StrCat("Run chown -R ", server.uid, " ", path);
    findings.Add(std::move(finding));
  } else if (found->uid != project.base.ownership.uid) {
    Finding finding = project.At(Severity::kNote, "owner-differs", name);
    finding.problem =
        absl::StrCat("belongs to user ", found->uid, ", the base to user ",
                     project.base.ownership.uid);
    finding.fix = "Nothing to do if that is intended";
    findings.Add(std::move(finding));
  }
}

// Checks one file of an upload. `name` is in the directory `uploads`.
void CheckUpload(const ProjectView& project, const fs::Dir& uploads,
                 absl::string_view name, Findings& findings) {
  const auto add = [&](absl::string_view code, absl::string_view problem,
                       Severity severity = Severity::kNote) {
    Finding finding = project.At(severity, code,
                                 absl::StrCat(layout::kUploadsDir, "/", name));
    finding.problem = std::string(problem);
    // The server's sweep removes everything but foreign files.
    finding.fix = severity == Severity::kNote
                      ? std::string(kSweptByServer)
                      : "Move it away, because no server removes it";
    finding.transient = severity == Severity::kNote;
    findings.Add(std::move(finding));
  };
  const auto older_than = [&](absl::Duration ttl) {
    const auto stamp = uploads.Stat(name);
    return stamp.ok() && stamp->modify_time + ttl < project.base.now;
  };
  absl::string_view id = name;
  if (absl::ConsumeSuffix(&id, layout::kPartSuffix)) {
    const auto record = artifacts::ReadUploadRecord(uploads, id);
    if (older_than(kPartTtl)) {
      add("upload-expired", "is an upload that nobody has continued for a day");
    } else if (record.ok() && !record->has_value() && uploads.Stat(name).ok()) {
      add("upload-damaged",
          "is an upload whose record is missing or damaged, so it begins anew");
    }
  } else if (absl::ConsumeSuffix(&id, layout::kAboutSuffix)) {
    if (older_than(kFinishedTtl) && !uploads.Stat(artifacts::PartName(id)).ok())
      add("upload-expired",
          "is about an upload that finished over an hour ago");
  } else if (absl::ConsumeSuffix(&id, layout::kTempSuffix)) {
    add("upload-temp", "is left over from a write that was cut off");
  } else if (absl::ConsumeSuffix(&id, layout::kRemovedSuffix)) {
    add("artifact-removing", "is a deleted artifact whose removal was cut off");
  } else {
    add("upload-foreign", "is no part of an upload", Severity::kWarning);
  }
}

}  // namespace

std::string ProjectView::path() const {
  return absl::StrCat(base.path, "/", project.str());
}

Finding ProjectView::At(Severity severity, absl::string_view code,
                        absl::string_view path) const {
  return {.severity = severity,
          .code = std::string(code),
          .project = project.str(),
          .path = absl::StrCat(project.str(), path.empty() ? "" : "/", path)};
}

void CheckRecord(ProjectView& project, Findings& findings) {
  for (const ProjectView::Entry& entry : project.entries) {
    if (!layout::IsRecordTempFile(entry.name)) continue;
    Finding finding = project.At(Severity::kNote, "record-temp", entry.name);
    finding.problem = "is left over from an update that was cut off";
    finding.fix = "Nothing to do: the next update removes it";
    finding.transient = true;
    finding.repairs = {{Repair::Kind::kSetAside, finding.path}};
    findings.Add(std::move(finding));
  }
  // Several later checks run only if this sets `workspace`.
  const auto content =
      project.dir.ReadFile(layout::kRecord, core::kMaxRecordBytes);
  if (absl::IsNotFound(content.status())) {
    findings.Add(WithoutRecord(project));
  } else if (!content.ok()) {
    findings.Add(UnreadableRecord(project, content.status()));
  } else {
    auto decoded = core::DecodeWorkspace(
        content->data, {.project = project.project,
                        .root_path = project.path(),
                        .file = layout::RecordPath(project.project),
                        .modify_time = content->stamp.modify_time});
    if (decoded.ok()) {
      project.workspace = *std::move(decoded);
    } else {
      findings.Add(CorruptRecord(project, decoded.status()));
    }
  }
}

void CheckDirectories(ProjectView& project, Findings& findings) {
  CheckDirectory(project, "", findings);
  for (absl::string_view name : core::kDirectories)
    CheckDirectory(project, name, findings);
}

void CheckUploads(ProjectView& project, Findings& findings) {
  for (const ProjectView::Entry& entry : project.entries) {
    if (layout::ParseHiddenArtifact(entry.name).empty()) continue;
    Finding finding =
        project.At(Severity::kNote, "artifact-removing", entry.name);
    finding.problem = "is a deleted artifact whose removal was cut off";
    finding.fix = std::string(kSweptByServer);
    finding.transient = true;
    findings.Add(std::move(finding));
  }
  const auto uploads = project.dir.OpenDir(layout::kUploadsDir);
  if (absl::IsFailedPrecondition(uploads.status())) {
    Finding finding =
        project.At(Severity::kError, "uploads-unsuitable", layout::kUploadsDir);
    finding.problem = "is not a directory, so nothing can be written";
    finding.fix = "Move it away; the server creates a directory";
    findings.Add(std::move(finding));
  }
  if (!uploads.ok()) return;
  // Best effort: report the files that can be read.
  (*uploads)
      ->ForEachEntry([&](absl::string_view name, fs::EntryType) {
        CheckUpload(project, **uploads, name, findings);
        return true;
      })
      .IgnoreError();
}

}  // namespace mlops::doctor
