#ifndef MLOPS_SERVICE_RPC_CALL_H_
#define MLOPS_SERVICE_RPC_CALL_H_

#include <atomic>
#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "google/protobuf/arena.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "service/auth/gate.h"
#include "service/auth/policy.h"
#include "service/base/thread_pool.h"
#include "service/core/authority.h"
#include "service/observe/audit.h"
#include "service/observe/call_metrics.h"
#include "service/observe/log.h"
#include "service/rpc/byte_budget.h"
#include "service/rpc/call_info.h"
#include "service/rpc/caller_limits.h"
#include "service/rpc/convert.h"
#include "service/rpc/identify.h"
#include "service/rpc/live_calls.h"
#include "service/rpc/method_table.h"
#include "service/rpc/pacer.h"

namespace mlops::rpc {

// Maximum size of a request to a method that receives no data. The largest
// legal metadata, 32,000 zeros, takes 353 KiB on the wire.
inline constexpr size_t kMaxRequestBytes = 512 << 10;
// Returns INVALID_ARGUMENT/FIELD_INVALID if a request is larger.
absl::Status CheckRequestSize(size_t size);

// A unary call with its encoded request and response.
struct UnaryBytes {
  CallInfo call;
  grpc::ByteBuffer request;
  // Owned by gRPC.
  grpc::ByteBuffer* response;
};

struct CallOptions {
  // A call ends if its client neither reads nor sends what the server waits for
  // during this time.
  absl::Duration idle_timeout = absl::Minutes(2);
  // Called with the peer of each call that its client cancels.
  std::function<void(const std::string& peer)> on_cancel;
  // Closes the connection of a peer that has stopped reading it.
  std::function<void(const std::string& peer)> disconnect;
  // While it returns true, the server refuses calls as after Drain(). It runs
  // for every call, so it must be fast.
  std::function<bool()> is_lost;
  // Decides who calls and what callers may do. If null, everybody may do
  // everything.
  const auth::Gate* gate = nullptr;
  PeerFacts peers;
  // Whether every call is identified. If false, only CallerOf() identifies the
  // caller, which saves a microsecond per call where everybody may do
  // everything.
  bool identifies_all = true;
  // Memory for the unread messages of status and watch streams.
  size_t unread_bytes = size_t{64} << 20;
  // Each may be null, in which case nothing is recorded.
  observe::CallMetrics* metrics = nullptr;
  observe::AuditLog* audit = nullptr;
  // Whether calls that change nothing are audited too.
  bool audit_reads = false;
};

// The wrapper around every handler. Identifies the caller, picks the thread,
// maps the status to the wire, and records the call in the log, the metrics and
// the audit log. Refuses calls that are too large, that are not permitted, that
// their clients have abandoned, or that arrive while the server does not serve.
// Bounds the memory of requests and responses. Thread-safe.
class Calls {
 public:
  // All pointers, including those in `options`, must outlive this.
  Calls(base::ThreadPool* workers, base::ThreadPool* whole_file_workers,
        observe::Log* log, CallOptions options = {})
      : workers_(workers),
        whole_file_workers_(whole_file_workers),
        log_(log),
        options_(std::move(options)) {}

  // Answers a unary call with `handler(request, response)` or
  // `handler(request, response, call_info)`, which returns an absl::Status. If
  // `Response` is grpc::ByteBuffer, the handler encodes the response. The
  // request is decoded only when the handler runs, so a queued call holds no
  // more than its bytes.
  template <typename Request, typename Response, typename Handler>
  grpc::ServerUnaryReactor* Unary(const Method& method,
                                  grpc::CallbackServerContext* context,
                                  const grpc::ByteBuffer* request,
                                  grpc::ByteBuffer* response, Handler handler) {
    return Start(method, context, request, response, std::nullopt,
                 Decoded<Request, Response>(this, std::move(handler)));
  }

  // Like Unary(), but first tries `at_once(request, response)`, which runs on
  // gRPC's own thread and must not block it. `at_once` returns the status of
  // the call, or nullopt if `handler` must answer.
  template <typename Request, typename Response, typename AtOnce,
            typename Handler>
  grpc::ServerUnaryReactor* UnaryUnless(AtOnce at_once, const Method& method,
                                        grpc::CallbackServerContext* context,
                                        const grpc::ByteBuffer* request,
                                        grpc::ByteBuffer* response,
                                        Handler handler) {
    const auto decoded = Decoded<Request, Response>(this, std::move(at_once));
    return Start(method, context, request, response, decoded,
                 Decoded<Request, Response>(this, std::move(handler)));
  }

  // For streams, which drive themselves. A stream calls Begin() and End()
  // around the call, Admit() when it begins, Authorize() once it knows its
  // project, and CheckWanted() before each step.
  void Begin(const CallInfo& call);
  // Returns UNAVAILABLE/SHUTTING_DOWN if no new call may begin,
  // UNAUTHENTICATED/CREDENTIALS_INVALID if the caller has not proved who it is,
  // and UNAVAILABLE/OVERLOADED if it has too much in flight. Otherwise sets
  // `call.caller`.
  absl::Status Admit(CallInfo& call, const CallerLimits::Use& use);
  // Returns PERMISSION_DENIED/PERMISSION_MISSING if the caller may not make
  // this call on `call.project`, and the audit log's error if the call would
  // change something that could not be recorded.
  absl::Status Authorize(const CallInfo& call) const;
  // Returns PERMISSION_DENIED/PERMISSION_MISSING if the caller may not call
  // `method` on `call.project`.
  absl::Status CheckPolicy(const CallInfo& call, const Method& method) const;
  // Returns CANCELLED or DEADLINE_EXCEEDED (no reason) if the client no longer
  // waits for the call.
  absl::Status CheckWanted(const grpc::CallbackServerContext& context) const;
  // Records the call and returns its status for the wire. Adds the project
  // to the metadata of an error.
  grpc::Status End(const CallInfo& call, absl::Status status);
  // Counts a message of a stream.
  void CountReceived(const CallInfo& call, size_t bytes);
  void CountSent(const CallInfo& call, size_t bytes);
  // Rechecks the caller of a long call that names no project. Returns an error
  // if the caller's credentials or permissions have been withdrawn.
  absl::Status CheckAgain(const CallInfo& call) const;
  // Returns which projects a list by `method` may show to the caller.
  core::Sight SightOf(const CallInfo& call, const Method& method) const;
  core::Sight SightOf(const CallInfo& call) const {
    return SightOf(call, call.method);
  }
  // Identifies the view that SightOf() grants; "" if it shows everything.
  // Callers with equal identifiers see the same projects.
  std::string ViewOf(const CallInfo& call, const Method& method) const;
  // Returns the caller, and what the caller may do.
  absl::StatusOr<auth::Caller> CallerOf(const CallInfo& call) const;
  std::vector<auth::Policy::Grant> GrantsOf(const auth::Caller& caller) const;
  // Must be called once gRPC is done with a call, because it has sent the end
  // or the client has disconnected.
  void Sent() { unsent_.fetch_sub(1, std::memory_order_relaxed); }
  // Must be called once per call when its client cancels it.
  void NoteCancelled(const grpc::CallbackServerContext& context);
  base::ThreadPool& workers() { return *workers_; }
  // Returns UNAVAILABLE/OVERLOADED, for a call that finds the queue full.
  static absl::Status TooMany();

  // For calls and streams whose share is paced.
  Pacer& pacer() { return pacer_; }

  // Unary calls with a large response, and status and watch streams.
  LiveCalls& live() { return live_; }
  // Budget for the unread messages of all status and watch streams.
  ByteBudget& status_bytes() { return status_bytes_; }
  // Returns how long a call may wait for its client. The time is shorter if,
  // within the last kShortage, the server has refused other calls a resource
  // that this one holds.
  absl::Duration Patience(bool others_refused) const;
  static constexpr std::chrono::seconds kShortage{10};
  // Ends calls that have waited too long for their clients. Must be called
  // about once a second.
  void EndIdle();

  // Refuses all later calls with SHUTTING_DOWN. Calls in flight continue.
  void Drain() { draining_ = true; }

  // Ends a call whose client does not read. Cancels the call first. If it still
  // exists some seconds later, the whole connection is stuck, so closes the
  // connection. The caller keeps `unread` with the call.
  struct Unread {
    // Recorded when the call begins, because gRPC forgets it.
    std::string peer;
    std::optional<SteadyClock::time_point> cancelled;
  };
  void Cut(grpc::CallbackServerContext* context, SteadyClock::time_point now,
           Unread* unread) const;

  // Returns the time since the last call ended; zero while a call is running.
  absl::Duration IdleTime() const;
  // Whether gRPC has sent the end of every call.
  bool all_sent() const { return unsent_.load(std::memory_order_relaxed) == 0; }

 private:
  class UnaryCall;
  using AtOnce = absl::FunctionRef<std::optional<absl::Status>(UnaryBytes&)>;
  using Handler = std::function<absl::Status(UnaryBytes&)>;

  // Adapts `handler`, which takes messages, to take bytes.
  template <typename Request, typename Response, typename Handler>
  static auto Decoded(Calls* calls, Handler handler) {
    return [calls, handler = std::move(handler)](UnaryBytes& bytes)
               -> decltype(Handle(handler, std::declval<const Request&>(),
                                  std::declval<Response*>(), bytes.call)) {
      // Decoding multiplies the size, so reserve memory before it starts.
      ByteBudget::Hold memory(&calls->request_bytes_);
      if (!memory.Set(kParsedFactor * bytes.request.Length()))
        return TooManyBytes("requests that are being handled");
      // One arena holds the messages with all their parts and is freed at once.
      alignas(8) char block[4096];
      google::protobuf::Arena arena(block, sizeof(block));
      auto* const request =
          google::protobuf::Arena::CreateMessage<Request>(&arena);
      if (absl::Status problem = Decode(bytes.request, request); !problem.ok())
        return problem;
      bytes.call.Describe(*request);
      // Authorize only now: the permission depends on the decoded project.
      if (absl::Status refused = calls->Authorize(bytes.call); !refused.ok())
        return refused;
      if constexpr (std::is_same_v<Response, grpc::ByteBuffer>) {
        return Handle(handler, *request, bytes.response, bytes.call);
      } else {
        auto* const response =
            google::protobuf::Arena::CreateMessage<Response>(&arena);
        auto answer = Handle(handler, *request, response, bytes.call);
        bytes.call.DescribeResult(*response);
        *bytes.response = Encode(*response);
        return answer;
      }
    };
  }

  template <typename Handler, typename Request, typename Response>
  static auto Handle(const Handler& handler, const Request& request,
                     Response* response, CallInfo& call) {
    if constexpr (std::is_invocable_v<Handler, const Request&, Response*,
                                      CallInfo&>) {
      return handler(request, response, call);
    } else {
      return handler(request, response);
    }
  }

  // Decides whether to answer with `at_once`, which may be null, or `handler`,
  // and on which thread.
  grpc::ServerUnaryReactor* Start(const Method& method,
                                  grpc::CallbackServerContext* context,
                                  const grpc::ByteBuffer* request,
                                  grpc::ByteBuffer* response,
                                  std::optional<AtOnce> at_once,
                                  Handler handler);
  static absl::Status TooManyBytes(absl::string_view of);

  void Audit(const CallInfo& call, const absl::Status& status,
             absl::Duration duration);

  base::ThreadPool& PoolOf(Lane lane) const {
    return lane == Lane::kWholeFile ? *whole_file_workers_ : *workers_;
  }

  // Upper bound of how much a request grows when it is decoded and converted:
  // an empty Value has two bytes on the wire, 60 bytes as a message, and 48 as
  // JSON.
  static constexpr size_t kParsedFactor = 64;
  // Beyond it, calls are not paced.
  static constexpr size_t kMaxPaced = 1024;

  base::ThreadPool* const workers_;
  base::ThreadPool* const whole_file_workers_;
  observe::Log* const log_;
  const CallOptions options_;
  // Budgets for requests that are queued or handled, for responses not yet
  // sent, and for the unread messages of status and watch streams.
  ByteBudget request_bytes_{160 << 20};
  ByteBudget answer_bytes_{128 << 20};
  ByteBudget status_bytes_{options_.unread_bytes};
  CallerLimits caller_limits_;
  // For the callers with many calls or streams in flight.
  Pacer pacer_{kMaxPaced};
  LiveCalls live_;
  std::atomic<bool> draining_ = false;
  // Calls between Begin() and End(), and between Begin() and Sent().
  std::atomic<int> running_ = 0;
  std::atomic<int> unsent_ = 0;
  std::atomic<SteadyClock::time_point> last_end_ = SteadyClock::now();
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_CALL_H_
