#ifndef MLOPS_SERVICE_RPC_PACER_H_
#define MLOPS_SERVICE_RPC_PACER_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace mlops::rpc {

// Runs tasks at a bounded rate: for every two processors, one in kTick. gRPC's
// threads handle what arrives in the order of arrival, so a client that gets
// many responses at once, and therefore sends many requests at once, delays all
// others. Large messages do so, too. Thread-safe.
class Pacer {
 public:
  // Returns how many tasks run in kTick.
  static size_t TasksPerTick();
  static constexpr absl::Duration kTick = absl::Microseconds(200);

  // At most `max_queued` tasks may wait.
  explicit Pacer(size_t max_queued);
  // Runs the queued tasks at once, then joins the thread.
  ~Pacer();

  // Queues `task`, which must not block. Returns false and drops the task if
  // the queue is full.
  [[nodiscard]] bool TrySchedule(std::function<void()> task)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Returns the number of tasks that were queued, in total.
  uint64_t scheduled() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void Run() ABSL_LOCKS_EXCLUDED(mutex_);
  // Waits for tasks. Returns those to run now; none if the pacer ends.
  std::deque<std::function<void()>> Next() ABSL_LOCKS_EXCLUDED(mutex_);

  const size_t max_queued_;
  mutable absl::Mutex mutex_;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  uint64_t scheduled_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_PACER_H_
