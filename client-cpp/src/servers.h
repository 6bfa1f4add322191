#ifndef MLOPS_CLIENT_CPP_SRC_SERVERS_H_
#define MLOPS_CLIENT_CPP_SRC_SERVERS_H_

#include <atomic>
#include <memory>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client-cpp/src/address.h"
#include "client-cpp/src/credentials.h"
#include "client-cpp/src/grpc_call.h"
#include "grpcpp/channel.h"
#include "grpcpp/support/channel_arguments.h"
#include "mlops/workspace/v1/workspace_service.grpc.pb.h"

namespace mlops::internal {

// A server, and the channel to it.
struct Server {
  std::string address;
  // Outlives `channel`.
  GrpcTarget target;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<workspace::v1::WorkspaceService::Stub> stub;
  GrpcStreams streams;
};

// The server that a client calls, or several of which one serves at a time
// while the others stand by: those do not listen, or report NOT_SERVING to
// health checks. Thread-safe.
class Servers {
 public:
  // `servers` must not be empty. Health checks carry the token of
  // `credentials`, because proxies may ask for it.
  Servers(std::vector<std::unique_ptr<Server>> servers, Credentials credentials)
      : servers_(std::move(servers)),
        credentials_(std::move(credentials)),
        current_(servers_.front().get()) {}

  // Returns the server for the next call. If there are several and the current
  // one is not connected, asks them all, and waits until one serves, for at
  // most 10 s. If none does, returns the current one, whose error the caller
  // gets.
  const Server& Choose(absl::Time deadline, const std::stop_token& stop);

  // Returns whether a call that failed with `error` at the current server may
  // be sent to another one. `repeatable` is whether it may be sent twice.
  // Then Choose() asks the servers again.
  bool MayMove(const absl::Status& error, bool repeatable);

 private:
  const Server* FindServing(absl::Time deadline) const;

  const std::vector<std::unique_ptr<Server>> servers_;
  const Credentials credentials_;
  std::atomic<const Server*> current_;
  // Whether a call showed that the current server no longer serves.
  std::atomic<bool> lost_ = false;
};

}  // namespace mlops::internal

#endif  // MLOPS_CLIENT_CPP_SRC_SERVERS_H_
