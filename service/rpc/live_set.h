#ifndef MLOPS_SERVICE_RPC_LIVE_SET_H_
#define MLOPS_SERVICE_RPC_LIVE_SET_H_

#include <cstddef>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/function_ref.h"
#include "absl/synchronization/mutex.h"

namespace mlops::rpc {

// A set of objects that other threads may destroy, except while they are
// visited. Thread-safe.
template <typename T>
class LiveSet {
 public:
  void Add(T* one) {
    absl::MutexLock lock(&mutex_);
    all_.insert(one);
  }
  // After this returns, `one` may be destroyed. Waits until a visit to `one`
  // has ended, so the visit itself must not call it.
  void Remove(T* one) {
    const auto is_left_alone = [this, one]() ABSL_SHARED_LOCKS_REQUIRED(
                                   mutex_) { return visited_ != one; };
    absl::MutexLock lock(&mutex_, absl::Condition(&is_left_alone));
    all_.erase(one);
  }

  // Calls `visit` for each object in turn. Holds no lock that blocks Add(), or
  // Remove() of other objects.
  void ForEach(absl::FunctionRef<void(T&)> visit) {
    ForEachOf(Snapshot(), visit);
  }
  // Like ForEach(), but only for `those`. Skips pointers to objects that are no
  // longer in the set.
  void ForEachOf(const std::vector<T*>& those,
                 absl::FunctionRef<void(T&)> visit) {
    absl::MutexLock one_at_a_time(&visit_mutex_);
    // Another thread may remove an object during the loop, so look each up
    // again before its visit.
    for (T* one : those) {
      if (!SetVisited(one)) continue;
      visit(*one);
      SetVisited(nullptr);
    }
  }

  size_t size() const {
    absl::MutexLock lock(&mutex_);
    return all_.size();
  }

 private:
  std::vector<T*> Snapshot() {
    absl::MutexLock lock(&mutex_);
    return {all_.begin(), all_.end()};
  }
  // Marks `one` as visited, so that Remove() waits. Returns false if it has
  // been removed.
  bool SetVisited(T* one) {
    absl::MutexLock lock(&mutex_);
    visited_ = one != nullptr && all_.contains(one) ? one : nullptr;
    return visited_ != nullptr;
  }

  // Serializes ForEach(). Acquired before mutex_.
  absl::Mutex visit_mutex_;
  mutable absl::Mutex mutex_;
  absl::flat_hash_set<T*> all_ ABSL_GUARDED_BY(mutex_);
  T* visited_ ABSL_GUARDED_BY(mutex_) = nullptr;
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_LIVE_SET_H_
