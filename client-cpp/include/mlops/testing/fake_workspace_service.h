#ifndef MLOPS_TESTING_FAKE_WORKSPACE_SERVICE_H_
#define MLOPS_TESTING_FAKE_WORKSPACE_SERVICE_H_

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "mlops/workspace_client.h"

// What tests of programs that use WorkspaceClient need in place of a server. In
// CMake: MlopsWorkspace::testing.
namespace mlops::testing {

// An error as the server makes it, for FailNext(). `code` must not be OK;
// `reason` is the name of a value of mlops.workspace.v1.ErrorReason.
absl::Status MakeError(absl::StatusCode code, std::string_view reason,
                       std::string_view message,
                       const std::map<std::string, std::string>& metadata = {});

// Workspaces and their artifacts in memory, with the server's rules for names,
// etags, `force`, merging, the trash, order and pages, uploads, and its errors.
// It makes no directories (root_path is "/fake/<project>"), its trash is never
// emptied by time nor its uploads, statuses count what SetUsage() says and no
// artifacts, it accepts settings and metadata of any size, and refuses filters.
// Thread-safe.
//
//   mlops::testing::FakeWorkspaceService service;
//   const mlops::WorkspaceClient client = service.Client();
//   ASSERT_TRUE(client.Create("fraud-detection").ok());
//   service.FailNext(mlops::testing::MakeError(absl::StatusCode::kUnavailable,
//   "SHUTTING_DOWN", "closing"));
//   EXPECT_EQ(mlops::ErrorReason(client.Get("fraud-detection").status()),
//   "SHUTTING_DOWN");
class FakeWorkspaceService {
 public:
  FakeWorkspaceService();

  // A client of this service, which may outlive it. Nothing is retried.
  WorkspaceClient Client() const;

  // Makes the next RPC that has no other error waiting, of whatever kind, fail
  // with `status` and change nothing. `status` must not be OK.
  void FailNext(absl::Status status);

  // What GetStatus, StreamStatuses and Delete tell about the files of
  // `project`, which need not exist yet. By default its five directories are
  // there and empty.
  void SetUsage(std::string_view project,
                std::vector<DirectoryUsage> directories);

 private:
  class State;
  std::shared_ptr<State> state_;
};

}  // namespace mlops::testing

#endif  // MLOPS_TESTING_FAKE_WORKSPACE_SERVICE_H_
