// Checks of the base directory itself.
#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "service/catalog/checkpoint.h"
#include "service/core/layout.h"
#include "service/doctor/check.h"

namespace mlops::doctor {
namespace {

namespace layout = core::layout;

constexpr uint32_t kWorldWritable = 0002;
// Space is low below both this and a twentieth of the file system.
constexpr int64_t kLowBytes = int64_t{10} << 30;
constexpr int64_t kLowInodes = 10'000;
constexpr int64_t kMaxCheckpointBytes = int64_t{4} << 30;

// File systems on which the service works worse than on a local disk.
struct Unusual {
  absl::string_view type;
  Severity severity;
  absl::string_view problem;
  absl::string_view fix;
};
constexpr absl::string_view kUseLocalDisk =
    "Put the base on a local disk, such as ext4, XFS or Btrfs";
constexpr absl::string_view kOneHost =
    "Change the base on one machine only, and mount it with synchronous writes";
constexpr Unusual kUnusual[] = {
    {"nfs", Severity::kWarning,
     "is on NFS: locks depend on its server, and changes made on other "
     "machines appear late",
     kOneHost},
    {"smb", Severity::kWarning,
     "is on SMB: names may ignore case, and renames over open files fail",
     kUseLocalDisk},
    {"afs", Severity::kWarning,
     "is on AFS: changes are written when files are closed", kUseLocalDisk},
    {"9p", Severity::kWarning,
     "is on 9p: whether a sync reaches the disk depends on the host",
     kUseLocalDisk},
    {"fuse", Severity::kNote,
     "is on FUSE: whether a sync reaches the disk, and whether a rename is "
     "atomic, depends on the program behind it",
     kUseLocalDisk},
    {"vfat", Severity::kWarning,
     "is on FAT: names ignore case, there are no owners, and a crash may "
     "lose a rename",
     kUseLocalDisk},
    {"exfat", Severity::kWarning,
     "is on exFAT: names ignore case, there are no owners, and a crash may "
     "lose a rename",
     kUseLocalDisk},
    {"tmpfs", Severity::kNote,
     "is in memory (tmpfs): a restart of the machine loses it", kUseLocalDisk},
    {"ramfs", Severity::kNote,
     "is in memory (ramfs): a restart of the machine loses it", kUseLocalDisk},
    {"overlay", Severity::kNote,
     "is on an overlay: directories of its lower layers cannot be renamed, "
     "but are moved file by file",
     "Mount a volume for the base"},
};

Finding Of(Severity severity, absl::string_view code, absl::string_view path) {
  return {.severity = severity,
          .code = std::string(code),
          .path = std::string(path)};
}

std::string ServerPath(absl::string_view name) {
  return absl::StrCat(layout::kServerDir, "/", name);
}

bool IsNetwork(absl::string_view type) {
  return type == "nfs" || type == "smb" || type == "afs" || type == "9p";
}

}  // namespace

std::string Describe(const Holder& holder) {
  if (holder.pid == 0) return "a process that the lock file does not name";
  std::string text = absl::StrCat("workspaced with pid ", holder.pid,
                                  " on host ", holder.host);
  if (!holder.addresses.empty()) {
    absl::StrAppend(&text, ", which listens on ",
                    absl::StrJoin(holder.addresses, " and "));
  }
  return text;
}

void CheckBaseOwner(const BaseView& base, Findings& findings) {
  if ((base.ownership.mode & kWorldWritable) != 0) {
    Finding finding = Of(Severity::kWarning, "base-world-writable", "");
    finding.problem = "is writable by every user, who can change all records";
    finding.fix = absl::StrCat("Run chmod o-w ", base.path);
    findings.Add(std::move(finding));
  }
  if (base.ownership.uid != base.server.uid) {
    Finding finding = Of(Severity::kWarning, "base-owner", "");
    finding.problem =
        absl::StrCat("belongs to user ", base.ownership.uid,
                     ", but the server runs as user ", base.server.uid);
    finding.fix = absl::StrCat("Run chown ", base.server.uid, " ", base.path);
    findings.Add(std::move(finding));
  }
  if (!fs::MayUseDirectory(base.server, base.path, base.ownership)) {
    Finding finding = Of(Severity::kError, "base-not-accessible", "");
    finding.problem =
        absl::StrCat("cannot be read and written by user ", base.server.uid);
    finding.fix = absl::StrCat("Run chmod u+rwx ", base.path);
    findings.Add(std::move(finding));
  }
}

void CheckFileSystems(const BaseView& base, Findings& findings) {
  const auto system = fs::FileSystemOf(base.path);
  for (const Unusual& unusual : kUnusual) {
    if (!system.ok() || system->type != unusual.type) continue;
    Finding finding =
        Of(unusual.severity, absl::StrCat("file-system-", unusual.type), "");
    finding.problem = std::string(unusual.problem);
    finding.fix = std::string(unusual.fix);
    findings.Add(std::move(finding));
  }
  for (const fs::Mount& mount : base.mounts) {
    Finding finding = Of(Severity::kWarning, "mount-inside", mount.path);
    // The first name is usually that of the workspace that contains the mount.
    finding.project = mount.path.substr(0, mount.path.find('/'));
    finding.problem = absl::StrCat(
        "is a mount of its own (", mount.type,
        "): the service cannot move files across it, and snapshots of the "
        "base lack it");
    finding.fix = "Copy its files into the base's own file system";
    findings.Add(std::move(finding));
  }
}

void CheckSpace(const BaseView& base, Findings& findings) {
  const auto system = fs::FileSystemOf(base.path);
  if (!system.ok()) return;
  if (system->available_bytes < kLowBytes &&
      system->available_bytes < system->total_bytes / 20) {
    Finding finding = Of(Severity::kWarning, "space-low", "");
    finding.problem = absl::StrFormat(
        "has %.1f GiB left, %d %% of its file system",
        static_cast<double>(system->available_bytes) / (1 << 30),
        100 * system->available_bytes / system->total_bytes);
    finding.fix = "Enlarge the disk, or delete workspaces permanently";
    findings.Add(std::move(finding));
  }
  // Some file systems do not count inodes.
  if (system->total_inodes > 0 && system->free_inodes < kLowInodes) {
    Finding finding = Of(Severity::kWarning, "inodes-low", "");
    finding.problem = absl::StrCat("has room for ", system->free_inodes,
                                   " more files on its file system");
    finding.fix = "Delete files, or move the base to a larger file system";
    findings.Add(std::move(finding));
  }
}

void CheckLock(const BaseView& base, Findings& findings) {
  const std::string path = ServerPath(layout::kLockFile);
  const auto stamp = base.dir.Stat(path);
  if (stamp.ok() && stamp->type != fs::EntryType::kFile) {
    Finding finding = Of(Severity::kError, "lock-unsuitable", path);
    finding.problem = "is not a regular file, so no server can start";
    finding.fix = "Move it away";
    findings.Add(std::move(finding));
    return;
  }
  // A server that ends regularly empties the lock file, so if the file names
  // a server, that is running or was killed.
  const Holder& holder = base.holder;
  if (holder.holds) {
    Finding finding = Of(Severity::kNote, "server-running", path);
    finding.problem = absl::StrCat("is held by ", Describe(holder));
    finding.fix = "Nothing to do";
    findings.Add(std::move(finding));
  } else if (holder.pid != 0 && holder.host != fs::HostName()) {
    // On a network file system, the lock of another machine may be
    // invisible here.
    const auto system = fs::FileSystemOf(base.path);
    const bool network = system.ok() && IsNetwork(system->type);
    Finding finding = Of(network ? Severity::kWarning : Severity::kNote,
                         "lock-foreign-host", path);
    finding.problem =
        absl::StrCat("names ", Describe(holder), ", and nobody holds it here");
    finding.fix = absl::StrCat("Make sure that no server runs on ", holder.host,
                               "; the next start replaces it");
    findings.Add(std::move(finding));
  } else if (holder.pid != 0) {
    Finding finding = Of(Severity::kNote, "lock-left-over", path);
    finding.problem = absl::StrCat("names ", Describe(holder),
                                   ", which did not end regularly");
    finding.fix = "Nothing to do: the next start replaces it";
    findings.Add(std::move(finding));
  }
}

void CheckCheckpoint(const BaseView& base, Findings& findings) {
  const std::string path = ServerPath(layout::kCheckpointFile);
  const auto stamp = base.dir.Stat(path);
  if (!stamp.ok()) return;
  const auto content = base.dir.ReadFile(path, kMaxCheckpointBytes);
  // A server may have removed it since the stat.
  if (absl::IsNotFound(content.status())) return;
  // The checkpoint is a cache, so any problem with it is only a note.
  using State = catalog::CheckpointState;
  const State state = content.ok()
                          ? catalog::InspectCheckpoint(content->data, base.path)
                          : State::kDamaged;
  if (state == State::kGood) return;
  Finding finding = Of(Severity::kNote, "checkpoint-damaged", path);
  finding.problem = "is damaged, so the next start reads every record";
  finding.fix = "Nothing to do: the server writes a new one";
  if (state == State::kOtherVersion) {
    finding.code = "checkpoint-old";
    finding.problem =
        "is of another version of workspaced, so the next start reads every "
        "record";
  } else if (state == State::kOtherBase) {
    finding.code = "checkpoint-elsewhere";
    finding.problem =
        "was written for a base at another path, so the next start reads "
        "every record";
  } else {
    finding.repairs = {{Repair::Kind::kSetAside, path}};
  }
  findings.Add(std::move(finding));
}

void CheckServerDirs(const BaseView& base, Findings& findings) {
  for (absl::string_view name :
       {layout::kServerDir, layout::kStagingDir, layout::kTrashDir}) {
    const auto found = fs::OwnershipOf(absl::StrCat(base.path, "/", name));
    // A server creates directories that are missing.
    if (!found.ok()) continue;
    Finding finding = Of(Severity::kError, "server-directory-unsuitable", name);
    if (found->type != fs::EntryType::kDirectory) {
      finding.problem = "is not a directory, so no server can start";
      finding.fix = "Move it away; the server creates a directory";
    } else if (!fs::MayUseDirectory(
                   base.server, absl::StrCat(base.path, "/", name), *found)) {
      finding.problem =
          absl::StrCat("cannot be read and written by user ", base.server.uid);
      finding.fix = absl::StrCat("Run chown -R ", base.server.uid, " ",
                                 base.path, "/", name);
    } else {
      continue;
    }
    findings.Add(std::move(finding));
  }
}

void CheckStaging(const BaseView& base, Findings& findings) {
  const auto dir = base.dir.OpenDir(layout::kStagingDir);
  if (!dir.ok()) return;
  // Best effort: report the entries that can be read.
  (*dir)
      ->ForEachEntry([&](absl::string_view name, fs::EntryType) {
        const std::string path = absl::StrCat(layout::kStagingDir, "/", name);
        Finding finding = Of(Severity::kNote, "staging-leftover", path);
        finding.problem = "is left over from a change that was cut off";
        finding.fix = "Nothing to do: the next start removes it";
        // A running server stages its changes here.
        finding.transient = true;
        finding.repairs = {{Repair::Kind::kSetAside, path}};
        findings.Add(std::move(finding));
        return true;
      })
      .IgnoreError();
}

}  // namespace mlops::doctor
