#ifndef MLOPS_SERVICE_RPC_CALL_INFO_H_
#define MLOPS_SERVICE_RPC_CALL_INFO_H_

#include <string>

#include "absl/strings/string_view.h"
#include "grpcpp/server_context.h"
#include "service/auth/caller.h"
#include "service/rpc/caller_limits.h"
#include "service/rpc/method_table.h"
#include "service/rpc/steady_clock.h"

namespace mlops::rpc {

// The facts about one call for its checks, log line, audit record and metrics.
// Not thread-safe.
struct CallInfo {
  CallInfo(const Method& method, grpc::CallbackServerContext* context)
      : method(method), context(context) {}

  // Adds the fields of a decoded request. `path` and `etag` stay "" if the
  // request has none.
  template <typename Request>
  void Describe(const Request& request) {
    if constexpr (requires { request.project(); }) {
      project = request.project();
    } else if constexpr (requires { request.workspace().project(); }) {
      project = request.workspace().project();
    }
    if constexpr (requires { request.path(); }) path = request.path();
    if constexpr (requires { request.destination_path(); })
      destination = request.destination_path();
    if constexpr (requires { request.etag(); }) old_etag = request.etag();
    if constexpr (requires { request.request_id(); })
      request_id = request.request_id();
    if constexpr (requires { request.validate_only(); })
      changes_nothing = request.validate_only();
  }
  // Adds what a response says about the workspace or artifact.
  template <typename Response>
  void DescribeResult(const Response& response) {
    if constexpr (requires { response.workspace().uid(); }) {
      DescribeResult(response.workspace());
    } else {
      if constexpr (requires { response.uid(); }) uid = response.uid();
      if constexpr (requires { response.etag(); }) new_etag = response.etag();
    }
  }

  // Frees the request's texts once the call is recorded, because the client may
  // take long to read the answer.
  void Forget() {
    for (std::string* text :
         {&project, &path, &destination, &request_id, &old_etag})
      *text = std::string();
  }

  const Method& method;
  grpc::CallbackServerContext* const context;
  const SteadyClock::time_point started = SteadyClock::now();
  // Set by Calls::Admit().
  auth::Caller caller;
  CallerLimits::Share share;
  // "" until the request is decoded, and for requests that name no project.
  std::string project;
  std::string path;
  std::string destination;  // Of Move and Copy.
  std::string request_id;
  // Set if this call changes nothing, although its method can.
  bool changes_nothing = false;
  // What the call changes, as far as known: the uid of a workspace, and the
  // etags of a workspace or an artifact.
  std::string uid, old_etag, new_etag;
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_CALL_INFO_H_
