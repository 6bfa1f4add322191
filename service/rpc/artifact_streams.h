#ifndef MLOPS_SERVICE_RPC_ARTIFACT_STREAMS_H_
#define MLOPS_SERVICE_RPC_ARTIFACT_STREAMS_H_

#include <atomic>
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "service/artifacts/artifacts.h"
#include "service/rpc/artifact_wire.h"
#include "service/rpc/call.h"
#include "service/rpc/stream.h"

namespace mlops::rpc {

// What the streams of artifacts share. Thread-safe.
class ArtifactStreams {
 public:
  // All must outlive this. `workers` read and write files, a chunk a task. At
  // most `max_streams` run at once.
  ArtifactStreams(core::Artifacts* artifacts, Calls* calls,
                  base::ThreadPool* workers, int max_streams)
      : artifacts_(artifacts),
        calls_(calls),
        workers_(workers),
        max_streams_(max_streams) {}

  core::Artifacts& artifacts() const { return *artifacts_; }
  Calls& calls() const { return *calls_; }
  base::ThreadPool& workers() const { return *workers_; }
  LiveCalls& live() { return live_; }

  // Ends streams whose clients stand still for too long: sooner where others
  // were refused a slot. To be called about once a second.
  void EndIdle();

  // One of the streams that may run, from Take() until this is destroyed. Not
  // thread-safe.
  class Slot {
   public:
    explicit Slot(ArtifactStreams* streams) : streams_(streams) {}
    ~Slot() {
      if (taken_) streams_->running_.fetch_sub(1);
    }
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;
    // UNAVAILABLE/OVERLOADED, and nothing is taken, if too many streams run.
    absl::Status Take();

   private:
    ArtifactStreams* const streams_;
    bool taken_ = false;
  };

 private:
  core::Artifacts* const artifacts_;
  Calls* const calls_;
  base::ThreadPool* const workers_;
  const int max_streams_;
  std::atomic<int> running_ = 0;
  std::atomic<SteadyClock::time_point> last_refusal_ = kLongAgo;
  LiveCalls live_;
};

// One ReadArtifact call. While a chunk is written the next one is read: memory
// is these two, however slow the reader.
class ArtifactReadStream final
    : public Stream<grpc::ServerWriteReactor<grpc::ByteBuffer>> {
 public:
  ArtifactReadStream(ArtifactStreams* streams,
                     grpc::CallbackServerContext* context,
                     const grpc::ByteBuffer& request);

  void OnWriteDone(bool ok) override;

 private:
  absl::Status Parse(const grpc::ByteBuffer& request);

  Step Next() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void StartIo(bool last) override;
  // Opens the file, or reads the next chunk.
  void Work() override ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status WorkOnce(std::deque<grpc::ByteBuffer>* messages);
  void Release() override;

  ArtifactStreams* const streams_;
  ArtifactStreams::Slot slot_;
  std::optional<core::ReadArgs> args_;
  // Accessed only by the running task.
  std::unique_ptr<core::ArtifactReader> reader_;
  // Accessed only while a write is outstanding.
  grpc::ByteBuffer being_written_;

  std::deque<grpc::ByteBuffer> ready_ ABSL_GUARDED_BY(mutex_);
  bool all_read_ ABSL_GUARDED_BY(mutex_) = false;
};

// One WriteArtifact call. While a message is written the next one is received:
// memory is these two, however fast the writer.
class ArtifactWriteStream final
    : public Stream<grpc::ServerReadReactor<grpc::ByteBuffer>> {
 public:
  ArtifactWriteStream(ArtifactStreams* streams,
                      grpc::CallbackServerContext* context,
                      grpc::ByteBuffer* response);

  void OnReadDone(bool ok) override;

 private:
  Step Next() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void StartIo(bool /*last*/) override { StartRead(&being_read_); }
  // Writes one message, or ends the upload at the end of the stream.
  void Work() override ABSL_LOCKS_EXCLUDED(mutex_);
  // With what the call ends, if it does now. Sets `more` if the same message is
  // to be gone on with.
  std::optional<absl::Status> WorkOnce(bool* more);
  // The message that was received; with the next read begun.
  std::optional<grpc::ByteBuffer> TakeReceived() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<core::WriteArgs> ParseFirst(
      const pb::WriteArtifactRequest& first);
  absl::Status BeginUpload(const pb::WriteArtifactRequest& first);
  absl::Status Discard(const WriteMessage& message);
  absl::Status Write(const WriteMessage& message);
  absl::Status WriteData(const WriteMessage& message);
  absl::Status CheckLater(const pb::WriteArtifactRequest& head) const;
  absl::Status EndUnfinished();
  void Answer(int64_t offset, const std::optional<core::Artifact>& artifact);
  void Release() override;

  ArtifactStreams* const streams_;
  grpc::ByteBuffer* const response_;
  grpc::ByteBuffer being_read_;  // Accessed only while a read is outstanding.

  // Accessed only by the running task.
  ArtifactStreams::Slot slot_;
  std::optional<WriteMessage> message_;
  std::unique_ptr<core::UploadWriter> writer_;
  bool rehashing_ = false;

  // Waits for a worker.
  std::optional<grpc::ByteBuffer> received_ ABSL_GUARDED_BY(mutex_);
  // The stream has ended, or broken off.
  bool no_more_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_ARTIFACT_STREAMS_H_
