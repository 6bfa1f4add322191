#ifndef MLOPS_SERVICE_DOCTOR_CHECK_H_
#define MLOPS_SERVICE_DOCTOR_CHECK_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "service/core/project_name.h"
#include "service/core/workspace.h"
#include "service/doctor/finding.h"
#include "service/fs/dir.h"
#include "service/fs/facts.h"

// The checks. Each reports one class of findings, in the whole base or in one
// workspace. They open nothing for writing, take no lock, and follow no link
// out of the base. An entry that vanishes meanwhile is no finding.
namespace mlops::doctor {

// The process that holds the base, or held it last.
struct Holder {
  // Whether a process holds the lock on the base.
  bool holds = false;
  // From the lock file, which may be damaged, or a leftover of a server
  // that was killed. `pid` is 0 if the file names no server.
  int64_t pid = 0;
  std::string host;
  std::vector<std::string> addresses;
};
// Returns "workspaced with pid 7 on host a, which listens on ...".
std::string Describe(const Holder& holder);

// Facts about the base that the checks share.
struct BaseView {
  const fs::Dir& dir;
  // The real absolute path.
  std::string path;
  absl::Time now;
  // How long the trash keeps workspaces whose names have no purge time.
  absl::Duration purge_delay;
  Holder holder;
  // The account that the server uses, or would use.
  fs::Account server;
  fs::Ownership ownership;
  // Paths relative to the base.
  std::vector<fs::Mount> mounts;
  absl::flat_hash_set<std::string> mount_points;
};

// A directory in the base that may be a workspace, and facts about it.
struct ProjectView {
  const BaseView& base;
  core::ProjectName project;
  const fs::Dir& dir;
  struct Entry {
    std::string name;
    fs::EntryType type;
  };
  // The entries at its top.
  std::vector<Entry> entries;
  // Set by CheckRecord() if the record can be read.
  std::optional<core::Workspace> workspace = std::nullopt;

  std::string path() const;
  // Returns a finding about `path` in the workspace; "" is its directory.
  Finding At(Severity severity, absl::string_view code,
             absl::string_view path) const;
};

// --- The base ---

// base-owner, base-world-writable, base-not-accessible.
void CheckBaseOwner(const BaseView& base, Findings& findings);
// file-system-..., mount-inside.
void CheckFileSystems(const BaseView& base, Findings& findings);
// space-low, inodes-low.
void CheckSpace(const BaseView& base, Findings& findings);
// server-running, lock-left-over, lock-foreign-host, lock-unsuitable.
void CheckLock(const BaseView& base, Findings& findings);
// checkpoint-damaged, checkpoint-old, checkpoint-elsewhere.
void CheckCheckpoint(const BaseView& base, Findings& findings);
// server-directory-unsuitable, for .workspaced, .staging and .trash.
void CheckServerDirs(const BaseView& base, Findings& findings);
// staging-leftover.
void CheckStaging(const BaseView& base, Findings& findings);
// trash-foreign, trash-expired, trash-removing, trash-record-corrupt.
void CheckTrash(const BaseView& base, Findings& findings);
// case-collision, name-unreachable, foreign-directory, foreign-file.
void CheckNames(const BaseView& base, Findings& findings);

// --- One workspace ---

// record-missing, foreign-directory, record-corrupt, record-unsuitable,
// record-unreadable, record-temp. Sets project.workspace.
void CheckRecord(ProjectView& project, Findings& findings);
// directory-missing, directory-unsuitable, directory-not-accessible,
// owner-differs.
void CheckDirectories(ProjectView& project, Findings& findings);
// uploads-unsuitable, upload-expired, upload-damaged, upload-temp,
// upload-foreign, artifact-removing.
void CheckUploads(ProjectView& project, Findings& findings);
// link-leaves, special-file, tree-unreadable.
void CheckTree(ProjectView& project, Findings& findings);
// mlflow-unreadable, mlflow-moved, mlflow-elsewhere.
void CheckMlflow(ProjectView& project, Findings& findings);
// dvc-remote-outside, dvc-remote-elsewhere.
void CheckDvc(ProjectView& project, Findings& findings);

}  // namespace mlops::doctor

#endif  // MLOPS_SERVICE_DOCTOR_CHECK_H_
