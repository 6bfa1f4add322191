#ifndef MLOPS_CLIENT_CPP_SRC_RETRY_H_
#define MLOPS_CLIENT_CPP_SRC_RETRY_H_

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "mlops/workspace_client.h"

namespace mlops::internal {

// When to go on with what a broken connection has ended, and for how long. Not
// thread-safe.
class Retry {
 public:
  // Of a transfer that begins now.
  explicit Retry(const CallOptions& call);

  // For one attempt: with what is left of the time.
  CallOptions Attempt() const;

  // CANCELLED or DEADLINE_EXCEEDED if the transfer is to stop.
  absl::Status CheckWanted() const;

  // Waits until another attempt may be made, as the server says or 0.1 s to 2
  // s. Returns `error` instead if this was the eighth in a row without
  // progress, and if the transfer is to stop.
  absl::Status Wait(const absl::Status& error);

  // To be called when an attempt has brought something.
  void Progressed() { failures_ = 0; }

 private:
  CallOptions call_;
  absl::Time deadline_;
  int failures_ = 0;
};

}  // namespace mlops::internal

#endif  // MLOPS_CLIENT_CPP_SRC_RETRY_H_
