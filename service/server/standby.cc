#include "service/server/standby.h"

#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/server_builder.h"
#include "mlops/workspace/v1/workspace_service.grpc.pb.h"
#include "proto/cpp/base/status_macros.h"
#include "proto/cpp/wire_status.h"
#include "service/core/errors.h"
#include "service/server/grpc_settings.h"
#include "service/server/identity.h"

namespace mlops::server {
namespace {

// Time for streams of the health and reflection services.
constexpr absl::Duration kStreamGrace = absl::Milliseconds(100);

// A call that ends at once. Deletes itself.
class RefusedCall final : public grpc::ServerGenericBidiReactor {
 public:
  explicit RefusedCall(const absl::Status& why) { Finish(wire::ToGrpc(why)); }
  void OnDone() override { delete this; }
};

}  // namespace

void Standby::Refuser::Set(absl::Status refusal) {
  absl::MutexLock lock(&mutex_);
  refusal_ = std::move(refusal);
}

absl::Status Standby::Refuser::Get() const {
  absl::MutexLock lock(&mutex_);
  return refusal_;
}

grpc::ServerGenericBidiReactor* Standby::Refuser::CreateReactor(
    grpc::GenericCallbackServerContext*) {
  return new RefusedCall(Get());
}

absl::StatusOr<std::unique_ptr<Standby>> Standby::Start(
    const Config& config, std::unique_ptr<Acceptor> acceptor,
    std::function<std::string()> metrics) {
  auto standby = std::unique_ptr<Standby>(new Standby(std::move(acceptor)));
  // Set an error before the first call can arrive.
  standby->SetRefusal(core::StandsBy("another server serves"));
  ASSIGN_OR_RETURN(standby->tls_, LoadTls(config));
  RETURN_IF_ERROR(standby->StartGrpc());
  if (config.metrics.empty()) return standby;
  ASSIGN_OR_RETURN(standby->metrics_http_,
                   MetricsHttp::Start(config.metrics,
                                      {.metrics = std::move(metrics),
                                       .ready = [&refuser = standby->refuser_] {
                                         return refuser.Get();
                                       }}));
  return standby;
}

absl::Status Standby::StartGrpc() {
  grpc::ServerBuilder builder;
  ApplyGrpcSettings(builder, receive_quota_.quota());
  connections_ = std::make_unique<Connections>(builder, tls_.get());
  builder.RegisterCallbackGenericService(&refuser_);
  server_ = builder.BuildAndStart();
  if (server_ == nullptr)
    return absl::FailedPreconditionError("gRPC failed to start");
  // Set both the service and the whole server, because clients may ask for
  // either.
  grpc::HealthCheckServiceInterface& health = *server_->GetHealthCheckService();
  health.SetServingStatus(workspace::v1::WorkspaceService::service_full_name(),
                          false);
  health.SetServingStatus(false);
  connections_->Accept(*acceptor_);
  return absl::OkStatus();
}

void Standby::ReloadTls() {
  if (tls_ != nullptr) tls_->Reload().IgnoreError();
}

Standby::~Standby() {
  // Close the connections first, so that clients get UNAVAILABLE, which they
  // retry.
  acceptor_->Stop();
  if (server_ == nullptr) return;
  server_->Shutdown(absl::ToChronoTime(absl::Now() + kStreamGrace));
  server_->Wait();
}

}  // namespace mlops::server
