#include "proto/cpp/wire_status.h"

#include <optional>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "google/rpc/error_details.pb.h"
#include "proto/cpp/base/error.h"

namespace mlops::wire {
namespace {

// gRPC sends the message again, percent-encoded, which may triple its size.
constexpr size_t kMaxMessageBytes = 1024;

// Size of the tags and lengths of a map<string, string> entry.
constexpr size_t kEntryOverheadBytes = 12;

// Whether gRPC itself produces errors with this code, so that they need no
// reason.
bool IsTransportCode(absl::StatusCode code) {
  return code == absl::StatusCode::kCancelled ||
         code == absl::StatusCode::kDeadlineExceeded;
}

google::rpc::ErrorInfo ToErrorInfo(const base::ErrorInfo& info) {
  google::rpc::ErrorInfo proto;
  proto.set_reason(info.reason);
  proto.set_domain(std::string(kErrorDomain));
  for (const auto& [key, value] : info.metadata)
    (*proto.mutable_metadata())[key] = value;
  return proto;
}

// Like ToErrorInfo(), but with only as much of the metadata, in key order, as
// fits into `max_bytes`.
google::rpc::ErrorInfo ToErrorInfoWithin(size_t max_bytes,
                                         base::ErrorInfo info) {
  const auto metadata = std::exchange(info.metadata, {});
  google::rpc::ErrorInfo proto = ToErrorInfo(info);
  size_t used = proto.ByteSizeLong();
  for (const auto& [key, value] : metadata) {
    if (used + key.size() + kEntryOverheadBytes >= max_bytes) break;
    std::string kept =
        base::Echo(value, max_bytes - used - key.size() - kEntryOverheadBytes);
    used += key.size() + kept.size() + kEntryOverheadBytes;
    (*proto.mutable_metadata())[key] = std::move(kept);
  }
  return proto;
}

google::rpc::BadRequest ToBadRequest(const base::ErrorInfo& info) {
  google::rpc::BadRequest proto;
  auto* violation = proto.add_field_violations();
  if (const auto it = info.metadata.find("field"); it != info.metadata.end())
    violation->set_field(it->second);
  if (const auto it = info.metadata.find("problem"); it != info.metadata.end())
    violation->set_description(it->second);
  return proto;
}

google::rpc::RetryInfo ToRetryInfo(absl::Duration delay) {
  const int64_t milliseconds = absl::ToInt64Milliseconds(delay);
  google::rpc::RetryInfo proto;
  proto.mutable_retry_delay()->set_seconds(milliseconds / 1000);
  proto.mutable_retry_delay()->set_nanos(
      static_cast<int32_t>(milliseconds % 1000) * 1'000'000);
  return proto;
}

google::rpc::Status Bare(absl::StatusCode code, absl::string_view message) {
  google::rpc::Status proto;
  proto.set_code(static_cast<int32_t>(code));
  proto.set_message(base::Echo(std::string(message), kMaxMessageBytes));
  return proto;
}

google::rpc::Status WithInfo(google::rpc::Status proto,
                             const base::ErrorInfo& info) {
  // Pack RetryInfo first, because it must survive the truncation below.
  if (info.retry_delay)
    proto.add_details()->PackFrom(ToRetryInfo(*info.retry_delay));
  google::rpc::Status full = proto;
  full.add_details()->PackFrom(ToErrorInfo(info));
  if (info.reason == "FIELD_INVALID")
    full.add_details()->PackFrom(ToBadRequest(info));
  // If the details are too large, drop BadRequest and shorten the metadata.
  if (full.ByteSizeLong() <= kMaxDetailsBytes) return full;

  // Size of the Any around ErrorInfo, including its type URL.
  constexpr size_t kAnyOverheadBytes = 64;
  const size_t room =
      kMaxDetailsBytes - proto.ByteSizeLong() - kAnyOverheadBytes;
  proto.add_details()->PackFrom(ToErrorInfoWithin(room, info));
  return proto;
}

// Returns the first detail of type `Detail` that can be decoded.
template <typename Detail>
std::optional<Detail> FindDetail(const google::rpc::Status& proto) {
  for (const google::protobuf::Any& any : proto.details()) {
    if (Detail detail; any.UnpackTo(&detail)) return detail;
  }
  return std::nullopt;
}

absl::Duration FromProto(const google::protobuf::Duration& proto) {
  return absl::Seconds(proto.seconds()) + absl::Nanoseconds(proto.nanos());
}

absl::Status WithDetails(absl::StatusCode code, const std::string& message,
                         const google::rpc::Status& details) {
  const auto proto = FindDetail<google::rpc::ErrorInfo>(details);
  // Errors of other origins, such as proxies, lack details that we know.
  if (code == absl::StatusCode::kOk || !proto ||
      proto->domain() != kErrorDomain)
    return absl::Status(code, message);
  base::ErrorInfo info{
      .reason = proto->reason(),
      .metadata = {proto->metadata().begin(), proto->metadata().end()}};
  if (const auto retry = FindDetail<google::rpc::RetryInfo>(details))
    info.retry_delay = FromProto(retry->retry_delay());
  return base::MakeError(code, message, std::move(info));
}

}  // namespace

google::rpc::Status ToProto(const absl::Status& status) {
  if (status.ok()) return {};
  if (const auto info = base::GetErrorInfo(status);
      info && !info->reason.empty()) {
    return WithInfo(Bare(status.code(), status.message()), *info);
  }
  if (IsTransportCode(status.code()))
    return Bare(status.code(), status.message());
  return WithInfo(Bare(absl::StatusCode::kInternal, status.message()),
                  {.reason = "IO_ERROR"});
}

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const google::rpc::Status proto = ToProto(status);
  const std::string details =
      proto.details().empty() ? "" : proto.SerializeAsString();
  return grpc::Status(static_cast<grpc::StatusCode>(proto.code()),
                      proto.message(), details);
}

absl::Status FromGrpc(const grpc::Status& status) {
  google::rpc::Status details;
  // Details of other origins may have any format.
  if (!details.ParseFromString(status.error_details())) details.Clear();
  return WithDetails(static_cast<absl::StatusCode>(status.error_code()),
                     status.error_message(), details);
}

absl::Status FromProto(const google::rpc::Status& status) {
  return WithDetails(static_cast<absl::StatusCode>(status.code()),
                     status.message(), status);
}

}  // namespace mlops::wire
