#ifndef MLOPS_SERVICE_SERVER_STANDBY_H_
#define MLOPS_SERVICE_SERVER_STANDBY_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "grpcpp/generic/async_generic_service.h"
#include "grpcpp/server.h"
#include "service/rpc/receive_quota.h"
#include "service/server/acceptor.h"
#include "service/server/config.h"
#include "service/server/connections.h"
#include "service/server/credentials.h"
#include "service/server/metrics_http.h"

namespace mlops::server {

// Answers clients while another server holds the base, so that clients with
// several addresses find the server that serves. Answers health checks with
// NOT_SERVING, and all calls with UNAVAILABLE/SHUTTING_DOWN, whoever the caller
// is. Not thread-safe.
class Standby {
 public:
  // Starts to answer on the addresses of `acceptor`, with TLS if `config` has
  // it. On `config.metrics`, answers /readyz with 503 and /metrics with the
  // text of `metrics`, which another thread calls. Returns FAILED_PRECONDITION,
  // as a sentence for the operator, if the metrics address cannot be bound or a
  // TLS file cannot be used.
  static absl::StatusOr<std::unique_ptr<Standby>> Start(
      const Config& config, std::unique_ptr<Acceptor> acceptor,
      std::function<std::string()> metrics);

  // Closes all connections and addresses, within about 0.1 s.
  ~Standby();

  // The addresses, with the actual ports.
  const std::vector<std::string>& addresses() const {
    return acceptor_->addresses();
  }

  // Sets the error for all later calls, which is also the text of /readyz.
  void SetRefusal(absl::Status refusal) { refuser_.Set(std::move(refusal)); }

  // Rereads the TLS files if they have changed. Call it several times a second.
  // Does not report an unusable file, because the server that stands by has
  // read it too.
  void ReloadTls();

 private:
  // Refuses every call of every service, except health and reflection.
  // Thread-safe.
  class Refuser final : public grpc::CallbackGenericService {
   public:
    void Set(absl::Status refusal) ABSL_LOCKS_EXCLUDED(mutex_);
    absl::Status Get() const ABSL_LOCKS_EXCLUDED(mutex_);
    grpc::ServerGenericBidiReactor* CreateReactor(
        grpc::GenericCallbackServerContext* context) override;

   private:
    mutable absl::Mutex mutex_;
    absl::Status refusal_ ABSL_GUARDED_BY(mutex_);
  };

  explicit Standby(std::unique_ptr<Acceptor> acceptor)
      : acceptor_(std::move(acceptor)) {}

  absl::Status StartGrpc();

  // In order of dependency; destroyed in reverse order.
  Refuser refuser_;
  rpc::ReceiveQuota receive_quota_;
  std::unique_ptr<TlsCredentials> tls_;  // Null without TLS.
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Connections> connections_;
  const std::unique_ptr<Acceptor> acceptor_;
  std::unique_ptr<MetricsHttp> metrics_http_;  // Null without --metrics.
};

}  // namespace mlops::server

#endif  // MLOPS_SERVICE_SERVER_STANDBY_H_
