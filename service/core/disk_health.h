#ifndef MLOPS_SERVICE_CORE_DISK_HEALTH_H_
#define MLOPS_SERVICE_CORE_DISK_HEALTH_H_

#include <atomic>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "service/fs/dir.h"

namespace mlops::core {

// Whether the disk has kept what it was to keep. Once the sync of a directory failed, nobody knows what is on it, and
// one that succeeds later proves nothing: it may rest on what the failed one lost. So no change is acknowledged any
// more until a restart has read the truth back. One for all that changes what is below a base. Thread-safe.
class DiskHealth {
 public:
  bool ok() const { return ok_.load(std::memory_order_relaxed); }

  // INTERNAL/IO_ERROR, as the sync that failed, unless ok().
  absl::Status Check() const ABSL_LOCKS_EXCLUDED(mutex_);

  // Takes the result of the sync of a directory by which a change becomes durable. Returns what is to be told of it: OK
  // only if ok().
  absl::Status Judge(absl::Status synced) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Sync(fs::Dir& dir) { return Judge(dir.Sync()); }

 private:
  std::atomic<bool> ok_ = true;
  mutable absl::Mutex mutex_;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);  // The first.
};

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_DISK_HEALTH_H_
