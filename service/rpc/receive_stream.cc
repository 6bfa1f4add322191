#include "service/rpc/receive_stream.h"

#include <utility>

namespace mlops::rpc {

void ReceiveStream::OnReadDone(bool ok) {
  ReadDone([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (ok) {
      calls().CountReceived(call_, being_read_.Length());
      received_ = std::move(being_read_);
    } else {
      no_more_ = true;
    }
  });
}

ReceiveStream::Step ReceiveStream::Next() {
  Step step;
  if (last_.has_value()) {
    // Replaces an acknowledgement that waits, but not one that is being
    // written.
    step.last = !writing_ && tasks_ == 0;
    if (step.last) step.write = std::exchange(last_, std::nullopt);
    return step;
  }
  // Handling and reading overlap: TakeReceived() makes room for the next
  // message while its task still runs.
  if (!writing_) step.write = std::exchange(next_, std::nullopt);
  step.tasks = tasks_ == 0 && (received_.has_value() || no_more_);
  step.read = !reading_ && !no_more_ && !received_.has_value() && !holds_read_;
  return step;
}

bool ReceiveStream::MustRelease() { return std::exchange(holds_, false); }

void ReceiveStream::Work() {
  bool more = false;
  // With an end already set, this task only releases the call's resources.
  const std::optional<absl::Status> end =
      HasEnd() ? absl::OkStatus() : Handle(&more);
  // Drop before the client sees the end, because it may then repeat or resume
  // the call at once.
  if (end.has_value()) Drop();
  // Requeue instead of looping, so that other streams get their turn.
  if (more && !end.has_value()) return Schedule(1);
  TaskDone([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    holds_ = Holds();
    holds_read_ = false;
    if (end.has_value() && !end->ok() && !end_.has_value()) end_ = *end;
  });
}

std::optional<grpc::ByteBuffer> ReceiveStream::TakeReceived() {
  absl::MutexLock lock(&mutex_);
  holds_read_ = true;
  return std::exchange(received_, std::nullopt);
}

void ReceiveStream::ReadNext() {
  Advance([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { holds_read_ = false; });
}

void ReceiveStream::Acknowledge(grpc::ByteBuffer response) {
  Advance([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    next_ = std::move(response);
  });
}

void ReceiveStream::SetLast(grpc::ByteBuffer response) {
  absl::MutexLock lock(&mutex_);
  last_ = std::move(response);
}

}  // namespace mlops::rpc
