#include "client-cpp/src/watch_session.h"

#include <utility>

#include "client-cpp/src/convert.h"
#include "proto/cpp/base/status_macros.h"

namespace mlops::internal {
namespace {

namespace v1 = workspace::v1;

std::optional<WorkspaceChange> FromProto(v1::Change change) {
  switch (change) {
    case v1::CHANGE_CREATED:
      return WorkspaceChange::kCreated;
    case v1::CHANGE_UPDATED:
      return WorkspaceChange::kUpdated;
    case v1::CHANGE_DELETED:
      return WorkspaceChange::kDeleted;
    case v1::CHANGE_SYNCED:
      return WorkspaceChange::kSynced;
    default:
      // A later server may report other changes.
      return std::nullopt;
  }
}

}  // namespace

WatchSession::WatchSession(Connection* connection, const Visit& visit,
                           const WatchOptions& options, const CallOptions& call)
    : connection_(connection),
      visit_(visit),
      retry_(call),
      complete_(options.resume_token.empty()) {
  for (const std::string& project : options.projects)
    request_.add_projects(project);
  request_.set_resume_token(options.resume_token);
}

absl::Status WatchSession::Run() {
  while (true) {
    absl::Status end = connection_->WatchWorkspaces(
        request_, retry_.Attempt(),
        [this](const v1::WatchWorkspacesResponse& response) {
          retry_.Progressed();
          // A server that has answered once will come back.
          retry_.NeverGiveUp();
          enough_ = !Take(response);
          return !enough_;
        });
    if (enough_) return absl::OkStatus();
    if (end.ok()) end = absl::UnavailableError("The server ended a watch");
    RETURN_IF_ERROR(Recover(std::move(end)));
  }
}

absl::Status WatchSession::Recover(absl::Status error) {
  RETURN_IF_ERROR(retry_.CheckWanted());
  // List again, and compare the list with the known workspaces. Without a list
  // at the start, only the caller can do that.
  if (ErrorReason(error) == "RESUME_TOKEN_EXPIRED" && complete_) {
    request_.clear_resume_token();
    unseen_ = known_;
    return retry_.Wait(error);
  }
  // The server cancels watches whose client does not read for long.
  if (!IsResumable(error) && !absl::IsCancelled(error)) return error;
  return retry_.Wait(error);
}

bool WatchSession::Take(const v1::WatchWorkspacesResponse& response) {
  // Record the position even of a change that is not reported.
  request_.set_resume_token(response.resume_token());
  std::optional<WorkspaceChange> change = FromProto(response.change());
  if (!change.has_value()) return true;
  const std::string& project = response.workspace().project();
  if (*change == WorkspaceChange::kSynced) {
    if (unseen_.has_value() && !ReportGone(response.resume_token()))
      return false;
  } else if (*change == WorkspaceChange::kDeleted) {
    known_.erase(project);
  } else {
    Known now{.uid = response.workspace().uid(),
              .etag = response.workspace().etag(),
              .lease = response.workspace().lease().SerializeAsString(),
              .over_quota = response.over_quota()};
    Known& was = known_[project];
    // While listing again, report only what has changed. A different uid means
    // that the workspace was recreated.
    if (unseen_.has_value() && unseen_->erase(project) > 0) {
      if (was == now) return true;
      if (was.uid == now.uid) change = WorkspaceChange::kUpdated;
    }
    was = std::move(now);
  }
  return visit_({.change = *change,
                 .workspace = internal::FromProto(response.workspace()),
                 .resume_token = response.resume_token(),
                 .over_quota = response.over_quota()});
}

bool WatchSession::ReportGone(const std::string& resume_token) {
  const auto gone = std::exchange(unseen_, std::nullopt);
  for (const auto& [project, known] : *gone) {
    known_.erase(project);
    if (!visit_({.change = WorkspaceChange::kDeleted,
                 .workspace = {.project = project, .uid = known.uid},
                 .resume_token = resume_token}))
      return false;
  }
  return true;
}

}  // namespace mlops::internal
