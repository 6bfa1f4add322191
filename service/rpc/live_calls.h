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

// Which calls that wait for their client are to be ended.
struct IdleRule {
  absl::Duration patience;  // Those that have waited for longer.
  absl::Status why;         // With what they end.
  // Also those whose client does not read. No status reaches such a client
  // while its window is closed, so the call is cancelled.
  bool unread = true;
  // Also those that do not wait, once what they are doing is done.
  bool moving = false;
};

// The calls that last, so that those whose clients stand still can be ended.
// Thread-safe.
class LiveCalls {
 public:
  class Call {
   public:
    // Ends the call if `rule` says so. Called without a lock, since gRPC may
    // run other calls' handlers in the thread that ends a call; Remove() waits
    // until it has returned.
    virtual void EndIf(const IdleRule& rule, SteadyClock::time_point now) = 0;

   protected:
    ~Call() = default;
  };

  void Add(Call* call) {
    absl::MutexLock lock(&mutex_);
    calls_.insert(call);
  }
  // From when this returns, `call` may be destroyed. Not to be called by
  // EndIf().
  void Remove(Call* call) {
    const auto is_left_alone = [this, call]() ABSL_SHARED_LOCKS_REQUIRED(
                                   mutex_) { return ending_ != call; };
    absl::MutexLock lock(&mutex_, absl::Condition(&is_left_alone));
    calls_.erase(call);
  }

  void EndThose(const IdleRule& rule) {
    const auto now = SteadyClock::now();
    absl::MutexLock one_at_a_time(&rule_mutex_);
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
  // False if there is no such call any more.
  bool SetEnding(Call* call) {
    absl::MutexLock lock(&mutex_);
    ending_ = call != nullptr && calls_.contains(call) ? call : nullptr;
    return ending_ != nullptr;
  }

  absl::Mutex rule_mutex_;  // Before mutex_.
  absl::Mutex mutex_;
  absl::flat_hash_set<Call*> calls_ ABSL_GUARDED_BY(mutex_);
  Call* ending_ ABSL_GUARDED_BY(mutex_) = nullptr;
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_LIVE_CALLS_H_
