#include "service/rpc/status_stream.h"

#include <utility>

#include "service/base/status_macros.h"
#include "service/core/errors.h"
#include "service/rpc/convert.h"

namespace mlops::rpc {

StatusStream::StatusStream(core::Authority* authority, Calls* calls, grpc::CallbackServerContext* context,
                           const pb::StreamWorkspaceStatusesRequest& request)
    : authority_(authority),
      calls_(calls),
      context_(context),
      started_(calls->Begin()),
      list_args_{.page_size = core::kMaxPageSize} {
  auto staleness = MaxStaleness(request.has_max_staleness(), request.max_staleness());
  status_args_.counts_only = request.counts_only();
  if (staleness.ok()) status_args_.max_staleness = *staleness;
  auto filter = core::Filter::Parse(request.filter());
  problem_ = staleness.status();
  problem_.Update(filter.status());
  if (filter.ok()) list_args_.filter = *std::move(filter);
  Schedule();
}

void StatusStream::Schedule() {
  if (!calls_->workers().TrySchedule([this] { Next(); })) End(Calls::TooMany());
}

void StatusStream::OnWriteDone(bool ok) {
  if (ok) {
    Schedule();
  } else {
    End(absl::CancelledError("the client left"));
  }
}

void StatusStream::Next() {
  const absl::StatusOr<bool> filled = Fill();
  if (filled.ok() && *filled) {
    StartWrite(&message_);
  } else {
    End(filled.status());
  }
}

absl::StatusOr<bool> StatusStream::Fill() {
  RETURN_IF_ERROR(problem_);
  if (calls_->draining()) return core::ShuttingDown();
  RETURN_IF_ERROR(calls_->CheckWanted(*context_));
  while (true) {
    if (projects_.empty()) {
      if (last_page_) return false;
      RETURN_IF_ERROR(FetchPage());
      continue;
    }
    const core::ProjectName project = std::move(projects_.front());
    projects_.pop_front();
    message_.Clear();
    const auto result = authority_->Status(project, status_args_, [this] { return context_->IsCancelled(); });
    if (result.ok()) {
      ToProto(*result, &message_);
      return true;
    }
    if (absl::IsCancelled(result.status())) return result.status();
    if (absl::IsNotFound(result.status())) continue;  // Deleted since it was listed.
    message_.mutable_workspace()->set_project(project.str());
    *message_.mutable_error() = wire::ToProto(result.status());
    return true;
  }
}

absl::Status StatusStream::FetchPage() {
  ASSIGN_OR_RETURN(core::ListResult page, authority_->List(list_args_));
  for (const core::WorkspacePtr& workspace : page.workspaces) projects_.push_back(workspace->project);
  // Nobody knows whether one that cannot be read would match.
  if (!list_args_.filter.matches_all()) page.unreachable.clear();
  for (const std::string& name : page.unreachable) {
    ASSIGN_OR_RETURN(core::ProjectName project, core::ProjectName::Parse(name));
    projects_.push_back(std::move(project));
  }
  list_args_.page_token = std::move(page.next_page_token);
  last_page_ = list_args_.page_token.empty();
  return absl::OkStatus();
}

void StatusStream::End(const absl::Status& status) {
  Finish(calls_->End(kStreamWorkspaceStatuses, "", status, started_, *context_));
}

}  // namespace mlops::rpc
