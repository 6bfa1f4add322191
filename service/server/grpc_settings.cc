#include "service/server/grpc_settings.h"

#include "absl/synchronization/mutex.h"
#include "grpc/grpc.h"
#include "grpc/health/v1/health.pb.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/resource_quota.h"
#include "mlops/workspace/v1/error_reason.pb.h"

namespace mlops::server {
namespace {

// A chunk of 4 MiB with all that may stand beside it.
constexpr int kMaxMessageBytes = 4 * 1024 * 1024 + 64 * 1024;
constexpr int kMaxStreamsPerConnection = 1024;
constexpr int kMinPingIntervalMs = 10'000;
// A connection that says nothing is closed within 5 s, the timer's own delay
// included.
constexpr int kHandshakeTimeoutMs = 4'500;
// A connection that was silent for so long is asked whether its client is still
// there.
constexpr int kKeepaliveTimeMs = 120'000;
// Reflection, which is not ours to make asynchronous, keeps a thread for each
// of its streams.
constexpr int kMaxGrpcThreads = 64;
constexpr size_t kMaxRequestMemoryBytes = 512 * 1024 * 1024;
// Two messages, and what the connection reads ahead.
constexpr size_t kMaxStreamMemoryBytes = 9 * 1024 * 1024;

}  // namespace

void ApplyGrpcSettings(grpc::ServerBuilder& builder, int max_artifact_streams) {
  // Debian builds Abseil, whose mutexes gRPC uses too, with its search for
  // deadlocks, under one lock for all of them. ThreadSanitizer does that
  // better.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  grpc::EnableDefaultHealthCheckService(true);
  // Reflection describes what is linked in. Nothing else refers to the
  // descriptors of the health service and of the reasons; those of the error
  // details come with proto/cpp/wire_status.
  google::protobuf::LinkMessageReflection<
      grpc::health::v1::HealthCheckRequest>();
  workspace::v1::ErrorReason_descriptor();
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
  const size_t memory_bytes =
      kMaxRequestMemoryBytes +
      static_cast<size_t>(max_artifact_streams) * kMaxStreamMemoryBytes;
  builder.SetResourceQuota(grpc::ResourceQuota("requests")
                               .Resize(memory_bytes)
                               .SetMaxThreads(kMaxGrpcThreads));
  // Without this a second server could take the same TCP port, silently.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS,
                             kMaxStreamsPerConnection);
  builder.AddChannelArgument(
      GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
      kMinPingIntervalMs);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS,
                             kHandshakeTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveTimeMs);
}

}  // namespace mlops::server
