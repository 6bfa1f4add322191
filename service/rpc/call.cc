#include "service/rpc/call.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/wire_status.h"
#include "service/core/errors.h"

namespace mlops::rpc {
namespace {

// Larger requests do not run on gRPC's own threads, which all calls share.
constexpr size_t kMaxInlineBytes = 16 << 10;
// Smaller responses are bounded by the number of calls alone, so EndIdle() does
// not watch them.
constexpr size_t kMaxUnwatchedBytes = 64 << 10;
// How long a call may wait for its client after others were refused a resource
// that it holds.
constexpr absl::Duration kPatienceInShortage = absl::Seconds(10);
// gRPC ends a cancelled call at once, unless a write to its connection blocks.
constexpr std::chrono::seconds kStuck(2);
constexpr absl::Duration kRetryDelay = absl::Milliseconds(200);

}  // namespace

absl::Status CheckRequestSize(size_t size) {
  if (size <= kMaxRequestBytes) return absl::OkStatus();
  return core::FieldInvalid(
      "request",
      absl::StrCat("is ", size, " bytes long; at most ", kMaxRequestBytes,
                   " are accepted by methods that receive no data"));
}

// One unary call, from its encoded request until the response is sent.
// Deletes itself.
class Calls::UnaryCall final : public grpc::ServerUnaryReactor,
                               private LiveCalls::Call {
 public:
  UnaryCall(Calls* calls, const Method& method,
            grpc::CallbackServerContext* context,
            const grpc::ByteBuffer& request, grpc::ByteBuffer* response)
      : calls_(calls),
        method_(method),
        context_(context),
        started_(calls->Begin()),
        bytes_{.response = response},
        request_memory_(&calls->request_bytes_),
        answer_memory_(&calls->answer_bytes_) {
    // gRPC would keep the request until the response is sent.
    bytes_.request.Swap(&const_cast<grpc::ByteBuffer&>(request));
    // The client reset the call before the request arrived; gRPC may call
    // OnCancel() much later.
    if (!bytes_.request.Valid()) UnaryCall::OnCancel();
  }

  void Run(std::optional<AtOnce> at_once, Handler handler) {
    const size_t size = bytes_.request.Length();
    if (absl::Status refused = CheckBegin(size); !refused.ok())
      return Answer(std::move(refused));
    // A fast answer saves the switch to a worker thread.
    if (size <= kMaxInlineBytes) {
      if (method_.lane == Lane::kInline) return Answer(handler(bytes_));
      if (at_once.has_value()) {
        if (std::optional<absl::Status> status = (*at_once)(bytes_))
          return Answer(*std::move(status));
      }
    }
    // While the call is queued its client may cancel it or its deadline may
    // pass, so check again before the handler runs.
    auto run = [this, handler = std::move(handler)] {
      absl::Status status = calls_->CheckWanted(*context_);
      Answer(status.ok() ? handler(bytes_) : std::move(status));
    };
    if (!calls_->PoolOf(method_.lane).TrySchedule(std::move(run)))
      Answer(TooMany());
  }

  void OnCancel() override {
    if (!noted_.exchange(true)) calls_->NoteCancelled(*context_);
  }
  void OnDone() override {
    if (watched_) calls_->live_.Remove(this);
    calls_->Sent();
    delete this;
  }

 private:
  // Saves a thread switch, unless the end of the call takes a lock.
  bool InternalInlineable() override { return !watched_; }

  absl::Status CheckBegin(size_t size) {
    if (absl::Status refused = calls_->CheckBegin(); !refused.ok())
      return refused;
    if (absl::Status refused = CheckRequestSize(size); !refused.ok())
      return refused;
    return request_memory_.Set(size)
               ? absl::OkStatus()
               : TooManyBytes("requests that wait for a worker");
  }

  void Answer(absl::Status status) {
    // The response may wait long for its client, so free the request first.
    bytes_.request.Clear();
    request_memory_.Set(0);
    const size_t size = status.ok() ? bytes_.response->Length() : 0;
    answered_ = SteadyClock::now();
    if (!answer_memory_.Set(size)) {
      bytes_.response->Clear();
      status = TooManyBytes("answers that wait to be read");
    } else if (size > kMaxUnwatchedBytes) {
      watched_ = true;
      unread_.peer = context_->peer();
      calls_->live_.Add(this);
    }
    Finish(calls_->End(method_, bytes_.project, std::move(status), started_,
                       *context_));
  }

  // The call is in `live_` only after its response is complete,
  // so it waits for nothing but its client.
  void EndIf(const IdleRule& rule, SteadyClock::time_point now) override {
    if (rule.unread &&
        now - answered_ > absl::ToChronoNanoseconds(rule.patience))
      calls_->Cut(context_, now, &unread_);
  }

  Calls* const calls_;
  const Method& method_;
  grpc::CallbackServerContext* const context_;
  const SteadyClock::time_point started_;
  UnaryBytes bytes_;
  ByteBudget::Hold request_memory_;
  ByteBudget::Hold answer_memory_;
  std::atomic<bool> watched_ = false;
  std::atomic<bool> noted_ = false;
  SteadyClock::time_point answered_;
  Calls::Unread unread_;
};

grpc::ServerUnaryReactor* Calls::Start(const Method& method,
                                       grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* response,
                                       std::optional<AtOnce> at_once,
                                       Handler handler) {
  auto* const call = new UnaryCall(this, method, context, *request, response);
  // Run() may end the call, but gRPC destroys it only after it has received
  // it from here.
  call->Run(at_once, std::move(handler));
  return call;
}

SteadyClock::time_point Calls::Begin() {
  running_.fetch_add(1, std::memory_order_relaxed);
  unsent_.fetch_add(1, std::memory_order_relaxed);
  return SteadyClock::now();
}

absl::Status Calls::CheckBegin() const {
  const bool refuses = draining_.load(std::memory_order_relaxed) ||
                       (options_.is_lost && options_.is_lost());
  return refuses ? core::ShuttingDown() : absl::OkStatus();
}

absl::Status Calls::CheckWanted(
    const grpc::CallbackServerContext& context) const {
  // The deadline may have passed, or the client may have cancelled,
  // while the call waited for a thread.
  if (context.IsCancelled())
    return absl::CancelledError(
        "the client cancelled the call before it began");
  if (context.deadline() < std::chrono::system_clock::now()) {
    return absl::DeadlineExceededError(
        "the deadline passed before the call began; nothing was changed");
  }
  return absl::OkStatus();
}

grpc::Status Calls::End(const Method& method, absl::string_view project,
                        absl::Status status, SteadyClock::time_point started,
                        const grpc::CallbackServerContext& context) {
  const SteadyClock::time_point now = SteadyClock::now();
  // peer() allocates three strings, so call it only if the line is logged.
  if (log_->Wants(status)) {
    log_->Call(method.name, project, status, absl::FromChrono(now - started),
               context.peer());
  }
  last_end_.store(now, std::memory_order_relaxed);
  running_.fetch_sub(1, std::memory_order_relaxed);
  if (status.ok()) return grpc::Status::OK;
  if (!project.empty())
    status = base::WithMetadata(std::move(status), "project", project);
  return wire::ToGrpc(status);
}

void Calls::NoteCancelled(const grpc::CallbackServerContext& context) {
  if (options_.on_cancel) options_.on_cancel(context.peer());
}

absl::Status Calls::TooMany() {
  return core::Overloaded("calls that wait for a worker", kRetryDelay);
}

absl::Status Calls::TooManyBytes(absl::string_view of) {
  return core::Overloaded(absl::StrCat("bytes of ", of), kRetryDelay);
}

absl::Duration Calls::Patience(bool others_refused) const {
  return others_refused ? std::min(options_.idle_timeout, kPatienceInShortage)
                        : options_.idle_timeout;
}

void Calls::EndIdle() {
  const bool others_refused = answer_bytes_.RefusedWithin(kShortage) ||
                              status_bytes_.RefusedWithin(kShortage);
  live_.EndThose(
      {.patience = Patience(others_refused), .why = core::ClientIsIdle()});
}

void Calls::Cut(grpc::CallbackServerContext* context,
                SteadyClock::time_point now, Unread* unread) const {
  if (!unread->cancelled.has_value()) {
    unread->cancelled = now;
    context->TryCancel();
  } else if (now - *unread->cancelled > kStuck && options_.disconnect) {
    options_.disconnect(unread->peer);
  }
}

absl::Duration Calls::IdleTime() const {
  if (running_.load(std::memory_order_relaxed) > 0) return absl::ZeroDuration();
  return absl::FromChrono(SteadyClock::now() -
                          last_end_.load(std::memory_order_relaxed));
}

}  // namespace mlops::rpc
