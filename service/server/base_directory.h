#ifndef MLOPS_SERVICE_SERVER_BASE_DIRECTORY_H_
#define MLOPS_SERVICE_SERVER_BASE_DIRECTORY_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/cpp/base/unique_fd.h"
#include "service/fs/base_lock.h"
#include "service/fs/dir.h"

// What a server does with its base directory before and while it serves it.
namespace mlops::server {

// FAILED_PRECONDITION with a sentence about what the operator can fix.
absl::Status Refusal(absl::string_view sentence);

// Returns the real path of `base`. Creates the directory, durably, if it is
// missing and `read_only` is not set. Errors: see Refusal().
absl::StatusOr<std::string> MakeBase(const std::string& base, bool read_only);

// Makes this process the only server of the base, or with `read_only` only
// notices when the base is moved. The lock file may be missing afterwards if
// the disk is full. Errors are sentences for the operator:
//   ALREADY_EXISTS if another server serves the base;
//   PERMISSION_DENIED if the base exists but cannot be written;
//   FAILED_PRECONDITION for everything else that the operator can fix.
absl::StatusOr<std::unique_ptr<fs::BaseLock>> LockBase(const std::string& base,
                                                       bool read_only);

// Returns what the lock file says of this process, which listens on
// `addresses`: clients find the server by it.
std::string OwnerContent(const std::vector<std::string>& addresses);

// Makes git, and tools that follow its rules, ignore the server's files in
// `base`. Returns the error of the file system.
absl::Status WriteGitignore(const fs::Dir& base);

// Serializes processes that want to listen on one Unix socket outside a base.
// Otherwise two could both find that no server listens, and the second
// would take the name from the first. The lock lives as long as the returned
// descriptor.
base::UniqueFd LockDirOf(absl::string_view unix_address);

}  // namespace mlops::server

#endif  // MLOPS_SERVICE_SERVER_BASE_DIRECTORY_H_
