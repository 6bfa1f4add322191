#ifndef MLOPS_SERVICE_CORE_DISK_HEALTH_H_
#define MLOPS_SERVICE_CORE_DISK_HEALTH_H_

#include <atomic>
#include <functional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "service/fs/dir.h"

namespace mlops::core {

// Decides whether the content of a base directory may be changed. All code that
// changes one base directory shares one DiskHealth. Thread-safe.
//
// It tracks whether the disk has kept all writes. Once a directory sync has
// failed, the state on disk is unknown. A later sync that succeeds proves
// nothing, because it may depend on data that the failed one lost. Therefore
// the server acknowledges no change until it has restarted and read the state
// back. DiskHealth also asks its owner, which may forbid changes for other
// reasons: the base is served read-only, or no longer belongs to this server.
class DiskHealth {
 public:
  // Returns OK if a change may begin now, otherwise an error that says why not.
  // Called before each change, from any thread.
  using Permit = std::function<absl::Status()>;
  // Called with the first failure.
  using Listener = std::function<void(const absl::Status& failure)>;

  explicit DiskHealth(Permit permit = nullptr) : permit_(std::move(permit)) {}

  // Returns whether every sync so far has succeeded.
  bool ok() const { return ok_.load(std::memory_order_acquire); }

  // Returns whether a change may begin; call it before each change.
  // Returns the permit's error first, then INTERNAL/IO_ERROR with the path
  // and errno of the failed sync unless ok().
  absl::Status Check() const ABSL_LOCKS_EXCLUDED(mutex_);

  // Records the result of the directory sync that makes a change durable,
  // and returns the result to report for that change. It is OK only if ok().
  absl::Status Judge(absl::Status synced)
      ABSL_LOCKS_EXCLUDED(mutex_, listener_mutex_);
  absl::Status Sync(fs::Dir& dir) { return Judge(dir.Sync()); }

  // Registers `listener`. The thread whose sync fails first calls it before
  // returning the error. If a sync has already failed, SetListener() calls it.
  // Null unregisters the listener, which then does not run again after
  // SetListener(nullptr) returns. The listener must not call this object.
  void SetListener(Listener listener)
      ABSL_LOCKS_EXCLUDED(mutex_, listener_mutex_);

 private:
  absl::Status CheckDisk() const ABSL_LOCKS_EXCLUDED(mutex_);

  const Permit permit_;
  std::atomic<bool> ok_ = true;
  mutable absl::Mutex mutex_;
  // The first failure.
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  // Held while the listener runs.
  absl::Mutex listener_mutex_;
  Listener listener_ ABSL_GUARDED_BY(listener_mutex_);
  // Whether the listener has been called.
  bool told_ ABSL_GUARDED_BY(listener_mutex_) = false;
};

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_DISK_HEALTH_H_
