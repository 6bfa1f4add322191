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

// A server and the channel to it.
struct Server {
  std::string address;
  // Must outlive `channel`.
  GrpcTarget target;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<workspace::v1::WorkspaceService::Stub> stub;
  GrpcStreams streams;
};

// The server that a client calls, or several servers of which one serves at a
// time while the others stand by. A standby server either does not listen, or
// reports NOT_SERVING to health checks. Thread-safe.
class Servers {
 public:
  // `servers` must not be empty. Health checks carry the token of
  // `credentials`, because proxies may require it.
  Servers(std::vector<std::unique_ptr<Server>> servers, Credentials credentials)
      : servers_(std::move(servers)),
        credentials_(std::move(credentials)),
        current_(servers_.front().get()) {}

  // Returns the server for the next call. If there are several and the current
  // one is not connected, checks all of them and waits at most 10 s until one
  // serves. If none does, returns the current one, so that the caller gets its
  // error.
  const Server& Choose(absl::Time deadline, const std::stop_token& stop);

  // Returns whether a call that failed with `error` at the current server may
  // be sent to another one. `repeatable` says whether the call may be sent
  // twice. If the server may be gone, the next Choose() checks the servers
  // again.
  bool MayMove(const absl::Status& error, bool repeatable);

 private:
  const Server* FindServing(absl::Time deadline) const;

  const std::vector<std::unique_ptr<Server>> servers_;
  const Credentials credentials_;
  std::atomic<const Server*> current_;
  // Whether a call has shown that the current server no longer serves.
  std::atomic<bool> lost_ = false;
};

}  // namespace mlops::internal

#endif  // MLOPS_CLIENT_CPP_SRC_SERVERS_H_
