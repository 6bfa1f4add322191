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

// Remembers the last count of each workspace, and lets concurrent callers of
// the same workspace share a scan. Thread-safe; holds no lock during a scan.
class StatusCache {
 public:
  // Some hundred thousand workspaces.
  static constexpr size_t kDefaultMaxBytes = size_t{64} << 20;

  // Keeps counts in at most `max_bytes` of memory. `clock` measures their age.
  StatusCache(UsageScanner scanner, base::SteadyClock clock,
              size_t max_bytes = kDefaultMaxBytes);

  // Returns the usage of `workspace` from a scan that began less than
  // `args.max_staleness` before this call, so with zero from one that began
  // after it. Callers that wait for a running scan share the next one. If the
  // caller of a scan gives it up, one of those waiting begins it again. Errors
  // as the scanner's; CANCELLED if `cancelled` returns true while this caller
  // scans or waits.
  absl::StatusOr<Usage> Get(const Workspace& workspace, const StatusArgs& args,
                            Cancelled cancelled);

  // Of the memory in use.
  size_t bytes() const;

 private:
  struct Known {
    Usage usage;
    absl::Duration begun;  // When its scan began, by clock_.
  };

  // Returns the usage of `key` from a scan that began after `oldest`, if there
  // is one.
  std::optional<Usage> Find(const std::string& key, absl::Duration oldest,
                            bool counts_only)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const UsageScanner scanner_;
  const base::SteadyClock clock_;
  mutable absl::Mutex mutex_;
  absl::CondVar scan_ended_;
  base::LruMap<Known> usages_ ABSL_GUARDED_BY(mutex_);
  // For which some caller scans now.
  absl::flat_hash_set<std::string> scanning_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_STATUS_CACHE_H_
