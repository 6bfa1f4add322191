#include "service/base/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <utility>

#include "absl/synchronization/notification.h"

namespace mlops::base {

ThreadPool::ThreadPool(int threads, size_t max_queued)
    : max_queued_(max_queued) {
  threads_.reserve(threads);
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Work(); });
}

ThreadPool::~ThreadPool() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  // Releasing the mutex has woken the threads that wait for work.
  for (std::thread& thread : threads_) thread.join();
}

bool ThreadPool::TrySchedule(std::function<void()> task) {
  absl::MutexLock lock(&mutex_);
  if (queue_.size() >= max_queued_) return false;
  queue_.push_back(std::move(task));
  return true;
}

size_t ThreadPool::queued() const {
  absl::MutexLock lock(&mutex_);
  return queue_.size();
}

void ThreadPool::Work() {
  const auto has_work = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return stopping_ || !queue_.empty();
  };
  while (true) {
    std::function<void()> task;
    {
      absl::MutexLock lock(&mutex_, absl::Condition(&has_work));
      // Stop only once the queue is empty: the destructor promises to run it.
      if (queue_.empty()) return;
      task = std::move(queue_.front());
      queue_.pop_front();
    }
    task();
  }
}

void RunBoth(ThreadPool& pool, absl::FunctionRef<void()> here,
             absl::FunctionRef<void()> aside) {
  struct Shared {
    std::atomic<bool> taken = false;
    absl::Notification done;
  };
  const auto shared = std::make_shared<Shared>();
  // A task that starts after the caller has returned finds `taken` set
  // and does not touch `aside`, which no longer exists.
  const auto run = [shared, aside] {
    if (shared->taken.exchange(true)) return;
    aside();
    shared->done.Notify();
  };
  // If the queue is full, the caller runs `aside` below.
  (void)pool.TrySchedule(run);
  here();
  if (shared->taken.exchange(true)) return shared->done.WaitForNotification();
  aside();
}

void ParallelFor(size_t count, int threads, size_t run,
                 const std::function<void(size_t)>& work) {
  std::atomic<size_t> next = 0;
  const auto take_runs = [&] {
    for (size_t begin = next.fetch_add(run); begin < count;
         begin = next.fetch_add(run)) {
      for (size_t i = begin; i < std::min(begin + run, count); ++i) work(i);
    }
  };
  std::vector<std::thread> helpers;
  // More threads than runs would have nothing to do.
  const size_t useful = std::min<size_t>(threads, (count + run - 1) / run);
  for (size_t i = 1; i < useful; ++i) helpers.emplace_back(take_runs);
  take_runs();
  for (std::thread& helper : helpers) helper.join();
}

}  // namespace mlops::base
