#ifndef MLOPS_SERVICE_BASE_THREAD_POOL_H_
#define MLOPS_SERVICE_BASE_THREAD_POOL_H_

#include <cstddef>
#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/synchronization/mutex.h"

namespace mlops::base {

// Runs tasks from a bounded first-in, first-out queue on a fixed number
// of threads. Thread-safe.
class ThreadPool {
 public:
  // Starts `threads` threads. At most `max_queued` tasks may wait.
  ThreadPool(int threads, size_t max_queued);
  // Runs the queued tasks, then joins the threads.
  ~ThreadPool();

  // Queues `task`. Returns false and drops the task if the queue is full.
  [[nodiscard]] bool TrySchedule(std::function<void()> task);

  // Returns the number of tasks that wait.
  size_t queued() const ABSL_LOCKS_EXCLUDED(mutex_);

  int threads() const { return static_cast<int>(threads_.size()); }

 private:
  void Work();

  const size_t max_queued_;
  mutable absl::Mutex mutex_;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

// Calls `here` and `aside` and returns when both are done. `here` runs
// on the calling thread. `aside` runs on a thread of `pool`, or on the calling
// thread if no thread has started it by the time `here` is done. The caller
// therefore never waits for a task that has not started.
void RunBoth(ThreadPool& pool, absl::FunctionRef<void()> here,
             absl::FunctionRef<void()> aside);

// Calls `work(i)` for each i in [0, count) on up to `threads` threads,
// including the caller's, and returns when all calls are done. Each thread
// takes `run` indices at a time; choose a larger `run` for short work,
// to reduce contention on the shared counter.
void ParallelFor(size_t count, int threads, size_t run,
                 const std::function<void(size_t)>& work);

}  // namespace mlops::base

#endif  // MLOPS_SERVICE_BASE_THREAD_POOL_H_
