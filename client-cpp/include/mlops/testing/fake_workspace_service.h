#ifndef MLOPS_TESTING_FAKE_WORKSPACE_SERVICE_H_
#define MLOPS_TESTING_FAKE_WORKSPACE_SERVICE_H_

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "mlops/workspace_client.h"

// An in-process fake of the server, for tests of programs that use
// WorkspaceClient. In CMake, link MlopsWorkspace::testing.
namespace mlops::testing {

// Returns an error like the server's, for FailNext(). `code` must not be OK;
// `reason` is the name of a value of mlops.workspace.v1.ErrorReason.
absl::Status MakeError(absl::StatusCode code, std::string_view reason,
                       std::string_view message,
                       const std::map<std::string, std::string>& metadata = {});

// Keeps workspaces and their artifacts in memory. Follows the server's rules
// for names, etags, `force`, merging, the trash, order and pages, leases,
// quotas, and uploads, and returns the server's errors. Thread-safe.
//
// It differs from the server as follows. It creates no directories; root_path
// is "/fake/<project>". Trash and uploads never expire. Settings and metadata
// may have any size. It rejects filters. Watches get every change on its own,
// SYNCED only once, tokens that never expire, and no reports of workspaces that
// exceed their quotas.
//
//   mlops::testing::FakeWorkspaceService service;
//   const mlops::WorkspaceClient client = service.Client();
//   ASSERT_TRUE(client.Create("fraud-detection").ok());
//   service.FailNext(mlops::testing::MakeError(
//       absl::StatusCode::kUnavailable, "SHUTTING_DOWN", "closing"));
//   EXPECT_EQ(mlops::ErrorReason(client.Get("fraud-detection").status()),
//             "SHUTTING_DOWN");
class FakeWorkspaceService {
 public:
  FakeWorkspaceService();

  // Returns a client of this service. The client may outlive the service, and
  // does not retry.
  WorkspaceClient Client() const;

  // Makes the next RPC of any kind fail with `status` and change nothing.
  // Repeated calls queue their errors, one per RPC. `status` must not be OK.
  void FailNext(absl::Status status);

  // Adds a template, or replaces the one of the same name. Create applies its
  // settings and metadata, but creates none of its directories and files.
  void AddTemplate(Template added);

  // Sets the usage of `project`, which need not exist yet. GetStatus,
  // StreamStatuses and Delete report it, and it counts against the quotas. By
  // default, the fake counts the artifacts.
  void SetUsage(std::string_view project,
                std::vector<DirectoryUsage> directories);

 private:
  class State;
  std::shared_ptr<State> state_;
};

}  // namespace mlops::testing

#endif  // MLOPS_TESTING_FAKE_WORKSPACE_SERVICE_H_
