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

// One StreamWorkspaceStatuses call, whose messages are put together from
// encoded parts. A few tasks on the worker pool, the scanners, count workspaces
// until as much is ready as may wait; whenever nothing is being written, all
// that is ready goes in one message. Memory is two such messages, which all
// streams of statuses share a budget for, and one page of names.
class StatusStream final
    : public Stream<grpc::ServerWriteReactor<grpc::ByteBuffer>> {
 public:
  StatusStream(core::Authority* authority, Calls* calls,
               grpc::CallbackServerContext* context,
               const grpc::ByteBuffer& request);

 private:
  absl::Status Parse(const grpc::ByteBuffer& request);

  // More scanners, a write, or the end.
  Step Next() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int ScannersToStart() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Written() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What a scanner does: counts one after the other, and now and then gives way
  // to other calls.
  void Work() override ABSL_LOCKS_EXCLUDED(mutex_);
  // Counts the next workspace that still exists; false if there is none for
  // now.
  bool ScanOne() ABSL_LOCKS_EXCLUDED(mutex_);
  void AddReady(const std::string& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The next to be counted; nullopt if there is none for now.
  std::optional<core::ProjectName> NextProject() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status FetchPage() ABSL_LOCKS_EXCLUDED(mutex_);

  core::Authority* const authority_;
  const absl::Duration opened_;  // When this stream began, by the steady clock.
  core::StatusArgs status_args_;
  // Of the next page; accessed only by the task that fetches it.
  core::ListArgs list_args_;

  // Of the page fetched last, still to be counted.
  std::deque<core::ProjectName> projects_ ABSL_GUARDED_BY(mutex_);
  bool fetching_ ABSL_GUARDED_BY(mutex_) = false;
  bool last_page_ ABSL_GUARDED_BY(mutex_) = false;
  std::string ready_ ABSL_GUARDED_BY(mutex_);  // The beginning of a message.
  size_t written_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  ByteBudget::Hold memory_ ABSL_GUARDED_BY(mutex_);  // For both.
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_STATUS_STREAM_H_
