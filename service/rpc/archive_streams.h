#ifndef MLOPS_SERVICE_RPC_ARCHIVE_STREAMS_H_
#define MLOPS_SERVICE_RPC_ARCHIVE_STREAMS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "mlops/workspace/v1/workspace_service.pb.h"
#include "proto/cpp/wire_data.h"
#include "service/archive/archives.h"
#include "service/rpc/call.h"
#include "service/rpc/receive_quota.h"
#include "service/rpc/receive_stream.h"
#include "service/rpc/stream.h"
#include "service/rpc/transfer_slots.h"

namespace mlops::rpc {

namespace pb = mlops::workspace::v1;

// State shared by all archive streams. Thread-safe.
class ArchiveStreams {
 public:
  // All pointers must outlive this. `workers` reads and writes files, one chunk
  // per task.
  ArchiveStreams(archive::Archives* archives, Calls* calls,
                 base::ThreadPool* workers, ReceiveQuota* receive_quota,
                 TransferSlots* slots)
      : archives_(archives),
        calls_(calls),
        workers_(workers),
        receive_quota_(receive_quota),
        slots_(slots) {}

  archive::Archives& archives() const { return *archives_; }
  Calls& calls() const { return *calls_; }
  base::ThreadPool& workers() const { return *workers_; }
  ReceiveQuota& receive_quota() const { return *receive_quota_; }
  TransferSlots& slots() const { return *slots_; }
  LiveCalls& live() { return live_; }

  // Ends streams whose clients have been idle for too long. The limit is
  // shorter while other transfers are refused. Must be called about once a
  // second.
  void EndIdle();

 private:
  archive::Archives* const archives_;
  Calls* const calls_;
  base::ThreadPool* const workers_;
  ReceiveQuota* const receive_quota_;
  TransferSlots* const slots_;
  LiveCalls live_;
};

// One ExportWorkspace call. Reads the next chunk while the previous one is
// being written, so a slow reader occupies the memory of two chunks.
class ExportStream final
    : public Stream<grpc::ServerWriteReactor<grpc::ByteBuffer>> {
 public:
  ExportStream(ArchiveStreams* streams, grpc::CallbackServerContext* context,
               const grpc::ByteBuffer& request);

 private:
  absl::Status Parse(const grpc::ByteBuffer& request);

  Step Next() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Opens the workspace, or reads the next chunk.
  void Work() override ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<grpc::ByteBuffer> NextChunk();
  void Release() override;

  ArchiveStreams* const streams_;
  TransferSlots::Slot slot_;
  std::optional<archive::ExportArgs> args_;
  // Accessed only by the running task.
  std::unique_ptr<archive::Exporter> exporter_;

  std::optional<grpc::ByteBuffer> ready_ ABSL_GUARDED_BY(mutex_);
  bool all_read_ ABSL_GUARDED_BY(mutex_) = false;
};

// One ImportWorkspace call.
class ImportStream final : public ReceiveStream {
 public:
  ImportStream(ArchiveStreams* streams, grpc::CallbackServerContext* context);

 private:
  // A decoded message.
  struct Message {
    // All fields but the data.
    pb::ImportWorkspaceRequest head;
    wire::Data data;
  };

  std::optional<absl::Status> Handle(bool* more) override;
  bool Holds() const override { return importer_ != nullptr; }
  // Discards the staged files before the client sees the end of the call.
  void Drop() override { importer_.reset(); }
  void Release() override { DestroyLater(std::move(importer_)); }

  absl::StatusOr<archive::ImportArgs> ParseFirst(
      const pb::ImportWorkspaceRequest& first);
  // Begins the import, or answers with the workspace that an earlier call with
  // the same request_id created.
  absl::Status BeginImport(const pb::ImportWorkspaceRequest& first);
  absl::Status CheckLater(const pb::ImportWorkspaceRequest& head) const;
  // Acknowledges the staged bytes once enough have accumulated.
  void AcknowledgeStaged();
  absl::Status Finish();
  // Sets the last response.
  void Answer(int64_t offset, const core::Workspace& workspace);

  ArchiveStreams* const streams_;

  // Accessed only by the running task.
  TransferSlots::Slot slot_;
  std::optional<ReceiveQuota::Upload> memory_;
  std::unique_ptr<archive::Importer> importer_;
  int64_t acknowledged_ = 0;
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_ARCHIVE_STREAMS_H_
