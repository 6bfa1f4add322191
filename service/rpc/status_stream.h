#ifndef MLOPS_SERVICE_RPC_STATUS_STREAM_H_
#define MLOPS_SERVICE_RPC_STATUS_STREAM_H_

#include <deque>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "grpcpp/support/byte_buffer.h"
#include "service/base/clock.h"
#include "service/core/authority.h"
#include "service/rpc/call.h"

namespace mlops::rpc {

// One StreamWorkspaceStatuses call, whose messages are put together from encoded parts. A few tasks on the worker pool
// count workspaces, each by itself, until as much is ready as may wait; whenever nothing is being written, all that is
// ready goes in one message. Memory is two such messages and one page of names, and a slow reader holds no thread.
// Deletes itself.
class StatusStream final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  StatusStream(core::Authority* authority, Calls* calls, grpc::CallbackServerContext* context,
               const grpc::ByteBuffer& request);

  void OnWriteDone(bool ok) override;
  void OnDone() override { delete this; }

 private:
  absl::Status Parse(const grpc::ByteBuffer& request);

  // Makes a change under the lock, and begins what can be begun then: a write, more scanners, the end. All in one: in
  // between, another thread could end the call, and with it this object. The caller must not touch anything afterwards
  // unless it is counted as a scanner.
  void Advance(absl::FunctionRef<void()> change) ABSL_LOCKS_EXCLUDED(mutex_);
  // How many scanners are to be started; they are counted already.
  int TakeScannersToStart() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void StartScanners(int count) ABSL_LOCKS_EXCLUDED(mutex_);

  // What a scanner does: counts one after the other, and now and then gives way to other calls.
  void ScanSome() ABSL_LOCKS_EXCLUDED(mutex_);
  // Counts the next workspace that still exists; false if there is none for now.
  bool ScanOne() ABSL_LOCKS_EXCLUDED(mutex_);
  // The next to be counted; nullopt if there is none for now.
  std::optional<core::ProjectName> NextProject() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status FetchPage() ABSL_LOCKS_EXCLUDED(mutex_);
  // Why no more is to be done, if so.
  absl::Status CheckWanted() const;
  void SetEnd(absl::Status status) ABSL_LOCKS_EXCLUDED(mutex_);

  core::Authority* const authority_;
  Calls* const calls_;
  grpc::CallbackServerContext* const context_;
  const absl::Time started_;
  const absl::Time opened_;  // The same, by the monotonic clock.
  core::StatusArgs status_args_;
  core::ListArgs list_args_;        // Of the next page. Only of who fetches it.
  grpc::ByteBuffer being_written_;  // Only of who writes.

  absl::Mutex mutex_;
  std::deque<core::ProjectName> projects_ ABSL_GUARDED_BY(mutex_);  // Of the page fetched last, still to be counted.
  bool fetching_ ABSL_GUARDED_BY(mutex_) = false;
  bool last_page_ ABSL_GUARDED_BY(mutex_) = false;
  int scanners_ ABSL_GUARDED_BY(mutex_) = 0;
  std::string ready_ ABSL_GUARDED_BY(mutex_);  // The beginning of a message.
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mutex_);  // With what the call ends, once that is known.
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_STATUS_STREAM_H_
