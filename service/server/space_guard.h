#ifndef MLOPS_SERVICE_SERVER_SPACE_GUARD_H_
#define MLOPS_SERVICE_SERVER_SPACE_GUARD_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "service/core/workspace.h"

namespace mlops::server {

// Watches the free space of the disk. While it is below a minimum, purges the
// workspace that has been in the trash longest, and the next one once its files
// are gone. It purges only if the operator permits breaking the promise of
// `purge_time`. Only one thread may call Check(); the other methods are
// thread-safe.
class SpaceGuard {
 public:
  struct Options {
    // 0 disables Check().
    int64_t min_free_bytes = 0;
    bool purge_early = false;
    // Returns the number of bytes that the server can still write.
    std::function<absl::StatusOr<int64_t>()> free_bytes;
    // Returns whether files of purged workspaces are still being removed.
    std::function<bool()> is_removing;
    // Purges and returns the workspace that was deleted first. Returns null if
    // the trash is empty.
    std::function<absl::StatusOr<core::WorkspacePtr>()> purge_oldest;
    // Receives a line for each workspace purged early.
    std::function<void(absl::string_view line)> log;
  };

  explicit SpaceGuard(Options options) : options_(std::move(options)) {}

  // Performs one step. Returns RESOURCE_EXHAUSTED, with a sentence for the
  // operator, while there is too little space and nothing to purge.
  absl::Status Check();

  // Whether the last Check() found too little space.
  bool is_low() const { return low_.load(std::memory_order_relaxed); }
  // Number of workspaces purged before their purge time.
  int64_t purged_early() const {
    return purged_.load(std::memory_order_relaxed);
  }

 private:
  const Options options_;
  std::atomic<bool> low_ = false;
  std::atomic<int64_t> purged_ = 0;
};

// Returns the number of bytes that this user can still write to the file system
// of `path`.
absl::StatusOr<int64_t> FreeBytes(const std::string& path);

}  // namespace mlops::server

#endif  // MLOPS_SERVICE_SERVER_SPACE_GUARD_H_
