#ifndef MLOPS_SERVICE_BASE_THREAD_POOL_H_
#define MLOPS_SERVICE_BASE_THREAD_POOL_H_

#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/synchronization/mutex.h"

namespace mlops::base {

// A fixed number of threads working off a bounded queue, first come, first
// served. Thread-safe.
class ThreadPool {
 public:
  ThreadPool(int threads, size_t max_queued);
  // Runs what is queued, then ends the threads.
  ~ThreadPool();

  // Queues `task`; false, and the task is dropped, if the queue is full.
  [[nodiscard]] bool TrySchedule(std::function<void()> task);

  int threads() const { return static_cast<int>(threads_.size()); }

 private:
  void Work();

  const size_t max_queued_;
  absl::Mutex mutex_;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

// Calls both and returns when both are done: `aside` on a thread of `pool` if
// one is free by the time `here` is done, else on the caller's, which so never
// waits for what has not begun.
void RunBoth(ThreadPool& pool, absl::FunctionRef<void()> here,
             absl::FunctionRef<void()> aside);

// Calls `work(i)` for each i in [0, count) from up to `threads` threads, the
// caller's among them, and returns when all are done. Threads take `run`
// indices at a time: more where the work is short, so that they do not fight
// over a counter.
void ParallelFor(size_t count, int threads, size_t run,
                 const std::function<void(size_t)>& work);

}  // namespace mlops::base

#endif  // MLOPS_SERVICE_BASE_THREAD_POOL_H_
