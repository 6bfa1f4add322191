#include "client-cpp/src/servers.h"

#include <algorithm>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/client_context.h"
#include "mlops/workspace_client.h"

namespace mlops::internal {
namespace {

namespace health = grpc::health::v1;

constexpr absl::Duration kMaxWait = absl::Seconds(10);
constexpr absl::Duration kProbeTimeout = absl::Seconds(2);
constexpr absl::Duration kPause = absl::Milliseconds(50);

// Whether a server refuses this client, as it would refuse any call.
bool IsRefusal(const grpc::Status& status) {
  return status.error_code() == grpc::StatusCode::UNAUTHENTICATED ||
         status.error_code() == grpc::StatusCode::PERMISSION_DENIED;
}

// A health check in flight.
struct Probe {
  explicit Probe(const Server& server)
      : server(server), stub(health::Health::NewStub(server.channel)) {}

  const Server& server;
  const std::unique_ptr<health::Health::Stub> stub;
  grpc::ClientContext context;
  health::HealthCheckRequest request;
  health::HealthCheckResponse response;
};

// Concurrent health checks of all servers.
class Round {
 public:
  // Starts the checks.
  Round(const std::vector<std::unique_ptr<Server>>& servers,
        const std::string& authorization, absl::Time deadline) {
    running_ = servers.size();
    for (const auto& server : servers) {
      Probe& probe = *probes_.emplace_back(std::make_unique<Probe>(*server));
      probe.request.set_service(
          workspace::v1::WorkspaceService::service_full_name());
      probe.context.set_deadline(absl::ToChronoTime(deadline));
      if (!authorization.empty())
        probe.context.AddMetadata("authorization", authorization);
    }
    for (const auto& probe : probes_) Begin(*probe);
  }

  // Waits for the first server that serves, and cancels the other checks.
  // Returns null if none serves.
  const Server* Wait() {
    absl::MutexLock lock(&mutex_);
    const auto decided = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return serving_ != nullptr || running_ == 0;
    };
    mutex_.Await(absl::Condition(&decided));
    for (const auto& probe : probes_) probe->context.TryCancel();
    // The callbacks use this object, so wait for all of them.
    const auto ended = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return running_ == 0;
    };
    mutex_.Await(absl::Condition(&ended));
    return serving_;
  }

 private:
  void Begin(Probe& probe) {
    probe.stub->async()->Check(
        &probe.context, &probe.request, &probe.response,
        [this, &probe](const grpc::Status& status) {
          absl::MutexLock lock(&mutex_);
          // A server that refuses this client serves: its error tells the
          // caller more.
          const bool serves =
              IsRefusal(status) ||
              (status.ok() &&
               probe.response.status() == health::HealthCheckResponse::SERVING);
          if (serves && serving_ == nullptr) serving_ = &probe.server;
          --running_;
        });
  }

  std::vector<std::unique_ptr<Probe>> probes_;
  absl::Mutex mutex_;
  size_t running_ ABSL_GUARDED_BY(mutex_);
  const Server* serving_ ABSL_GUARDED_BY(mutex_) = nullptr;
};

}  // namespace

const Server& Servers::Choose(absl::Time deadline,
                              const std::stop_token& stop) {
  const Server* current = current_;
  if (servers_.size() == 1) return *current;
  // A connected server needs no health check, which saves a round trip per
  // call.
  if (!lost_ && current->channel->GetState(false) == GRPC_CHANNEL_READY)
    return *current;
  // Bound the wait, so that the caller gets an error when all servers are down.
  const absl::Time give_up = std::min(deadline, absl::Now() + kMaxWait);
  do {
    if (const Server* found = FindServing(give_up)) {
      current_ = found;
      lost_ = false;
      return *found;
    }
    absl::SleepFor(kPause);
  } while (absl::Now() < give_up && !stop.stop_requested());
  return *current;
}

const Server* Servers::FindServing(absl::Time deadline) const {
  return Round(servers_, credentials_.Authorization(),
               std::min(deadline, absl::Now() + kProbeTimeout))
      .Wait();
}

bool Servers::MayMove(const absl::Status& error, bool repeatable) {
  if (servers_.size() == 1) return false;
  const std::string reason = ErrorReason(error);
  // The server has not started the call.
  const bool leaving = reason == "SHUTTING_DOWN";
  // The connection broke, so the outcome is unknown.
  const bool broken = absl::IsUnavailable(error) && reason.empty();
  // The server's host may have disappeared.
  const bool silent = absl::IsDeadlineExceeded(error);
  if (leaving || broken || silent) lost_ = true;
  return leaving || (broken && repeatable);
}

}  // namespace mlops::internal
