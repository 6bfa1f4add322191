#ifndef MLOPS_SERVICE_BASE_PUBLISHED_H_
#define MLOPS_SERVICE_BASE_PUBLISHED_H_

#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace mlops::base {

// Holds an immutable value that one thread replaces while others use it.
// A reader keeps the value it got for as long as it needs it. Thread-safe.
template <typename T>
class Published {
 public:
  // Returns the current value, or null if none has been set.
  std::shared_ptr<const T> Get() const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::ReaderMutexLock lock(&mutex_);
    return value_;
  }

  // Replaces the value. The caller's thread destroys the old one,
  // without the lock, unless readers still use it.
  void Set(std::shared_ptr<const T> value) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    value_.swap(value);
  }

 private:
  mutable absl::Mutex mutex_;
  std::shared_ptr<const T> value_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mlops::base

#endif  // MLOPS_SERVICE_BASE_PUBLISHED_H_
