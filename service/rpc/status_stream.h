#ifndef MLOPS_SERVICE_RPC_STATUS_STREAM_H_
#define MLOPS_SERVICE_RPC_STATUS_STREAM_H_

#include <deque>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "mlops/workspace/v1/workspace_service.grpc.pb.h"
#include "service/core/authority.h"
#include "service/rpc/call.h"

namespace mlops::rpc {

// One StreamWorkspaceStatuses call. It counts one workspace at a time, on the worker pool, and begins the next when the
// last message is on its way: memory is one page of names, and a slow reader holds no thread. Deletes itself.
class StatusStream final : public grpc::ServerWriteReactor<mlops::workspace::v1::WorkspaceStatus> {
 public:
  StatusStream(core::Authority* authority, Calls* calls, grpc::CallbackServerContext* context,
               const mlops::workspace::v1::StreamWorkspaceStatusesRequest& request);

  void OnWriteDone(bool ok) override;
  void OnDone() override { delete this; }

 private:
  // Runs Next() on the worker pool.
  void Schedule();
  // Counts the next workspace that still exists and writes its message, or ends the call.
  void Next();
  // The next message into message_; false when there is none.
  absl::StatusOr<bool> Fill();
  absl::Status FetchPage();
  void End(const absl::Status& status);

  core::Authority* const authority_;
  Calls* const calls_;
  grpc::CallbackServerContext* const context_;
  const absl::Time started_;
  absl::Status problem_;  // With the request.
  core::StatusArgs status_args_;
  std::deque<core::ProjectName> projects_;  // Of the page fetched last, still to be counted.
  core::ListArgs list_args_;
  bool last_page_ = false;
  mlops::workspace::v1::WorkspaceStatus message_;
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_STATUS_STREAM_H_
