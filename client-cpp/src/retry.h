#ifndef MLOPS_CLIENT_CPP_SRC_RETRY_H_
#define MLOPS_CLIENT_CPP_SRC_RETRY_H_

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "mlops/options.h"

namespace mlops::internal {

// Whether a transfer that failed with `error` may be resumed: the connection
// broke, the server refused the call for now, or gRPC on the server had
// received too much from all clients, which appears as RESOURCE_EXHAUSTED
// without a reason.
bool IsResumable(const absl::Status& error);

// Decides when to resume a transfer after a broken connection, and when to give
// up. Not thread-safe.
class Retry {
 public:
  // Starts the timeout of a transfer.
  explicit Retry(const CallOptions& call);

  // Returns the options of one attempt, with the remaining time as its timeout.
  CallOptions Attempt() const;

  // Returns CANCELLED or DEADLINE_EXCEEDED if the transfer must stop.
  absl::Status CheckWanted() const;

  // Waits before the next attempt: 0.1 s to 2 s, or longer if the server asks
  // for it. Instead returns `error` after the eighth consecutive failure
  // without progress, if a stop is requested, or if the deadline would expire.
  absl::Status Wait(const absl::Status& error);

  // From now on, retries any number of failures.
  void NeverGiveUp() { gives_up_ = false; }

  // Resets the failure count. Call it after each attempt that transferred data.
  void Progressed() { failures_ = 0; }

 private:
  CallOptions call_;
  absl::Time deadline_;
  int failures_ = 0;
  bool gives_up_ = true;
};

}  // namespace mlops::internal

#endif  // MLOPS_CLIENT_CPP_SRC_RETRY_H_
