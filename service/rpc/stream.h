#ifndef MLOPS_SERVICE_RPC_STREAM_H_
#define MLOPS_SERVICE_RPC_STREAM_H_

#include <atomic>
#include <cstddef>
#include <memory>
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

// Skeleton of a stream: a state machine whose work runs as tasks on a thread
// pool, so that a slow client occupies memory but no thread. Derived classes
// decide what happens next (Next) and do the work (Work). This class starts
// reads, writes and tasks, and ends the call.
//
// At most one read and one write are outstanding. The call ends once `end_` is
// set, no task runs and no write is outstanding. The stream deletes itself.
template <typename Reactor>
class Stream : public Reactor, private LiveCalls::Call {
 public:
  // Called by gRPC only.
  void OnCancel() final {
    NoteCancelled();
    Cancelled();
  }
  void OnWriteDone(bool ok) final {
    Advance([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      writing_ = false;
      moved_ = SteadyClock::now();
      if (!ok && !end_.has_value()) end_ = ClientCancelled();
      Written();
    });
  }
  void OnDone() final {
    // Leave the set first: EndIf() may be using the stream in another thread.
    live_->Remove(this);
    calls_->Sent();
    Release();
    delete this;
  }

 protected:
  static constexpr bool kReads = std::is_base_of_v<
      grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>, Reactor>;

  // Maximum number of data bytes of a message while the stream is paced.
  static constexpr size_t kPacedBytes = 64 << 10;

  // The operations to start now.
  struct Step {
    int tasks = 0;      // Number of calls of Work().
    bool read = false;  // Of a reactor that reads: into being_read_.
    std::optional<grpc::ByteBuffer> write;
    bool last = false;  // `write` ends the call with OK.
  };

  // All pointers must outlive the stream. The stream is in `live` as long as it
  // exists.
  Stream(Calls* calls, const Method& method, LiveCalls* live,
         base::ThreadPool* workers, grpc::CallbackServerContext* context)
      : call_(method, context),
        calls_(calls),
        live_(live),
        workers_(workers),
        unread_{.peer = context->peer()} {
    calls->Begin(call_);
  }
  virtual ~Stream() = default;

  // Returns the step that the state allows, or sets `end_`. Called whenever the
  // state may have changed.
  virtual Step Next() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) = 0;
  // Runs a task on a pool thread. Must call TaskDone(), or Requeue() to
  // continue later.
  virtual void Work() = 0;
  // Called when an earlier write has completed.
  virtual void Written() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {}
  // Returns whether a task must release something before the client may see the
  // end of the call. Called when no task runs. If it returns true, a task
  // starts, finds HasEnd(), and releases it.
  virtual bool MustRelease() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return false;
  }
  // Called when the client has cancelled the call. A stream with neither a
  // running task nor an outstanding write must then end itself.
  virtual void Cancelled() {}
  // Called right before the destructor, on a gRPC thread, and so must not block
  // on the disk.
  virtual void Release() {}

  // Returns an error if the call must not begin; see Calls::Admit().
  absl::Status Admit() {
    return calls_->Admit(call_, {.calls = 1, .streams = 1});
  }
  // Like Admit(), for a call with one request, which it counts as received.
  absl::Status Admit(const grpc::ByteBuffer& request) {
    // An invalid buffer means that gRPC could not read the request: the client
    // has left.
    if (!request.Valid()) NoteCancelled();
    calls_->CountReceived(call_, request.Length());
    return Admit();
  }
  // Records what a decoded request says. Returns an error if the caller may not
  // make the request.
  template <typename Request>
  absl::Status Authorize(const Request& request) {
    call_.Describe(request);
    return calls_->Authorize(call_);
  }

  // Starts the stream, or ends it with an error. Must be the last statement of
  // a derived constructor.
  void Begin(absl::Status status) {
    // Add the stream before it starts: a task may run at once and must find the
    // call in the set. gRPC does not destroy the stream before the constructor
    // has returned.
    live_->Add(this);
    Advance([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      if (!status.ok()) end_ = std::move(status);
    });
  }

  // Changes the state under the lock and starts the operations that it then
  // allows. Afterwards the stream may be destroyed, so only a running task may
  // touch it again.
  void Advance(absl::FunctionRef<void()> change) ABSL_LOCKS_EXCLUDED(mutex_) {
    Step step;
    bool finish = false;
    absl::Status end;
    {
      absl::MutexLock lock(&mutex_);
      change();
      // gRPC already has the status; it may still report a read or write.
      if (finished_) return;
      if (!end_.has_value()) step = Next();
      // After the end, start nothing new except a task that must release
      // something.
      if (end_.has_value()) {
        step = {};
        if (tasks_ == 0 && MustRelease()) step.tasks = 1;
        finish = tasks_ + step.tasks == 0 && !writing_;
        end = *end_;
      }
      tasks_ += step.tasks;
      reading_ = reading_ || step.read;
      // Restart the idle time: the stream may have waited long for something to
      // write.
      if (step.write.has_value()) moved_ = SteadyClock::now();
      writing_ = writing_ || step.write.has_value();
      finished_ = finish || step.last;
    }
    // Call gRPC without the lock, because it may call back on this thread.
    if (finish) return this->Finish(End(std::move(end)));
    Start(std::move(step));
  }

  // Call Advance() for a read, or for a task, that has ended.
  void ReadDone(absl::FunctionRef<void()> change) {
    Advance([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      reading_ = false;
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

  // Returns whether tasks should be small now, because they run at the rate of
  // the pacer; see CallerLimits. Streams that receive are never paced: gRPC
  // would keep more of their data in memory.
  bool IsPaced() const {
    return !kReads && call_.share.PacesStream(SteadyClock::now());
  }

  // Queues `count` calls of Work(), which `tasks_` already includes.
  void Schedule(int count) ABSL_LOCKS_EXCLUDED(mutex_) {
    const bool paced = IsPaced();
    for (; paced && count > 0 && Pace(); --count) {
    }
    if (count > 0) ScheduleNow(count);
  }
  // Queues one call of Work() at the pacer. Returns false if it is full.
  [[nodiscard]] bool Pace() {
    return calls_->pacer().TrySchedule([this] { ScheduleNow(1); });
  }
  // Like Schedule(), but not paced.
  void ScheduleNow(int count) ABSL_LOCKS_EXCLUDED(mutex_) {
    int refused = 0;
    for (int i = 0; i < count; ++i) {
      if (!workers_->TrySchedule([this] { Work(); })) ++refused;
    }
    if (refused == 0) return;
    {
      absl::MutexLock lock(&mutex_);
      tasks_ -= refused;
      // A remaining task, or the outstanding write, will advance the stream.
      if (tasks_ > 0 || writing_) return;
      if (!end_.has_value()) end_ = Calls::TooMany();
    }
    Advance([] {});
  }

  // Lets a running task continue after other tasks had their turn. Returns
  // false if the queue is full.
  [[nodiscard]] bool Requeue() {
    if (IsPaced() && Pace()) return true;
    return workers_->TrySchedule([this] { Work(); });
  }

  // Destroys `object` on a worker thread, because its destructor may block on
  // disk I/O.
  template <typename T>
  void DestroyLater(std::unique_ptr<T> object) {
    if (object == nullptr) return;
    // If the queue is full, the object is destroyed on this thread.
    (void)workers_->TrySchedule([object = std::shared_ptr<T>(std::move(
                                     object))]() mutable { object.reset(); });
  }

  // Returns whether the status that ends the call is known.
  bool HasEnd() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return end_.has_value();
  }
  // Ends the call with `status`, unless it already has an end.
  void SetEnd(absl::Status status) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    if (!end_.has_value()) end_ = std::move(status);
  }

  // Reports that the client cancelled the call. Idempotent.
  void NoteCancelled() {
    if (!noted_.exchange(true)) calls_->NoteCancelled(*call_.context);
  }

  // Records the end of the call and returns the status for the wire. Must be
  // called once.
  grpc::Status End(absl::Status status) {
    grpc::Status end = calls_->End(call_, std::move(status));
    call_.Forget();
    return end;
  }
  // Returns an error if the client no longer waits for the call.
  absl::Status CheckWanted() const {
    return calls_->CheckWanted(*call_.context);
  }
  static absl::Status ClientCancelled() {
    return absl::CancelledError("the client cancelled the call");
  }

  Calls& calls() const { return *calls_; }
  grpc::CallbackServerContext& context() const { return *call_.context; }

  // Written before the first task ends, or by the only task.
  CallInfo call_;
  // Accessed only while a read is outstanding.
  grpc::ByteBuffer being_read_;

  absl::Mutex mutex_;
  int tasks_ ABSL_GUARDED_BY(mutex_) = 0;
  // Whether a read or a write is outstanding.
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  // Status that ends the call, once it is known.
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mutex_);

 private:
  // Starts the operations that Advance() has counted. The read comes first,
  // because only an outstanding write or a task keeps the stream alive.
  void Start(Step step) {
    if constexpr (kReads) {
      if (step.read) this->StartRead(&being_read_);
    }
    if (step.write.has_value()) {
      being_written_ = *std::move(step.write);
      calls_->CountSent(call_, being_written_.Length());
      if (step.last) {
        return this->StartWriteAndFinish(&being_written_, grpc::WriteOptions(),
                                         End(absl::OkStatus()));
      }
      this->StartWrite(&being_written_);
    }
    if (step.tasks > 0) Schedule(step.tasks);
  }

  void EndIf(const IdleRule& rule, SteadyClock::time_point now) final {
    bool cancel = false;
    Advance([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      const bool waits =
          tasks_ == 0 &&
          now - moved_ > absl::ToChronoNanoseconds(rule.patience);
      if (!waits && !rule.moving) return;
      // A client that does not read would not receive a status either, so
      // cancel the call.
      cancel = waits && rule.unread && (finished_ || writing_);
      const bool open = !finished_ && !end_.has_value();
      // A call that waits for neither a read nor a write waits for the server,
      // so it is not idle.
      if (open && (cancel || rule.moving || reading_)) end_ = rule.why;
    });
    // Cancel without the lock, because gRPC may call OnCancel() on this thread.
    if (cancel) calls_->Cut(call_.context, now, &unread_);
  }

  Calls* const calls_;
  LiveCalls* const live_;
  base::ThreadPool* const workers_;
  // Accessed only while a write is outstanding.
  grpc::ByteBuffer being_written_;
  std::atomic<bool> noted_ = false;
  // Accessed by EndIf() only.
  Calls::Unread unread_;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  SteadyClock::time_point moved_ ABSL_GUARDED_BY(mutex_) = SteadyClock::now();
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_STREAM_H_
