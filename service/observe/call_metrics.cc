#include "service/observe/call_metrics.h"

#include <algorithm>
#include <array>

#include "proto/cpp/base/error.h"

namespace mlops::observe {
namespace {

// The names that gRPC for Go gives to the codes 0 to 16.
constexpr std::array<const char*, 17> kCodeNames = {
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
};

constexpr size_t kMaxLimits = 32;

const char* TypeName(CallMetrics::Type type) {
  switch (type) {
    case CallMetrics::Type::kUnary:
      return "unary";
    case CallMetrics::Type::kServerStream:
      return "server_stream";
    case CallMetrics::Type::kClientStream:
      return "client_stream";
    case CallMetrics::Type::kBidiStream:
      return "bidi_stream";
  }
  return "unknown";
}

// The buckets range from a Get that memory answers to the upload of a large
// file.
std::vector<absl::Duration> CallBounds() {
  std::vector<absl::Duration> bounds;
  for (const double seconds :
       {50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3,
        0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0})
    bounds.push_back(absl::Seconds(seconds));
  return bounds;
}

}  // namespace

CallMetrics::Method::Method(CallMetrics* all)
    : all_(all), seconds_(CallBounds()) {
  static_assert(kCodes == kCodeNames.size());
}

void CallMetrics::Method::Handled(const absl::Status& status,
                                  absl::Duration duration) {
  // Clamp the code, so that an unknown one stays within the array.
  sums_.Add(kFirstCode + std::min<size_t>(status.raw_code(), kCodes - 1));
  seconds_.Observe(duration);
  if (!status.ok()) all_->CountError(status);
}

double CallMetrics::Method::InFlight() const {
  // Read the ends first: a call that ends in between then counts as in flight,
  // and the result is never negative.
  uint64_t ended = 0;
  for (size_t code = 0; code < kCodes; ++code)
    ended += sums_.Get(kFirstCode + code);
  return static_cast<double>(sums_.Get(kStarted) - ended);
}

CallMetrics::CallMetrics(Metrics& metrics, const std::string& service,
                         const std::vector<MethodName>& methods,
                         const std::vector<std::string>& reasons)
    : metrics_(metrics) {
  for (const MethodName& name : methods) AddMethod(service, name);
  // Errors without a known reason count as "".
  AddReason("");
  for (const std::string& reason : reasons) AddReason(reason);
}

void CallMetrics::AddMethod(const std::string& service,
                            const MethodName& name) {
  const Method* const method =
      (methods_[name.name] = std::unique_ptr<Method>(new Method(this))).get();
  const Labels labels = {{"grpc_type", TypeName(name.type)},
                         {"grpc_service", service},
                         {"grpc_method", name.name}};
  const auto add = [&](const char* family, const char* help, size_t index,
                       const Labels& labels) {
    metrics_.AddCounter({family, help}, labels, [method, index] {
      return static_cast<double>(method->sums_.Get(index));
    });
  };
  add("grpc_server_started_total", "Calls that began.", Method::kStarted,
      labels);
  add("grpc_server_msg_received_total", "Messages received from clients.",
      Method::kReceived, labels);
  add("grpc_server_msg_sent_total", "Messages sent to clients.", Method::kSent,
      labels);
  add("workspaced_received_bytes_total",
      "Bytes of messages received from clients.", Method::kReceivedBytes,
      labels);
  add("workspaced_sent_bytes_total", "Bytes of messages sent to clients.",
      Method::kSentBytes, labels);
  // Create the series of all codes now, so that rate() sees the first error.
  for (size_t code = 0; code < kCodeNames.size(); ++code) {
    Labels with_code = labels;
    with_code.emplace_back("grpc_code", kCodeNames[code]);
    add("grpc_server_handled_total", "Calls that ended, by their status code.",
        Method::kFirstCode + code, with_code);
  }
  metrics_.AddHistogram({"grpc_server_handling_seconds",
                         "Time from the begin of a call to its end."},
                        labels, &method->seconds_);
  metrics_.AddGauge(
      {"workspaced_calls_in_flight", "Calls that have begun and not ended."},
      labels, [method] { return method->InFlight(); });
}

void CallMetrics::AddReason(const std::string& reason) {
  const ShardedSums* const sum =
      (reasons_[reason] = std::make_unique<ShardedSums>(1)).get();
  metrics_.AddCounter(
      {"workspaced_errors_total",
       "Calls that ended with an error, by the reason in its ErrorInfo; "
       "\"none\" for errors without a reason."},
      {{"reason", reason.empty() ? "none" : reason}},
      [sum] { return static_cast<double>(sum->Get(0)); });
}

void CallMetrics::CountError(const absl::Status& status) {
  const auto info = base::GetErrorInfo(status);
  const auto reason = reasons_.find(info ? info->reason : "");
  (reason == reasons_.end() ? reasons_.at("") : reason->second)->Add(0);
  if (!info || info->reason != "OVERLOADED") return;
  const auto limit = info->metadata.find("limit");
  if (limit != info->metadata.end()) CountRefusal(limit->second);
}

void CallMetrics::CountRefusal(const std::string& limit) {
  absl::MutexLock lock(&mutex_);
  auto it = limits_.find(limit);
  if (it == limits_.end()) {
    // Bound the number of series, because each stays for the life of the
    // process.
    if (limits_.size() == kMaxLimits) return;
    it = limits_.emplace(limit, std::make_unique<ShardedSums>(1)).first;
    const ShardedSums* const sum = it->second.get();
    metrics_.AddCounter(
        {"workspaced_overloaded_total",
         "Calls refused with OVERLOADED, by the limit that was reached."},
        {{"limit", limit}}, [sum] { return static_cast<double>(sum->Get(0)); });
  }
  it->second->Add(0);
}

}  // namespace mlops::observe
