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

// Decides whether what is below a base may be changed; one for everything that
// changes it. Thread-safe.
//
// It knows whether the disk has kept what it was given. Once the sync of a
// directory failed, nobody knows what is on the disk, and a later sync that
// succeeds proves nothing: it may rest on what the failed one lost. So no
// change is acknowledged any more until a restart has read the truth back. It
// also asks the owner, who may forbid changes for other reasons: the base is
// served read-only, or it is not this server's any more.
class DiskHealth {
 public:
  // Returns why no change may begin now, or OK. Called before each change, from
  // any thread.
  using Permit = std::function<absl::Status()>;
  // Told of the first failure.
  using Listener = std::function<void(const absl::Status& failure)>;

  explicit DiskHealth(Permit permit = nullptr) : permit_(std::move(permit)) {}

  // Whether no sync has failed.
  bool ok() const { return ok_.load(std::memory_order_acquire); }

  // To be asked before a change: what the permit says, then INTERNAL/IO_ERROR,
  // as the sync that failed, unless ok().
  absl::Status Check() const ABSL_LOCKS_EXCLUDED(mutex_);

  // Takes the result of the sync of a directory by which a change becomes
  // durable. Returns what the caller is to be told about the change: OK only if
  // ok().
  absl::Status Judge(absl::Status synced)
      ABSL_LOCKS_EXCLUDED(mutex_, listener_mutex_);
  absl::Status Sync(fs::Dir& dir) { return Judge(dir.Sync()); }

  // From now on `listener` is called by the thread whose sync fails first,
  // before that thread's caller is answered; at once if one has failed already.
  // null ends that: afterwards the listener does not run any more. It must not
  // call this object.
  void SetListener(Listener listener)
      ABSL_LOCKS_EXCLUDED(mutex_, listener_mutex_);

 private:
  absl::Status CheckDisk() const ABSL_LOCKS_EXCLUDED(mutex_);

  const Permit permit_;
  std::atomic<bool> ok_ = true;
  mutable absl::Mutex mutex_;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);  // The first.
  // Held while the listener runs.
  absl::Mutex listener_mutex_;
  Listener listener_ ABSL_GUARDED_BY(listener_mutex_);
  bool told_ ABSL_GUARDED_BY(listener_mutex_) = false;
};

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_DISK_HEALTH_H_
