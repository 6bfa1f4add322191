#ifndef MLOPS_SERVICE_CORE_STATUS_CACHE_H_
#define MLOPS_SERVICE_CORE_STATUS_CACHE_H_

#include <cstddef>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "service/base/clock.h"
#include "service/base/lru_map.h"
#include "service/core/usage.h"

namespace mlops::core {

// Caches the last usage of each workspace, and lets concurrent callers for the
// same workspace share one scan. Thread-safe. Holds no lock during a scan.
class StatusCache {
 public:
  // Enough for about a hundred thousand workspaces.
  static constexpr size_t kDefaultMaxBytes = size_t{64} << 20;

  // Keeps usages in at most `max_bytes` of memory. `clock` measures their age.
  StatusCache(UsageScanner scanner, base::SteadyClock clock,
              size_t max_bytes = kDefaultMaxBytes);

  // Returns the usage of `workspace` from a scan that began less than
  // `args.max_staleness` before this call or, if that is zero, after this call.
  // Callers that need a newer scan than the running one share the next one. If
  // the caller that runs a scan gives up, one of the waiting callers starts it
  // again. Returns the scanner's errors, and CANCELLED if `cancelled` returns
  // true while this caller scans or waits.
  absl::StatusOr<Usage> Get(const Workspace& workspace, const StatusArgs& args,
                            Cancelled cancelled);

  // Returns the memory in use, in bytes.
  size_t bytes() const;

 private:
  struct Known {
    Usage usage;
    // When its scan began, by clock_.
    absl::Duration begun;
  };

  // Returns the usage of `key` from a scan that began after `oldest`,
  // or nullopt if none is cached.
  std::optional<Usage> Find(const std::string& key, absl::Duration oldest,
                            bool counts_only)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const UsageScanner scanner_;
  const base::SteadyClock clock_;
  mutable absl::Mutex mutex_;
  absl::CondVar scan_ended_;
  base::LruMap<Known> usages_ ABSL_GUARDED_BY(mutex_);
  // Keys that a caller is scanning now.
  absl::flat_hash_set<std::string> scanning_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_STATUS_CACHE_H_
