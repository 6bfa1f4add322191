#include "service/rpc/call.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/status_macros.h"
#include "proto/cpp/wire_status.h"
#include "service/core/errors.h"

namespace mlops::rpc {
namespace {

// Larger requests do not run on gRPC's own threads, which all calls share.
constexpr size_t kMaxInlineBytes = 16 << 10;
// Smaller responses are bounded by the number of calls alone, so EndIdle() does
// not watch them.
constexpr size_t kMaxUnwatchedBytes = 64 << 10;
// How long a call may wait for its client after the server has refused others a
// resource that the call holds.
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
        bytes_{.call = CallInfo(method, context), .response = response},
        request_memory_(&calls->request_bytes_),
        answer_memory_(&calls->answer_bytes_) {
    calls->Begin(call());
    // Take the request over: gRPC would keep it until the response is sent.
    bytes_.request.Swap(&const_cast<grpc::ByteBuffer&>(request));
    // An invalid buffer means that the client reset the call before the request
    // arrived. Report it now, because gRPC may call OnCancel() much later.
    if (!bytes_.request.Valid()) UnaryCall::OnCancel();
  }

  void Run(std::optional<AtOnce> at_once, Handler handler) {
    const size_t size = bytes_.request.Length();
    calls_->CountReceived(call(), size);
    if (absl::Status refused = CheckBegin(size); !refused.ok())
      return Answer(std::move(refused));
    // Answers that leave at an even rate keep the client from sending its next
    // requests all at once, ahead of those of others.
    const bool paced = call().share.is_paced();
    // A fast answer saves the switch to a worker thread.
    if (at_once.has_value() && size <= kMaxInlineBytes && !paced) {
      if (std::optional<absl::Status> status = (*at_once)(bytes_))
        return Answer(*std::move(status));
    }
    // Check again before the handler runs: while the call is queued, its client
    // may cancel it or its deadline may pass.
    auto run = [this, handler = std::move(handler)] {
      absl::Status status = calls_->CheckWanted(*call().context);
      Answer(status.ok() ? handler(bytes_) : std::move(status));
    };
    if (paced && calls_->pacer_.TrySchedule([this, run] { Schedule(run); }))
      return;
    Schedule(std::move(run));
  }

  void OnCancel() override {
    if (!noted_.exchange(true)) calls_->NoteCancelled(*call().context);
  }
  void OnDone() override {
    if (watched_) calls_->live_.Remove(this);
    calls_->Sent();
    delete this;
  }

 private:
  // Runs OnDone() inline, which saves a thread switch, unless it takes a lock.
  bool InternalInlineable() override { return !watched_; }

  CallInfo& call() { return bytes_.call; }

  void Schedule(std::function<void()> run) {
    if (!calls_->PoolOf(call().method.lane).TrySchedule(std::move(run)))
      Answer(TooMany());
  }

  absl::Status CheckBegin(size_t size) {
    if (absl::Status refused =
            calls_->Admit(call(), {.calls = 1, .bytes = size});
        !refused.ok())
      return refused;
    if (absl::Status refused = CheckRequestSize(size); !refused.ok())
      return refused;
    return request_memory_.Set(size)
               ? absl::OkStatus()
               : TooManyBytes("requests that wait for a worker");
  }

  void Answer(absl::Status status) {
    // Free the request first: the response may wait long for its client.
    bytes_.request.Clear();
    request_memory_.Set(0);
    const size_t size = status.ok() ? bytes_.response->Length() : 0;
    answered_ = SteadyClock::now();
    // Charge the response before sending it. Only a large one needs watching,
    // because a client that does not read it holds its memory.
    if (!answer_memory_.Set(size)) {
      bytes_.response->Clear();
      status = TooManyBytes("answers that wait to be read");
    } else if (size > kMaxUnwatchedBytes) {
      watched_ = true;
      unread_.peer = call().context->peer();
      calls_->live_.Add(this);
    }
    // Record the call before Finish(): afterwards gRPC may run OnDone(), which
    // deletes this.
    if (status.ok()) calls_->CountSent(call(), size);
    grpc::Status end = calls_->End(call(), std::move(status));
    call().Forget();
    Finish(std::move(end));
  }

  // The call enters `live_` only once its response is complete, so it waits for
  // nothing but its client.
  void EndIf(const IdleRule& rule, SteadyClock::time_point now) override {
    if (rule.unread &&
        now - answered_ > absl::ToChronoNanoseconds(rule.patience))
      calls_->Cut(call().context, now, &unread_);
  }

  Calls* const calls_;
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
  // Run() may finish the call, but gRPC destroys it only after this function
  // has returned it.
  call->Run(at_once, std::move(handler));
  return call;
}

void Calls::Begin(const CallInfo& call) {
  running_.fetch_add(1, std::memory_order_relaxed);
  unsent_.fetch_add(1, std::memory_order_relaxed);
  if (options_.metrics != nullptr)
    options_.metrics->ForMethod(call.method.name).Started();
}

absl::Status Calls::Admit(CallInfo& call, const CallerLimits::Use& use) {
  if (draining_.load(std::memory_order_relaxed) ||
      (options_.is_lost && options_.is_lost()))
    return core::ShuttingDown();
  if (options_.gate == nullptr || !options_.identifies_all)
    return absl::OkStatus();
  ASSIGN_OR_RETURN(call.caller,
                   Identify(*options_.gate, options_.peers, *call.context));
  // Do not limit anonymous callers: they would all share one limit.
  if (call.caller.kind == auth::Kind::kAnonymous) return absl::OkStatus();
  return caller_limits_.Take(call.caller.name, use, call.started, &call.share);
}

absl::Status Calls::CheckPolicy(const CallInfo& call,
                                const Method& method) const {
  if (options_.gate == nullptr || !options_.identifies_all)
    return absl::OkStatus();
  return options_.gate->policy()->Check(call.caller, method.name, call.project);
}

absl::Status Calls::Authorize(const CallInfo& call) const {
  RETURN_IF_ERROR(CheckPolicy(call, call.method));
  const bool changes =
      call.method.effect == Effect::kChanges && !call.changes_nothing;
  return changes && options_.audit != nullptr ? options_.audit->CheckWritable()
                                              : absl::OkStatus();
}

absl::Status Calls::CheckWanted(
    const grpc::CallbackServerContext& context) const {
  // The client may have cancelled, or the deadline may have passed, while the
  // call waited for a thread.
  if (context.IsCancelled())
    return absl::CancelledError(
        "the client cancelled the call before it began");
  if (context.deadline() < std::chrono::system_clock::now()) {
    return absl::DeadlineExceededError(
        "the deadline passed before the call began; nothing was changed");
  }
  return absl::OkStatus();
}

grpc::Status Calls::End(const CallInfo& call, absl::Status status) {
  const SteadyClock::time_point now = SteadyClock::now();
  const absl::Duration duration = absl::FromChrono(now - call.started);
  // peer() allocates three strings, so call it only if the line is logged.
  if (log_->Wants(status)) {
    log_->Call(call.method.name, call.project, status, duration,
               call.context->peer());
  }
  if (options_.metrics != nullptr)
    options_.metrics->ForMethod(call.method.name).Handled(status, duration);
  if (options_.audit != nullptr) Audit(call, status, duration);
  // Store the time before the decrement: IdleTime() reads running_ first.
  last_end_.store(now, std::memory_order_relaxed);
  running_.fetch_sub(1, std::memory_order_release);
  if (status.ok()) return grpc::Status::OK;
  if (!call.project.empty())
    status = base::WithMetadata(std::move(status), "project", call.project);
  return wire::ToGrpc(status);
}

void Calls::Audit(const CallInfo& call, const absl::Status& status,
                  absl::Duration duration) {
  const bool refused =
      absl::IsUnauthenticated(status) || absl::IsPermissionDenied(status);
  const bool changes =
      call.method.effect == Effect::kChanges && !call.changes_nothing;
  // Refused calls are always audited: they may be attacks.
  if (!changes && !refused && !options_.audit_reads) return;
  const bool unknown = absl::IsUnauthenticated(status);
  // No name means that nobody was identified, because the server was not
  // serving.
  if (call.caller.name.empty() && !unknown) return;
  options_.audit->Write(
      {.time = absl::Now(),
       .principal = call.caller.name,
       .kind = unknown ? "" : auth::KindName(call.caller.kind),
       .peer = call.context->peer(),
       .rpc = call.method.name,
       .project = call.project,
       .path = call.path,
       .destination = call.destination,
       .uid = call.uid,
       .request_id = call.request_id,
       // On failure, old_etag may only be what the client expected.
       .etag_before = status.ok() ? call.old_etag : "",
       .etag_after = call.new_etag,
       .outcome = status,
       .duration = duration,
       .is_reserved = changes && !refused});
}

void Calls::CountReceived(const CallInfo& call, size_t bytes) {
  if (options_.metrics != nullptr)
    options_.metrics->ForMethod(call.method.name).Received(bytes);
}

void Calls::CountSent(const CallInfo& call, size_t bytes) {
  if (options_.metrics != nullptr)
    options_.metrics->ForMethod(call.method.name).Sent(bytes);
}

core::Sight Calls::SightOf(const CallInfo& call, const Method& method) const {
  if (options_.gate == nullptr || !options_.identifies_all) return {};
  return rpc::SightOf(*options_.gate->policy(), call.caller, method.name);
}

absl::Status Calls::CheckAgain(const CallInfo& call) const {
  if (options_.gate == nullptr || !options_.identifies_all)
    return absl::OkStatus();
  RETURN_IF_ERROR(
      Identify(*options_.gate, options_.peers, *call.context).status());
  return options_.gate->policy()->Check(call.caller, call.method.name, "");
}

std::string Calls::ViewOf(const CallInfo& call, const Method& method) const {
  if (options_.gate == nullptr || !options_.identifies_all) return "";
  return rpc::ViewOf(*options_.gate->policy(), call.caller, method.name);
}

absl::StatusOr<auth::Caller> Calls::CallerOf(const CallInfo& call) const {
  if (options_.gate == nullptr || options_.identifies_all) return call.caller;
  // Admit() identified nobody, so do it now.
  return Identify(*options_.gate, options_.peers, *call.context);
}

std::vector<auth::Policy::Grant> Calls::GrantsOf(
    const auth::Caller& caller) const {
  if (options_.gate == nullptr) return {};
  return options_.gate->policy()->GrantsOf(caller);
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
  // Cancelling is enough unless a write to the connection blocks; only then
  // disturb the connection's other calls.
  if (!unread->cancelled.has_value()) {
    unread->cancelled = now;
    context->TryCancel();
  } else if (now - *unread->cancelled > kStuck && options_.disconnect) {
    options_.disconnect(unread->peer);
  }
}

absl::Duration Calls::IdleTime() const {
  if (running_.load(std::memory_order_acquire) > 0) return absl::ZeroDuration();
  return absl::FromChrono(SteadyClock::now() -
                          last_end_.load(std::memory_order_relaxed));
}

}  // namespace mlops::rpc
