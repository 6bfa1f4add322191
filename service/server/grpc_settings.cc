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

// A chunk of 4 MiB, plus room for the other fields.
constexpr int kMaxMessageBytes = 4 * 1024 * 1024 + 64 * 1024;
constexpr int kMaxStreamsPerConnection = 1024;
constexpr int kMinPingIntervalMs = 10'000;
// Closes an idle new connection within 5 s, including the timer's own delay.
constexpr int kHandshakeTimeoutMs = 4'500;
// gRPC pings a client whose connection has been silent for this long.
constexpr int kKeepaliveTimeMs = 120'000;

}  // namespace

void ApplyGrpcSettings(grpc::ServerBuilder& builder,
                       const grpc::ResourceQuota& quota) {
  // Debian builds Abseil with deadlock detection, which makes all mutexes,
  // including gRPC's, take one global lock. ThreadSanitizer detects deadlocks
  // better.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  grpc::EnableDefaultHealthCheckService(true);
  // Reflection serves only the descriptors that are linked in. Nothing else
  // refers to those of the health service and of the error reasons. Those of
  // the error details come with proto/cpp/wire_status.
  google::protobuf::LinkMessageReflection<
      grpc::health::v1::HealthCheckRequest>();
  workspace::v1::ErrorReason_descriptor();
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
  builder.SetResourceQuota(quota);
  // Without this, a second server could silently bind the same TCP port.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS,
                             kMaxStreamsPerConnection);
  // Clients may ping idle connections, but not so often that it costs the
  // server.
  builder.AddChannelArgument(
      GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
      kMinPingIntervalMs);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS,
                             kHandshakeTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveTimeMs);
}

}  // namespace mlops::server
