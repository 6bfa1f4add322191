#ifndef MLOPS_SERVICE_RPC_ARTIFACT_STREAMS_H_
#define MLOPS_SERVICE_RPC_ARTIFACT_STREAMS_H_

#include <deque>
#include <memory>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "service/artifacts/artifacts.h"
#include "service/rpc/artifact_wire.h"
#include "service/rpc/call.h"
#include "service/rpc/receive_quota.h"
#include "service/rpc/receive_stream.h"
#include "service/rpc/stream.h"
#include "service/rpc/stream_slots.h"

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
        slots_(max_streams, "streams of artifacts", kRetryDelay) {}

  artifacts::Artifacts& artifacts() const { return *artifacts_; }
  Calls& calls() const { return *calls_; }
  base::ThreadPool& workers() const { return *workers_; }
  ReceiveQuota& receive_quota() const { return *receive_quota_; }
  StreamSlots& slots() { return slots_; }
  const StreamSlots& slots() const { return slots_; }
  LiveCalls& live() { return live_; }

  // Ends streams whose clients have been idle for too long. The limit is
  // shorter while other streams are refused. Must be called about once a
  // second.
  void EndIdle();

 private:
  static constexpr absl::Duration kRetryDelay = absl::Milliseconds(500);

  artifacts::Artifacts* const artifacts_;
  Calls* const calls_;
  base::ThreadPool* const workers_;
  ReceiveQuota* const receive_quota_;
  StreamSlots slots_;
  LiveCalls live_;
};

// One ReadArtifact call. Reads the next chunk while the previous one is being
// written, so a slow reader occupies the memory of two chunks.
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
  void Release() override { DestroyLater(std::move(reader_)); }

  ArtifactStreams* const streams_;
  StreamSlots::Slot slot_;
  std::optional<artifacts::ReadArgs> args_;
  // Accessed only by the running task.
  std::unique_ptr<artifacts::ArtifactReader> reader_;

  std::deque<grpc::ByteBuffer> ready_ ABSL_GUARDED_BY(mutex_);
  bool all_read_ ABSL_GUARDED_BY(mutex_) = false;
};

// One WriteArtifact call.
class ArtifactWriteStream final : public ReceiveStream {
 public:
  ArtifactWriteStream(ArtifactStreams* streams,
                      grpc::CallbackServerContext* context);

 private:
  std::optional<absl::Status> Handle(bool* more) override;
  bool Holds() const override { return writer_ != nullptr; }
  void Drop() override { writer_.reset(); }
  void Release() override { DestroyLater(std::move(writer_)); }

  absl::Status BeginMessage();
  absl::StatusOr<artifacts::WriteArgs> ParseFirst(
      const pb::WriteArtifactRequest& first);
  absl::Status BeginUpload(const pb::WriteArtifactRequest& first);
  absl::Status Discard(const WriteMessage& message);
  absl::Status Write(const WriteMessage& message);
  absl::Status WriteData(const WriteMessage& message);
  // Acknowledges the staged bytes if the client asks, or once enough have
  // accumulated.
  void AcknowledgeStaged(bool asked);
  absl::Status CheckLater(const pb::WriteArtifactRequest& head) const;
  absl::Status EndUnfinished();
  // Sets the last response.
  void Answer(int64_t offset,
              const std::optional<artifacts::Artifact>& artifact);

  ArtifactStreams* const streams_;

  // Accessed only by the running task.
  StreamSlots::Slot slot_;
  std::optional<ReceiveQuota::Upload> memory_;
  std::optional<WriteMessage> message_;
  bool asks_ = false;  // Whether message_ asks for an acknowledgement.
  std::unique_ptr<artifacts::UploadWriter> writer_;
  bool rehashing_ = false;
  int64_t acknowledged_ = 0;
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_ARTIFACT_STREAMS_H_
