#ifndef MLOPS_CLIENT_CPP_SRC_WATCH_SESSION_H_
#define MLOPS_CLIENT_CPP_SRC_WATCH_SESSION_H_

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client-cpp/src/connection.h"
#include "client-cpp/src/retry.h"
#include "mlops/workspace/v1/workspace_service.pb.h"
#include "mlops/workspace_client.h"

namespace mlops::internal {

// One WorkspaceClient::Watch. When the call breaks, resumes after the last
// event; when the position has expired, lists again. Not thread-safe.
class WatchSession {
 public:
  using Visit = std::function<bool(const WorkspaceEvent&)>;

  // `connection` and `visit` must outlive the session.
  WatchSession(Connection* connection, const Visit& visit,
               const WatchOptions& options, const CallOptions& call);

  // Reports events until the visitor returns false or the watch fails.
  absl::Status Run();

 private:
  // Identifies a state of a workspace, including its lease.
  struct Known {
    std::string uid;
    std::string etag;
    std::string lease;
    bool over_quota = false;
    bool operator==(const Known&) const = default;
  };

  // Reports one response. Returns false if the visitor did.
  bool Take(const workspace::v1::WatchWorkspacesResponse& response);
  // Reports the workspaces that the new list lacks. Returns false if the
  // visitor did.
  bool ReportGone(const std::string& resume_token);
  // Prepares the next call after an error, or returns the error.
  absl::Status Recover(absl::Status error);

  Connection* const connection_;
  const Visit& visit_;
  workspace::v1::WatchWorkspacesRequest request_;
  Retry retry_;
  // Whether the watch began with a list. If not, it does not know all
  // workspaces, so it cannot report the missing ones.
  const bool complete_;
  std::map<std::string, Known> known_;
  // Set while listing again: the known projects that the list has not contained
  // so far.
  std::optional<std::map<std::string, Known>> unseen_;
  bool enough_ = false;
};

}  // namespace mlops::internal

#endif  // MLOPS_CLIENT_CPP_SRC_WATCH_SESSION_H_
