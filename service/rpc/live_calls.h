#ifndef MLOPS_SERVICE_RPC_LIVE_CALLS_H_
#define MLOPS_SERVICE_RPC_LIVE_CALLS_H_

#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "service/rpc/steady_clock.h"

namespace mlops::rpc {

// Selects which of the calls that wait for their client are ended.
struct IdleRule {
  // Ends calls that have waited longer than this.
  absl::Duration patience;
  // The status with which they end.
  absl::Status why;
  // Also end calls whose client does not read. No status reaches such a client
  // while its flow-control window is closed, so the call is cancelled.
  bool unread = true;
  // Also end calls that make progress, once their running task is done.
  bool moving = false;
};

// The set of long-lived calls, so that idle ones can be ended. Thread-safe.
class LiveCalls {
 public:
  class Call {
   public:
    // Ends the call if `rule` selects it. Called without a lock, because
    // gRPC may run other calls' handlers on the thread that ends a call.
    // Remove() waits until this has returned.
    virtual void EndIf(const IdleRule& rule, SteadyClock::time_point now) = 0;

   protected:
    ~Call() = default;
  };

  void Add(Call* call) {
    absl::MutexLock lock(&mutex_);
    calls_.insert(call);
  }
  // After this returns, `call` may be destroyed. Must not be called by EndIf().
  void Remove(Call* call) {
    const auto is_left_alone = [this, call]() ABSL_SHARED_LOCKS_REQUIRED(
                                   mutex_) { return ending_ != call; };
    absl::MutexLock lock(&mutex_, absl::Condition(&is_left_alone));
    calls_.erase(call);
  }

  // Calls EndIf() of each call in turn.
  void EndThose(const IdleRule& rule) {
    const auto now = SteadyClock::now();
    absl::MutexLock one_at_a_time(&rule_mutex_);
    // Calls may be removed during the loop, so each is looked up again
    // before it is used.
    for (Call* call : Snapshot()) {
      if (!SetEnding(call)) continue;
      call->EndIf(rule, now);
      SetEnding(nullptr);
    }
  }

 private:
  std::vector<Call*> Snapshot() {
    absl::MutexLock lock(&mutex_);
    return {calls_.begin(), calls_.end()};
  }
  // Marks `call` as being ended, so that Remove() waits. False if it has
  // been removed.
  bool SetEnding(Call* call) {
    absl::MutexLock lock(&mutex_);
    ending_ = call != nullptr && calls_.contains(call) ? call : nullptr;
    return ending_ != nullptr;
  }

  // Serializes EndThose(). Acquired before mutex_.
  absl::Mutex rule_mutex_;
  absl::Mutex mutex_;
  absl::flat_hash_set<Call*> calls_ ABSL_GUARDED_BY(mutex_);
  Call* ending_ ABSL_GUARDED_BY(mutex_) = nullptr;
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_LIVE_CALLS_H_
