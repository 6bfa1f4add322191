#include "service/rpc/call.h"

#include <chrono>
#include <utility>

#include "proto/cpp/base/error.h"
#include "service/core/errors.h"

namespace mlops::rpc {

absl::Time Calls::Begin() {
  running_.fetch_add(1, std::memory_order_relaxed);
  return absl::Now();
}

absl::Status Calls::CheckWanted(const grpc::CallbackServerContext& context) const {
  // The deadline may have passed, or the client left, while the call waited for a thread.
  if (context.IsCancelled()) return absl::CancelledError("the client left before the call began");
  if (context.deadline() < std::chrono::system_clock::now()) {
    return absl::DeadlineExceededError("the deadline passed before the call began; nothing was changed");
  }
  return absl::OkStatus();
}

grpc::Status Calls::End(const Method& method, absl::string_view project, absl::Status status, absl::Time started,
                        const grpc::CallbackServerContext& context) {
  const absl::Time now = absl::Now();
  // peer() makes a string, three times over.
  if (log_->Wants(status)) log_->Call(method.name, project, status, now - started, context.peer());
  last_end_ns_.store(absl::ToUnixNanos(now), std::memory_order_relaxed);
  running_.fetch_sub(1, std::memory_order_relaxed);
  if (status.ok()) return grpc::Status::OK;
  if (!project.empty()) status = base::WithMetadata(std::move(status), "project", project);
  return wire::ToGrpc(status);
}

absl::Status Calls::TooMany() { return core::Overloaded("calls that wait for a worker", absl::Milliseconds(200)); }

absl::Duration Calls::IdleTime() const {
  if (running_.load(std::memory_order_relaxed) > 0) return absl::ZeroDuration();
  return absl::Now() - absl::FromUnixNanos(last_end_ns_.load(std::memory_order_relaxed));
}

}  // namespace mlops::rpc
