#include "client-cpp/src/retry.h"

#include <algorithm>
#include <stop_token>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"

namespace mlops::internal {
namespace {

constexpr int kMaxFailures = 8;
constexpr absl::Duration kFirstDelay = absl::Milliseconds(100);
constexpr absl::Duration kMaxDelay = absl::Seconds(2);

}  // namespace

bool IsResumable(const absl::Status& error) {
  return absl::IsUnavailable(error) ||
         (absl::IsResourceExhausted(error) && ErrorReason(error).empty());
}

Retry::Retry(const CallOptions& call)
    : call_(call),
      deadline_(absl::Now() + call.timeout.value_or(absl::InfiniteDuration())) {
}

CallOptions Retry::Attempt() const {
  CallOptions call = call_;
  // The timeout covers all attempts together.
  if (call.timeout) call.timeout = deadline_ - absl::Now();
  return call;
}

absl::Status Retry::CheckWanted() const {
  if (call_.stop.stop_requested())
    return absl::CancelledError("The call was stopped");
  return absl::Now() < deadline_
             ? absl::OkStatus()
             : absl::DeadlineExceededError(
                   "The transfer exceeded CallOptions::timeout");
}

absl::Status Retry::Wait(const absl::Status& error) {
  // Bound the count, because NeverGiveUp() would let the shift below overflow.
  failures_ = std::min(failures_ + 1, kMaxFailures);
  if ((gives_up_ && failures_ == kMaxFailures) || call_.stop.stop_requested())
    return error;
  const absl::Duration delay =
      std::min(kFirstDelay * (1 << (failures_ - 1)), kMaxDelay);
  const absl::Time until =
      absl::Now() +
      std::max(delay, ErrorRetryDelay(error).value_or(absl::ZeroDuration()));
  if (until > deadline_) return error;
  // A stop request ends the wait early.
  absl::Notification stopped;
  const std::stop_callback on_stop(call_.stop,
                                   [&stopped] { stopped.Notify(); });
  return stopped.WaitForNotificationWithDeadline(until) ? error
                                                        : absl::OkStatus();
}

}  // namespace mlops::internal
