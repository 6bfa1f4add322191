#ifndef MLOPS_SERVICE_FS_FACTS_H_
#define MLOPS_SERVICE_FS_FACTS_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "service/fs/dir.h"

// Facts about paths and file systems for reports to people; no operation
// depends on them. Nothing here opens or changes a file at these paths.
// Paths are absolute. Errors are those of Dir. Thread-safe.
namespace mlops::fs {

// The owner and permissions of an entry.
struct Ownership {
  EntryType type = EntryType::kOther;
  uid_t uid = 0;
  gid_t gid = 0;
  // All permission bits, including set-user-ID and the like.
  uint32_t mode = 0;
  uint64_t device = 0;
  uint64_t inode = 0;
};

// Does not follow a symbolic link at the end of `path`.
absl::StatusOr<Ownership> OwnershipOf(const std::string& path);

// A user and the groups that it is a member of.
struct Account {
  uid_t uid = 0;
  std::vector<gid_t> groups;
};
// The groups are empty if the system does not know the user.
Account AccountOf(uid_t uid);

// Returns whether `account` may list, enter and change the directory.
// Asks the kernel if it is the account of this process; otherwise compares
// the permission bits, and knows nothing of access control lists.
bool MayUseDirectory(const Account& account, const std::string& path,
                     const Ownership& ownership);

struct FileSystem {
  // For example "nfs"; "" for a type that this library does not know,
  // such as that of a local disk.
  std::string type;
  int64_t total_bytes = 0;
  // For users other than root.
  int64_t available_bytes = 0;
  // Both are 0 if the file system does not count inodes.
  int64_t total_inodes = 0;
  int64_t free_inodes = 0;
};
absl::StatusOr<FileSystem> FileSystemOf(const std::string& path);

struct Mount {
  std::string path;
  // As mount(8) names it, for example "ext4" or "fuse.sshfs".
  std::string type;
};
// Returns the mounts below the directory `path`, whose own mount is not among
// them, sorted by path. `path` must be free of symbolic links. Empty where
// the system has no list of mounts.
std::vector<Mount> MountsBelow(const std::string& path);

// Returns the path without symbolic links, as far as it exists.
std::string ResolvedPath(const std::string& path);

// Returns the name of this machine.
std::string HostName();

}  // namespace mlops::fs

#endif  // MLOPS_SERVICE_FS_FACTS_H_
