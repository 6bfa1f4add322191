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
#include "service/rpc/receive_quota.h"
#include "service/rpc/stream.h"

namespace mlops::rpc {

// State shared by all artifact streams. Thread-safe.
class ArtifactStreams {
 public:
  // All pointers must outlive this. `workers` reads and writes files, one chunk
  // per task. At most `max_streams` run at once.
  ArtifactStreams(artifacts::Artifacts* artifacts, Calls* calls,
                  base::ThreadPool* workers, ReceiveQuota* receive_quota,
                  int max_streams)
      : artifacts_(artifacts),
        calls_(calls),
        workers_(workers),
        receive_quota_(receive_quota),
        max_streams_(max_streams) {}

  artifacts::Artifacts& artifacts() const { return *artifacts_; }
  Calls& calls() const { return *calls_; }
  base::ThreadPool& workers() const { return *workers_; }
  ReceiveQuota& receive_quota() const { return *receive_quota_; }
  LiveCalls& live() { return live_; }
  // Number of streams that run, and their maximum.
  int running() const { return running_.load(std::memory_order_relaxed); }
  int max_streams() const { return max_streams_; }

  // Ends streams whose clients have been idle for too long: sooner while other
  // streams are refused. Call about once a second.
  void EndIdle();

  // Permission to run one stream, from Take() to destruction. Not thread-safe.
  class Slot {
   public:
    explicit Slot(ArtifactStreams* streams) : streams_(streams) {}
    ~Slot() {
      if (taken_) streams_->running_.fetch_sub(1);
    }
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;
    // Returns UNAVAILABLE/OVERLOADED, and takes nothing, if too many streams
    // run.
    absl::Status Take();

   private:
    ArtifactStreams* const streams_;
    bool taken_ = false;
  };

 private:
  artifacts::Artifacts* const artifacts_;
  Calls* const calls_;
  base::ThreadPool* const workers_;
  ReceiveQuota* const receive_quota_;
  const int max_streams_;
  std::atomic<int> running_ = 0;
  std::atomic<SteadyClock::time_point> last_refusal_ = kLongAgo;
  LiveCalls live_;
};

// One ReadArtifact call. Reads the next chunk while one is written, so a slow
// reader occupies the memory of two chunks.
class ArtifactReadStream final
    : public Stream<grpc::ServerWriteReactor<grpc::ByteBuffer>> {
 public:
  ArtifactReadStream(ArtifactStreams* streams,
                     grpc::CallbackServerContext* context,
                     const grpc::ByteBuffer& request);

 private:
  absl::Status Parse(const grpc::ByteBuffer& request);

  Step Next() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Opens the file, or reads the next chunk.
  void Work() override ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status WorkOnce(std::deque<grpc::ByteBuffer>* messages);
  void Release() override;

  ArtifactStreams* const streams_;
  ArtifactStreams::Slot slot_;
  std::optional<artifacts::ReadArgs> args_;
  // Accessed only by the running task.
  std::unique_ptr<artifacts::ArtifactReader> reader_;

  std::deque<grpc::ByteBuffer> ready_ ABSL_GUARDED_BY(mutex_);
  bool all_read_ ABSL_GUARDED_BY(mutex_) = false;
};

// One WriteArtifact call. Receives the next message while one is staged, so a
// fast writer occupies the memory of two messages.
//
// Acknowledgements never delay staging: at most one is being written, and those
// that become due meanwhile are combined into the newest offset.
class ArtifactWriteStream final
    : public Stream<
          grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>> {
 public:
  ArtifactWriteStream(ArtifactStreams* streams,
                      grpc::CallbackServerContext* context);

  void OnReadDone(bool ok) override;

 private:
  Step Next() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool MustRelease() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Handles one message, or the end of the stream.
  void Work() override ABSL_LOCKS_EXCLUDED(mutex_);
  // Returns the status that ends the call, if it ends now: with OK, last_ is
  // set. Sets `more` if the same message needs another task.
  std::optional<absl::Status> WorkOnce(bool* more);
  // Returns the received message, if any, and lets the next read start.
  std::optional<grpc::ByteBuffer> TakeReceived() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status BeginMessage();
  absl::StatusOr<artifacts::WriteArgs> ParseFirst(
      const pb::WriteArtifactRequest& first);
  absl::Status BeginUpload(const pb::WriteArtifactRequest& first);
  absl::Status Discard(const WriteMessage& message);
  absl::Status Write(const WriteMessage& message);
  absl::Status WriteData(const WriteMessage& message);
  // Acknowledges what is staged if the client asks, or if it is much.
  void Acknowledge(bool asked) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status CheckLater(const pb::WriteArtifactRequest& head) const;
  absl::Status EndUnfinished();
  // Sets the last response.
  void Answer(int64_t offset,
              const std::optional<artifacts::Artifact>& artifact)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Release() override;

  ArtifactStreams* const streams_;

  // Accessed only by the running task.
  ArtifactStreams::Slot slot_;
  std::optional<ReceiveQuota::Upload> memory_;
  std::optional<WriteMessage> message_;
  bool asks_ = false;  // Whether message_ asks for an acknowledgement.
  std::unique_ptr<artifacts::UploadWriter> writer_;
  bool rehashing_ = false;
  int64_t acknowledged_ = 0;

  // Whether writer_ exists while no task runs.
  bool holds_upload_ ABSL_GUARDED_BY(mutex_) = false;
  // Message that waits for a worker.
  std::optional<grpc::ByteBuffer> received_ ABSL_GUARDED_BY(mutex_);
  // Whether the client's stream has ended or broken.
  bool no_more_ ABSL_GUARDED_BY(mutex_) = false;
  // Acknowledgement that waits for the one before it to be written.
  std::optional<grpc::ByteBuffer> next_ ABSL_GUARDED_BY(mutex_);
  std::optional<grpc::ByteBuffer> last_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_ARTIFACT_STREAMS_H_
