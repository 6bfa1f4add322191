#ifndef MLOPS_SERVICE_RPC_CALL_H_
#define MLOPS_SERVICE_RPC_CALL_H_

#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"
#include "proto/cpp/wire_status.h"
#include "service/base/thread_pool.h"
#include "service/core/errors.h"
#include "service/observe/log.h"
#include "service/rpc/method_table.h"

namespace mlops::rpc {

// The one wrapper that every handler goes through. It refuses a call that nobody waits for any more, picks the thread,
// maps the status to the wire and logs the call. Thread-safe.
class Calls {
 public:
  // All must outlive this.
  Calls(base::ThreadPool* workers, base::ThreadPool* whole_file_workers, observe::Log* log)
      : workers_(workers), whole_file_workers_(whole_file_workers), log_(log) {}

  // Answers a unary call with `handler(request, response)`, which returns an absl::Status.
  template <typename Request, typename Response, typename Handler>
  grpc::ServerUnaryReactor* Unary(const Method& method, grpc::CallbackServerContext* context, const Request* request,
                                  Response* response, Handler handler) {
    const auto never = [](const Request&, Response*) { return std::nullopt; };
    return UnaryUnless(never, method, context, request, response, std::move(handler));
  }

  // As Unary(), unless `at_once(request, response)`, which runs on gRPC's own thread and must not keep it, answers
  // already: it returns an absl::Status, or nullopt where it takes the handler.
  template <typename AtOnce, typename Request, typename Response, typename Handler>
  grpc::ServerUnaryReactor* UnaryUnless(AtOnce at_once, const Method& method, grpc::CallbackServerContext* context,
                                        const Request* request, Response* response, Handler handler) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    const absl::Time started = Begin();
    const auto answer = [&](absl::Status status) {
      reactor->Finish(End(method, SubjectOf(*request), std::move(status), started, *context));
      return reactor;
    };
    if (draining()) return answer(core::ShuttingDown());
    if (std::optional<absl::Status> status = at_once(*request, response)) return answer(*std::move(status));
    auto run = [this, &method, context, request, response, reactor, started, handler = std::move(handler)] {
      // A call that is answered at once has not waited.
      absl::Status status = method.lane == Lane::kInline ? absl::OkStatus() : CheckWanted(*context);
      if (status.ok()) status = handler(*request, response);
      reactor->Finish(End(method, SubjectOf(*request), std::move(status), started, *context));
    };
    if (method.lane == Lane::kInline) {
      run();
    } else if (!PoolOf(method.lane).TrySchedule(std::move(run))) {
      return answer(TooMany());
    }
    return reactor;
  }

  // For streams, which drive themselves: Begin() and End() around the call, CheckWanted() before each message. End()
  // logs the call and returns its status for the wire, with the project that the call is about among its metadata.
  absl::Time Begin();
  absl::Status CheckWanted(const grpc::CallbackServerContext& context) const;
  grpc::Status End(const Method& method, absl::string_view project, absl::Status status, absl::Time started,
                   const grpc::CallbackServerContext& context);
  base::ThreadPool& workers() { return *workers_; }
  static absl::Status TooMany();

  // From now on calls are refused with SHUTTING_DOWN, and streams end with it at their next message; unary calls that
  // have begun are answered.
  void Drain() { draining_ = true; }
  bool draining() const { return draining_.load(std::memory_order_relaxed); }

  // How long no call has been running; zero while one is.
  absl::Duration IdleTime() const;

 private:
  // The project that a request is about: ListWorkspaces and GetServerInfo have none.
  template <typename Request>
  static absl::string_view SubjectOf(const Request& request) {
    if constexpr (requires { request.project(); }) {
      return request.project();
    } else if constexpr (requires { request.workspace().project(); }) {
      return request.workspace().project();
    } else {
      return "";
    }
  }

  base::ThreadPool& PoolOf(Lane lane) const { return lane == Lane::kWholeFile ? *whole_file_workers_ : *workers_; }

  base::ThreadPool* const workers_;
  base::ThreadPool* const whole_file_workers_;
  observe::Log* const log_;
  std::atomic<bool> draining_ = false;
  std::atomic<int> running_ = 0;
  std::atomic<int64_t> last_end_ns_ = absl::GetCurrentTimeNanos();
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_CALL_H_
