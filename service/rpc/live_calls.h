#ifndef MLOPS_SERVICE_RPC_LIVE_CALLS_H_
#define MLOPS_SERVICE_RPC_LIVE_CALLS_H_

#include <chrono>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace mlops::rpc {

using SteadyClock = std::chrono::steady_clock;

// Which calls that wait for their client are to be ended.
struct IdleRule {
  absl::Duration patience;  // Those that have waited for longer.
  absl::Status why;         // With what they end.
  // Also those whose client does not read. No status reaches such a client while its window is closed, so the call is
  // cancelled.
  bool unread = true;
  // Also those that do not wait, once what they are doing is done.
  bool moving = false;
};

// The calls that last, so that those whose clients stand still can be ended. Thread-safe.
class LiveCalls {
 public:
  class Call {
   public:
    // Ends the call if `rule` says so. Called under the lock of LiveCalls: may take the call's own lock, and must not
    // call Remove().
    virtual void EndIf(const IdleRule& rule, SteadyClock::time_point now) = 0;

   protected:
    ~Call() = default;
  };

  void Add(Call* call) {
    absl::MutexLock lock(&mutex_);
    calls_.insert(call);
  }
  // From when this returns, `call` may be destroyed.
  void Remove(Call* call) {
    absl::MutexLock lock(&mutex_);
    calls_.erase(call);
  }
  void EndThose(const IdleRule& rule) {
    const auto now = SteadyClock::now();
    absl::MutexLock lock(&mutex_);
    for (Call* call : calls_) call->EndIf(rule, now);
  }

 private:
  absl::Mutex mutex_;
  absl::flat_hash_set<Call*> calls_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_LIVE_CALLS_H_
