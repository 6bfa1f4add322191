#include "service/rpc/receive_quota.h"

#include <cstddef>

namespace mlops::rpc {
namespace {

// For unary requests and the first messages of uploads, which gRPC frees as
// soon as they are handled. gRPC checks the quota after each read, so attackers
// can exceed it, on a fast machine by 160 MiB. With 112 MiB, uploads that begin
// at the same time fail.
constexpr size_t kFixedBytes = 160 * 1024 * 1024;
// One message of the largest size. An upload of smaller messages leaves the
// rest for what its connection reads ahead.
constexpr size_t kUploadBytes = 4 * 1024 * 1024;
// gRPC's reflection service is synchronous and occupies one thread per stream.
constexpr int kMaxGrpcThreads = 64;

}  // namespace

ReceiveQuota::ReceiveQuota() : quota_("requests") {
  quota_.SetMaxThreads(kMaxGrpcThreads);
  quota_.Resize(kFixedBytes);
}

void ReceiveQuota::Add(int uploads) {
  absl::MutexLock lock(&mutex_);
  uploads_ += uploads;
  quota_.Resize(kFixedBytes + static_cast<size_t>(uploads_) * kUploadBytes);
}

}  // namespace mlops::rpc
