#ifndef MLOPS_CLIENT_CPP_SRC_GRPC_CALL_H_
#define MLOPS_CLIENT_CPP_SRC_GRPC_CALL_H_

#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "client-cpp/src/connection.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "grpcpp/impl/rpc_method.h"
#include "grpcpp/support/status.h"

namespace mlops::internal {

// The context of one call. Cancels the call when a stop is requested, and names
// the server in errors. Not thread-safe.
class ClientCall {
 public:
  // Error messages contain `address`. The call sends `authorization` unless it
  // is empty.
  ClientCall(const std::string& address, const std::string& authorization,
             const CallOptions& call)
      : address_(address),
        stop_(call.stop),
        on_stop_(stop_, [this] { context_.TryCancel(); }) {
    if (!authorization.empty())
      context_.AddMetadata("authorization", authorization);
  }

  grpc::ClientContext& context() { return context_; }

  // Converts the status of the call. Adds the server's address to gRPC's own
  // errors, which do not name the server.
  absl::Status ToAbsl(const grpc::Status& status) const;

 private:
  const std::string address_;
  const std::stop_token stop_;
  grpc::ClientContext context_;
  const std::stop_callback<std::function<void()>> on_stop_;
};

// Opens ReadArtifact and WriteArtifact streams. Passes their messages to gRPC
// as bytes, which avoids copies of the payload. Thread-safe; must outlive the
// streams.
class GrpcStreams {
 public:
  explicit GrpcStreams(std::shared_ptr<grpc::Channel> channel);

  std::unique_ptr<ReadStream> Read(
      std::unique_ptr<ClientCall> call,
      const workspace::v1::ReadArtifactRequest& request) const;
  std::unique_ptr<WriteStream> Write(std::unique_ptr<ClientCall> call) const;

 private:
  const std::shared_ptr<grpc::Channel> channel_;
  const grpc::internal::RpcMethod read_method_;
  const grpc::internal::RpcMethod write_method_;
};

}  // namespace mlops::internal

#endif  // MLOPS_CLIENT_CPP_SRC_GRPC_CALL_H_
