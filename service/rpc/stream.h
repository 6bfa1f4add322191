#ifndef MLOPS_SERVICE_RPC_STREAM_H_
#define MLOPS_SERVICE_RPC_STREAM_H_

#include <atomic>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "service/base/thread_pool.h"
#include "service/core/errors.h"
#include "service/rpc/call.h"
#include "service/rpc/live_calls.h"

namespace mlops::rpc {

// The skeleton of a stream: a state machine whose work runs as tasks on a pool,
// so that a slow client holds memory but no thread. Derived classes say what
// comes next (Next), start reads or writes (StartIo) and do the work (Work).
//
// At most one read or write is outstanding. The call ends once `end_` is set
// and no task runs; a stream that writes also waits for its write. Deletes
// itself.
template <typename Reactor>
class Stream : public Reactor, private LiveCalls::Call {
 public:
  // For gRPC alone.
  void OnCancel() final { NoteCancelled(); }
  void OnDone() final {
    live_->Remove(this);
    calls_->Sent();
    Release();
    delete this;
  }

 protected:
  static constexpr bool kWrites =
      std::is_base_of_v<grpc::ServerWriteReactor<grpc::ByteBuffer>, Reactor>;

  // What to begin now.
  struct Step {
    int tasks = 0;    // So many calls of Work().
    bool io = false;  // StartIo().
    // The write of StartIo() takes the end of the call, OK, with it.
    bool last = false;
  };

  // All must outlive the stream. It is in `live` as long as it exists.
  Stream(Calls* calls, const Method& method, LiveCalls* live,
         base::ThreadPool* workers, grpc::CallbackServerContext* context)
      : calls_(calls),
        method_(method),
        live_(live),
        workers_(workers),
        context_(context),
        started_(calls->Begin()),
        unread_{.peer = context->peer()} {}
  virtual ~Stream() = default;

  // The step that the state allows, or a value for `end_`. Called whenever the
  // state may have changed.
  virtual Step Next() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) = 0;
  // Starts a read or a write; `last` as in Step.
  virtual void StartIo(bool last) = 0;
  // A task, on a thread of the pool. Ends by TaskDone(), or by Requeue() if it
  // is to go on.
  virtual void Work() = 0;
  // Right before the destructor, on a thread of gRPC's, which must not wait for
  // the disk.
  virtual void Release() {}

  // The last statement of a derived constructor.
  void Begin(absl::Status status) {
    // First, so that a task, which may run at once, finds the call there. gRPC
    // does not destroy it before the constructor has returned.
    live_->Add(this);
    Advance([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      if (!status.ok()) end_ = std::move(status);
    });
  }

  // Makes a change under the lock, and begins what it allows. One function,
  // since in between another thread could end the call, and with it this
  // object: callers must not touch anything afterwards, unless they are a task.
  void Advance(absl::FunctionRef<void()> change) ABSL_LOCKS_EXCLUDED(mutex_) {
    Step step;
    bool finish = false;
    absl::Status end;
    {
      absl::MutexLock lock(&mutex_);
      change();
      if (finished_) return;
      if (!end_.has_value()) step = Next();
      if (end_.has_value()) {
        step = {};
        finish = tasks_ == 0 && !(io_ && kWrites);
        end = *end_;
      }
      tasks_ += step.tasks;
      io_ = io_ || step.io;
      finished_ = finish || step.last;
    }
    if (finish) return this->Finish(End(std::move(end)));
    // What was counted keeps the stream alive; so the tasks, the last of which
    // may end it, come last.
    if (step.io) StartIo(step.last);
    if (step.tasks > 0) Schedule(step.tasks);
  }

  // Advance() when a read or write is done, and when a task is.
  void IoDone(absl::FunctionRef<void()> change) {
    Advance([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      io_ = false;
      moved_ = SteadyClock::now();
      change();
    });
  }
  void TaskDone(absl::FunctionRef<void()> change) {
    Advance([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      --tasks_;
      moved_ = SteadyClock::now();
      change();
    });
  }

  // Queues `count` calls of Work(), which are counted already.
  void Schedule(int count) ABSL_LOCKS_EXCLUDED(mutex_) {
    int refused = 0;
    for (int i = 0; i < count; ++i) {
      if (!workers_->TrySchedule([this] { Work(); })) ++refused;
    }
    if (refused == 0) return;
    {
      absl::MutexLock lock(&mutex_);
      tasks_ -= refused;
      // The tasks that there are, or the write that is outstanding, will come
      // past here again.
      if (tasks_ > 0 || (io_ && kWrites)) return;
      if (!end_.has_value()) end_ = Calls::TooMany();
    }
    Advance([] {});
  }

  // For a task that is to go on after others had their turn; false if the queue
  // is full.
  [[nodiscard]] bool Requeue() {
    return workers_->TrySchedule([this] { Work(); });
  }

  void SetEnd(absl::Status status) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    if (!end_.has_value()) end_ = std::move(status);
  }

  // To be called when the client is known to have cancelled the call, as often
  // as that is learned.
  void NoteCancelled() {
    if (!noted_.exchange(true)) calls_->NoteCancelled(*context_);
  }

  // The status for the wire; to be called once, when the call ends.
  grpc::Status End(absl::Status status) {
    return calls_->End(method_, project_, std::move(status), started_,
                       *context_);
  }
  // Why no more is to be done, if so: nobody waits for it.
  absl::Status CheckWanted() const { return calls_->CheckWanted(*context_); }

  Calls& calls() const { return *calls_; }
  grpc::CallbackServerContext& context() const { return *context_; }

  // For the log; written before the first task ends, or by the only task.
  std::string project_;

  absl::Mutex mutex_;
  int tasks_ ABSL_GUARDED_BY(mutex_) = 0;
  // A read or a write is outstanding.
  bool io_ ABSL_GUARDED_BY(mutex_) = false;
  // With what the call ends, once that is known.
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mutex_);

 private:
  void EndIf(const IdleRule& rule, SteadyClock::time_point now) final {
    bool cancel = false;
    Advance([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      const bool waits =
          tasks_ == 0 &&
          now - moved_ > absl::ToChronoNanoseconds(rule.patience);
      if (!waits && !rule.moving) return;
      // Until the client has read the end, or what stands before it, the call
      // goes on.
      cancel = waits && rule.unread && (finished_ || (io_ && kWrites));
      const bool needs_word = !finished_ && !end_.has_value();
      if (needs_word && (cancel || rule.moving || !kWrites)) end_ = rule.why;
    });
    if (cancel) calls_->Cut(context_, now, &unread_);
  }

  Calls* const calls_;
  const Method& method_;
  LiveCalls* const live_;
  base::ThreadPool* const workers_;
  grpc::CallbackServerContext* const context_;
  const SteadyClock::time_point started_;
  std::atomic<bool> noted_ = false;
  // Accessed by EndIf() only.
  Calls::Unread unread_;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  SteadyClock::time_point moved_ ABSL_GUARDED_BY(mutex_) = SteadyClock::now();
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_STREAM_H_
