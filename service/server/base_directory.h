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

// Prepares the base directory for the server, before and while it is served.
namespace mlops::server {

// Returns FAILED_PRECONDITION with a sentence about what the operator can fix.
absl::Status Refusal(absl::string_view sentence);

// Returns the real path of `base`. If the directory is missing, creates it
// durably, unless `read_only` is set. Returns the errors of Refusal().
absl::StatusOr<std::string> MakeBase(const std::string& base, bool read_only);

// Makes this process the only server of the base. With `read_only`, only
// watches whether the base is moved. If the disk is full, the lock file may be
// missing afterwards. Errors are sentences for the operator:
//   ALREADY_EXISTS if another server serves the base;
//   PERMISSION_DENIED if the base exists but cannot be written;
//   FAILED_PRECONDITION for everything else that the operator can fix.
absl::StatusOr<std::unique_ptr<fs::BaseLock>> LockBase(const std::string& base,
                                                       bool read_only);

// Returns the content of the lock file for this process, which listens on
// `addresses`. Clients find the server by it.
std::string OwnerContent(const std::vector<std::string>& addresses);

// Makes git, and tools that follow its rules, ignore the server's files in
// `base`. Returns the error of the file system.
absl::Status WriteGitignore(const fs::Dir& base);

// Serializes processes that want to listen on the same Unix socket outside a
// base. Otherwise two could both find that no server listens, and the second
// would take the name from the first. Holds the lock as long as the returned
// descriptor is open.
base::UniqueFd LockDirOf(absl::string_view unix_address);

}  // namespace mlops::server

#endif  // MLOPS_SERVICE_SERVER_BASE_DIRECTORY_H_
