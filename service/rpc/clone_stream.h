#ifndef MLOPS_SERVICE_RPC_CLONE_STREAM_H_
#define MLOPS_SERVICE_RPC_CLONE_STREAM_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "grpcpp/support/byte_buffer.h"
#include "service/artifacts/copy_tree.h"
#include "service/artifacts/stage.h"
#include "service/core/authority.h"
#include "service/fs/dir.h"
#include "service/rpc/call.h"
#include "service/rpc/stream.h"
#include "service/rpc/transfer_slots.h"

namespace mlops::rpc {

// Resources for clones. All pointers must outlive the streams.
struct CloneParts {
  core::Authority* authority = nullptr;
  artifacts::Stage* stage = nullptr;
  TransferSlots* slots = nullptr;
  // Threads for clones only, because each clone blocks its thread until it is
  // done. A clone waits for a free thread.
  base::ThreadPool* workers = nullptr;
  std::shared_ptr<const fs::Dir> base;
};

// One CloneWorkspace call. One task fills a staged directory and has the
// authority place it. Meanwhile the task reports its progress every few hundred
// milliseconds; a message that the client has not taken yet is replaced by the
// next.
class CloneStream final
    : public Stream<grpc::ServerWriteReactor<grpc::ByteBuffer>> {
 public:
  CloneStream(const CloneParts& parts, Calls* calls,
              grpc::CallbackServerContext* context,
              const grpc::ByteBuffer& request);

 private:
  absl::Status Parse(const grpc::ByteBuffer& request);
  // Checks the caller's rights on both workspaces.
  absl::Status AuthorizeBoth(const std::string& source,
                             const std::string& destination);

  Step Next() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Work() override ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<core::WorkspacePtr> Clone() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<core::WorkspacePtr> CopyAndPlace(
      const core::WorkspacePtr& source) ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether the result is no longer needed: the client has cancelled, or the
  // stream has ended, for example because the server shuts down.
  bool Ended() ABSL_LOCKS_EXCLUDED(mutex_);
  void Report(const artifacts::CopyProgress& progress)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Adds the bytes copied since the last call to the metrics.
  void Count(const artifacts::CopyProgress& progress);

  const CloneParts parts_;
  // Reset before the last message is sent.
  std::optional<TransferSlots::Slot> slot_;
  // Set by Parse().
  std::optional<core::ProjectName> source_, destination_;
  std::vector<std::string> directories_;
  std::string request_id_;
  // Used by the task.
  artifacts::CopyProgress copied_;
  int64_t counted_bytes_ = 0;
  SteadyClock::time_point reported_ = SteadyClock::now();

  bool started_ ABSL_GUARDED_BY(mutex_) = false;
  // The next message.
  std::optional<grpc::ByteBuffer> ready_ ABSL_GUARDED_BY(mutex_);
  // Whether `ready_` is the last message.
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_CLONE_STREAM_H_
