#ifndef MLOPS_SERVICE_RPC_LIVE_CALLS_H_
#define MLOPS_SERVICE_RPC_LIVE_CALLS_H_

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "service/rpc/live_set.h"
#include "service/rpc/steady_clock.h"

namespace mlops::rpc {

// Selects which calls that wait for their client are ended.
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
    // Ends the call if `rule` selects it. Called without a lock, because gRPC
    // may run other calls' handlers on the thread that ends a call. Remove()
    // waits until EndIf() has returned.
    virtual void EndIf(const IdleRule& rule, SteadyClock::time_point now) = 0;

   protected:
    ~Call() = default;
  };

  void Add(Call* call) { calls_.Add(call); }
  // After this returns, `call` may be destroyed. EndIf() must not call it.
  void Remove(Call* call) { calls_.Remove(call); }

  // Calls EndIf() of each call in turn.
  void EndThose(const IdleRule& rule) {
    const auto now = SteadyClock::now();
    calls_.ForEach([&](Call& call) { call.EndIf(rule, now); });
  }

 private:
  LiveSet<Call> calls_;
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_LIVE_CALLS_H_
