#ifndef MLOPS_SERVICE_RPC_STATUS_STREAM_H_
#define MLOPS_SERVICE_RPC_STATUS_STREAM_H_

#include <deque>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "grpcpp/support/byte_buffer.h"
#include "service/base/clock.h"
#include "service/core/authority.h"
#include "service/rpc/call.h"
#include "service/rpc/stream.h"

namespace mlops::rpc {

// One StreamWorkspaceStatuses call, whose messages are concatenated encoded
// statuses. Up to four tasks on the worker pool, the scanners, count workspaces
// until enough statuses are ready. Whenever no write is outstanding, the stream
// sends everything that is ready in one message. The stream holds at most two
// such messages, which count against a budget shared by all status streams, and
// the names of one page.
class StatusStream final
    : public Stream<grpc::ServerWriteReactor<grpc::ByteBuffer>> {
 public:
  StatusStream(core::Authority* authority, Calls* calls,
               grpc::CallbackServerContext* context,
               const grpc::ByteBuffer& request);

 private:
  absl::Status Parse(const grpc::ByteBuffer& request);

  // Starts more scanners or a write, or ends the call.
  Step Next() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int ScannersToStart() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Written() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Runs one scanner: counts workspaces one after the other, and regularly
  // requeues itself to let other calls run.
  void Work() override ABSL_LOCKS_EXCLUDED(mutex_);
  // Counts the next workspace that still exists. Returns false if there is none
  // for now.
  bool ScanOne() ABSL_LOCKS_EXCLUDED(mutex_);
  void AddReady(const std::string& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // A workspace to count.
  struct Target {
    core::ProjectName project;
    // Set if it is in the trash.
    core::WorkspacePtr deleted;
  };
  // Takes the next workspace to count. Returns nullopt if there is none for
  // now.
  std::optional<Target> NextTarget() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<core::StatusResult> Count(const Target& target);
  // Fetches the next page of names into targets_.
  absl::Status FetchPage() ABSL_LOCKS_EXCLUDED(mutex_);

  core::Authority* const authority_;
  // When this stream began, on the steady clock.
  const absl::Duration opened_;
  core::StatusArgs status_args_;
  // For the next page; accessed only by the task that fetches it.
  core::ListArgs list_args_;

  // Workspaces of the current page that have not been counted yet.
  std::deque<Target> targets_ ABSL_GUARDED_BY(mutex_);
  // Whether a scanner is fetching the next page.
  bool fetching_ ABSL_GUARDED_BY(mutex_) = false;
  bool last_page_ ABSL_GUARDED_BY(mutex_) = false;
  // Encoded statuses of the next message.
  std::string ready_ ABSL_GUARDED_BY(mutex_);
  // The size of the message being written.
  size_t written_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  // Accounts for ready_ and the message being written.
  ByteBudget::Hold memory_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_STATUS_STREAM_H_
