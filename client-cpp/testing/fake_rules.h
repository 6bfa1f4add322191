#ifndef MLOPS_CLIENT_CPP_TESTING_FAKE_RULES_H_
#define MLOPS_CLIENT_CPP_TESTING_FAKE_RULES_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "google/protobuf/timestamp.pb.h"
#include "mlops/workspace/v1/workspace_service.pb.h"

// The rules of the contract that the fake shares with the server: which
// requests are valid, the errors of invalid ones, and the changes that requests
// make to a workspace. Pure functions; thread-safe.
namespace mlops::testing::rules {

inline constexpr const char* kSettings[] = {
    "mlflow_experiment_id", "mlflow_tracking_uri", "dvc_remote_path",
    "bentoml_tag_prefix"};

google::protobuf::Timestamp ToTimestamp(absl::Time time);

// Errors.
absl::Status NotFound(const std::string& project);
absl::Status Exists(const workspace::v1::Workspace& workspace);
absl::Status LeaseHeld(const std::string& project,
                       const workspace::v1::Lease& lease);

// Checks of a request.
absl::Status CheckProject(const std::string& project);
absl::Status CheckSameProject(const std::string& project,
                              const workspace::v1::Workspace& workspace);
absl::Status CheckEtag(const workspace::v1::Workspace& current,
                       const std::string& etag);
absl::Status CheckLimits(const workspace::v1::Workspace& workspace);
// The fake does not support filters.
absl::Status CheckNoFilter(const std::string& filter);
// Checks the length, and that all characters are printable ASCII.
absl::Status CheckHolder(const std::string& holder);

bool IsOverQuota(const workspace::v1::WorkspaceStatus& status);

// Copies the settings and quotas that are present, and merges metadata key by
// key.
void MergeSettings(const workspace::v1::Workspace& from,
                   workspace::v1::Workspace& to);

// Applies the changes of `request` to `workspace`.
absl::Status Apply(const workspace::v1::UpdateWorkspaceRequest& request,
                   workspace::v1::Workspace& workspace);

// The order of a list. Workspaces are sorted by a string key, which is also the
// page token.
struct Order {
  std::string field;
  bool descending;

  static absl::StatusOr<Order> Parse(std::string text);
  std::string Key(const workspace::v1::Workspace& workspace) const;
  bool Before(const std::string& a, const std::string& b) const {
    return descending ? b < a : a < b;
  }
};

}  // namespace mlops::testing::rules

#endif  // MLOPS_CLIENT_CPP_TESTING_FAKE_RULES_H_
