#ifndef MLOPS_SERVICE_CORE_STATUS_CACHE_H_
#define MLOPS_SERVICE_CORE_STATUS_CACHE_H_

#include <cstddef>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "service/base/clock.h"
#include "service/core/usage.h"

namespace mlops::core {

// Remembers the last count of each workspace, and lets callers that ask for the same one at once share a scan.
// Thread-safe; no lock is held during a scan.
class StatusCache {
 public:
  // Keeps at most `max_entries` counts.
  StatusCache(UsageScanner scanner, base::Clock clock, size_t max_entries = 10'000);

  // The usage of `workspace`, at most `max_staleness` old when this was called. Errors as the scanner's; CANCELLED if
  // `cancelled` says so while this caller scans or waits.
  absl::StatusOr<Usage> Get(const Workspace& workspace, absl::Duration max_staleness, Cancelled cancelled);

 private:
  struct Entry {
    Usage usage;
    bool known = false;     // Whether `usage` holds a count.
    bool scanning = false;  // Whether some caller scans now.
  };

  // Waits until nobody scans for `key`; true if its count is then of `oldest` or later.
  bool WaitForScan(const std::string& key, absl::Time oldest, Cancelled cancelled)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void MakeRoom() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const UsageScanner scanner_;
  const base::Clock clock_;
  const size_t max_entries_;
  absl::Mutex mutex_;
  absl::CondVar scan_ended_;
  absl::flat_hash_map<std::string, Entry> entries_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_STATUS_CACHE_H_
