#ifndef MLOPS_SERVICE_RPC_ARTIFACT_STREAMS_H_
#define MLOPS_SERVICE_RPC_ARTIFACT_STREAMS_H_

#include <atomic>
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "service/artifacts/artifacts.h"
#include "service/rpc/artifact_wire.h"
#include "service/rpc/call.h"

namespace mlops::rpc {

// What the streams of artifacts share. Thread-safe.
class ArtifactStreams {
 public:
  // All must outlive this. `workers` read and write files, a chunk a task, so that a slow peer holds none of them. At
  // most `max_streams` run at once.
  ArtifactStreams(core::Artifacts* artifacts, Calls* calls, base::ThreadPool* workers, int max_streams)
      : artifacts_(artifacts), calls_(calls), workers_(workers), max_streams_(max_streams) {}

  core::Artifacts& artifacts() const { return *artifacts_; }
  Calls& calls() const { return *calls_; }
  base::ThreadPool& workers() const { return *workers_; }

  // One of the streams that may run, while this object lives.
  class Slot {
   public:
    explicit Slot(ArtifactStreams* streams)
        : streams_(streams), taken_(streams->running_.fetch_add(1) < streams->max_streams_) {}
    ~Slot() { streams_->running_.fetch_sub(1); }
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;
    // UNAVAILABLE/OVERLOADED if there are too many.
    absl::Status status() const;

   private:
    ArtifactStreams* const streams_;
    const bool taken_;
  };

 private:
  core::Artifacts* const artifacts_;
  Calls* const calls_;
  base::ThreadPool* const workers_;
  const int max_streams_;
  std::atomic<int> running_ = 0;
};

// One ReadArtifact call. While a chunk is written the next one is read: memory is these two, however slow the reader.
// Deletes itself.
class ArtifactReadStream final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  ArtifactReadStream(ArtifactStreams* streams, grpc::CallbackServerContext* context, const grpc::ByteBuffer& request);

  void OnWriteDone(bool ok) override;
  void OnDone() override;

 private:
  // Makes a change under the lock, and begins what can be begun then. All in one: in between, another thread could end
  // the call, and with it this object. The caller must not touch anything afterwards.
  void Advance(absl::FunctionRef<void()> change) ABSL_LOCKS_EXCLUDED(mutex_);
  void ScheduleWork() ABSL_LOCKS_EXCLUDED(mutex_);
  // What a worker does: opens the file, or reads the next chunk.
  void Work() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status WorkOnce(std::deque<grpc::ByteBuffer>* messages);
  grpc::Status End(absl::Status status);

  ArtifactStreams* const streams_;
  grpc::CallbackServerContext* const context_;
  const absl::Time started_;
  const ArtifactStreams::Slot slot_;
  std::string project_;
  std::optional<core::ReadArgs> args_;
  std::unique_ptr<core::ArtifactReader> reader_;  // Only of who works.
  grpc::ByteBuffer being_written_;                // Only of who writes.

  absl::Mutex mutex_;
  std::deque<grpc::ByteBuffer> ready_ ABSL_GUARDED_BY(mutex_);
  bool working_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool all_read_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mutex_);  // With what the call ends, once that is known.
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

// One WriteArtifact call. While a message is written the next one is received: memory is these two, however fast the
// writer. Deletes itself.
class ArtifactWriteStream final : public grpc::ServerReadReactor<grpc::ByteBuffer> {
 public:
  ArtifactWriteStream(ArtifactStreams* streams, grpc::CallbackServerContext* context, grpc::ByteBuffer* response);

  void OnReadDone(bool ok) override;
  void OnDone() override;

 private:
  // As in ArtifactReadStream.
  void Advance(absl::FunctionRef<void()> change) ABSL_LOCKS_EXCLUDED(mutex_);
  void ScheduleWork() ABSL_LOCKS_EXCLUDED(mutex_);
  // What a worker does with one message, or at the end of the stream.
  void Work() ABSL_LOCKS_EXCLUDED(mutex_);
  // With what the call ends, if it does now. Sets `more` if the same message is to be gone on with.
  std::optional<absl::Status> WorkOnce(bool* more);
  absl::Status CheckWanted() const;
  absl::StatusOr<core::WriteArgs> ParseFirst(const pb::WriteArtifactRequest& first);
  absl::Status Begin(const pb::WriteArtifactRequest& first);
  absl::Status Discard(const WriteMessage& message);
  absl::Status Write(const WriteMessage& message);
  absl::Status WriteData(const WriteMessage& message);
  absl::Status CheckLater(const pb::WriteArtifactRequest& head) const;
  absl::Status EndUnfinished();
  void Answer(int64_t offset, const std::optional<core::Artifact>& artifact);

  ArtifactStreams* const streams_;
  grpc::CallbackServerContext* const context_;
  grpc::ByteBuffer* const response_;
  const absl::Time started_;
  const ArtifactStreams::Slot slot_;
  grpc::ByteBuffer being_read_;  // Only of who reads.

  // Only of who works.
  std::string project_;
  std::optional<WriteMessage> message_;
  std::unique_ptr<core::UploadWriter> writer_;
  bool rehashing_ = false;

  absl::Mutex mutex_;
  std::optional<grpc::ByteBuffer> received_ ABSL_GUARDED_BY(mutex_);  // Waits for a worker.
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;
  bool no_more_ ABSL_GUARDED_BY(mutex_) = false;  // The stream has ended, or broken off.
  bool working_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mutex_);
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_ARTIFACT_STREAMS_H_
