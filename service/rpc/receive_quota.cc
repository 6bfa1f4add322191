#include "service/rpc/receive_quota.h"

namespace mlops::rpc {
namespace {

// Unary requests are small, and gRPC frees them as soon as they are handled.
constexpr size_t kRequestBytes = 48 * 1024 * 1024;
// One message of the recommended size, and what the connection reads ahead.
constexpr size_t kStreamBytes = 1280 * 1024;
// One more message of the largest size.
constexpr size_t kUploadBytes = 4 * 1024 * 1024;
// gRPC's reflection service is synchronous and occupies one thread per stream.
constexpr int kMaxGrpcThreads = 64;

}  // namespace

ReceiveQuota::ReceiveQuota(int max_streams)
    : fixed_bytes_(kRequestBytes +
                   static_cast<size_t>(max_streams) * kStreamBytes),
      quota_("requests") {
  quota_.SetMaxThreads(kMaxGrpcThreads);
  quota_.Resize(fixed_bytes_);
}

void ReceiveQuota::Add(int uploads) {
  absl::MutexLock lock(&mutex_);
  uploads_ += uploads;
  quota_.Resize(fixed_bytes_ + uploads_ * kUploadBytes);
}

}  // namespace mlops::rpc
