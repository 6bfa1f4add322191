#ifndef MLOPS_SERVICE_RPC_CALL_H_
#define MLOPS_SERVICE_RPC_CALL_H_

#include <atomic>
#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "google/protobuf/arena.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "service/base/thread_pool.h"
#include "service/observe/log.h"
#include "service/rpc/byte_budget.h"
#include "service/rpc/convert.h"
#include "service/rpc/live_calls.h"
#include "service/rpc/method_table.h"

namespace mlops::rpc {

// The largest request of a method that is sent no data. The largest legal
// metadata take 353 KiB on the wire: 32,000 zeros.
inline constexpr size_t kMaxRequestBytes = 512 << 10;
// INVALID_ARGUMENT/FIELD_INVALID if a request is larger.
absl::Status CheckRequestSize(size_t size);

// The request of a unary call as it came, its answer as it goes, and the
// project that it is about, for the log.
struct UnaryBytes {
  grpc::ByteBuffer request;
  grpc::ByteBuffer* response;
  std::string project;
};

struct CallOptions {
  // A call whose client has not moved for so long is ended: it neither sends
  // what the server waits for, nor reads.
  absl::Duration idle_timeout = absl::Minutes(2);
  // Told the peer of each call that its client cancels.
  std::function<void(const std::string& peer)> on_cancel;
  // While it returns true, calls are refused as by Drain(). Asked for each
  // call, so it must be quick.
  std::function<bool()> is_lost;
};

// The one wrapper that every handler goes through. It refuses a call that is
// too large, comes at a bad time or that nobody waits for, picks the thread,
// maps the status to the wire, logs the call, and bounds the memory of requests
// and answers. Thread-safe.
class Calls {
 public:
  // All must outlive this.
  Calls(base::ThreadPool* workers, base::ThreadPool* whole_file_workers,
        observe::Log* log, CallOptions options = {})
      : workers_(workers),
        whole_file_workers_(whole_file_workers),
        log_(log),
        options_(std::move(options)) {}

  // Answers a unary call with `handler(request, response)`, which returns an
  // absl::Status. `Response` may be grpc::ByteBuffer: then the handler encodes
  // it. The request is decoded only when the handler runs: what waits is bytes.
  template <typename Request, typename Response, typename Handler>
  grpc::ServerUnaryReactor* Unary(const Method& method,
                                  grpc::CallbackServerContext* context,
                                  const grpc::ByteBuffer* request,
                                  grpc::ByteBuffer* response, Handler handler) {
    return Start(method, context, request, response, std::nullopt,
                 Decoded<Request, Response>(this, std::move(handler)));
  }

  // As Unary(), unless `at_once(request, response)`, which runs on gRPC's own
  // thread and must not keep it, answers already: it returns an absl::Status,
  // or nullopt where it takes the handler.
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

  // For streams, which drive themselves: Begin() and End() around the call,
  // CheckBegin() at its begin, CheckWanted() before each step. End() logs the
  // call and returns its status for the wire, with the project that the call is
  // about among its metadata.
  SteadyClock::time_point Begin();
  absl::Status CheckBegin() const;
  absl::Status CheckWanted(const grpc::CallbackServerContext& context) const;
  grpc::Status End(const Method& method, absl::string_view project,
                   absl::Status status, SteadyClock::time_point started,
                   const grpc::CallbackServerContext& context);
  // To be called when gRPC has done with a call: its end was sent, or its
  // client has gone.
  void Sent() { unsent_.fetch_sub(1, std::memory_order_relaxed); }
  // To be called, once a call, when a client cancels it.
  void NoteCancelled(const grpc::CallbackServerContext& context);
  base::ThreadPool& workers() { return *workers_; }
  static absl::Status TooMany();

  // Unary calls whose answer is large, and streams of statuses.
  LiveCalls& live() { return live_; }
  // For what waits to be read of streams of statuses.
  ByteBudget& status_bytes() { return status_bytes_; }
  // How long a call may wait for its client: less where others were refused, in
  // the last kShortage, what it holds.
  absl::Duration Patience(bool others_refused) const;
  static constexpr std::chrono::seconds kShortage{10};
  // Ends calls that wait for their clients for too long; to be called about
  // once a second.
  void EndIdle();

  // From now on calls are refused with SHUTTING_DOWN; those that have begun go
  // on.
  void Drain() { draining_ = true; }

  // How long no call has been running; zero while one is.
  absl::Duration IdleTime() const;
  // Whether the end of every call was sent.
  bool all_sent() const { return unsent_.load(std::memory_order_relaxed) == 0; }

 private:
  class UnaryCall;
  using AtOnce = absl::FunctionRef<std::optional<absl::Status>(UnaryBytes&)>;
  using Handler = std::function<absl::Status(UnaryBytes&)>;

  // `handler`, of messages, as one of bytes.
  template <typename Request, typename Response, typename Handler>
  static auto Decoded(Calls* calls, Handler handler) {
    return [calls, handler = std::move(handler)](UnaryBytes& bytes)
               -> decltype(handler(std::declval<const Request&>(),
                                   std::declval<Response*>())) {
      ByteBudget::Hold memory(&calls->request_bytes_);
      if (!memory.Set(kParsedFactor * bytes.request.Length()))
        return TooManyBytes("requests that are being handled");
      // Messages with all they hold lie in one piece of memory, which is freed
      // at once.
      alignas(8) char block[4096];
      google::protobuf::Arena arena(block, sizeof(block));
      auto* const request =
          google::protobuf::Arena::CreateMessage<Request>(&arena);
      if (absl::Status problem = Decode(bytes.request, request); !problem.ok())
        return problem;
      bytes.project = std::string(SubjectOf(*request));
      if constexpr (std::is_same_v<Response, grpc::ByteBuffer>) {
        return handler(*request, bytes.response);
      } else {
        auto* const response =
            google::protobuf::Arena::CreateMessage<Response>(&arena);
        auto answer = handler(*request, response);
        *bytes.response = Encode(*response);
        return answer;
      }
    };
  }

  // `at_once` may be null.
  grpc::ServerUnaryReactor* Start(const Method& method,
                                  grpc::CallbackServerContext* context,
                                  const grpc::ByteBuffer* request,
                                  grpc::ByteBuffer* response,
                                  std::optional<AtOnce> at_once,
                                  Handler handler);
  static absl::Status TooManyBytes(absl::string_view of);

  // The project that a request is about: ListWorkspaces and GetServerInfo have
  // none.
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

  base::ThreadPool& PoolOf(Lane lane) const {
    return lane == Lane::kWholeFile ? *whole_file_workers_ : *workers_;
  }

  // What a request becomes when it is decoded and converted, in the worst case:
  // an empty Value, two bytes on the wire, takes 60 bytes as a message and 48
  // as JSON.
  static constexpr size_t kParsedFactor = 64;

  base::ThreadPool* const workers_;
  base::ThreadPool* const whole_file_workers_;
  observe::Log* const log_;
  const CallOptions options_;
  ByteBudget request_bytes_{160 << 20};
  ByteBudget answer_bytes_{128 << 20};
  ByteBudget status_bytes_{64 << 20};
  LiveCalls live_;
  std::atomic<bool> draining_ = false;
  std::atomic<int> running_ = 0;
  std::atomic<int> unsent_ = 0;
  std::atomic<SteadyClock::time_point> last_end_ = SteadyClock::now();
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_CALL_H_
