// Uses the fake as a user's own test does.
#include <iostream>

#include "mlops/testing/fake_workspace_service.h"

int main() {
  mlops::testing::FakeWorkspaceService service;
  const mlops::WorkspaceClient client = service.Client();
  if (!client.Create("fraud-detection").ok()) return 1;
  service.FailNext(mlops::testing::MakeError(absl::StatusCode::kUnavailable,
                                             "SHUTTING_DOWN", "closing"));
  std::cout << mlops::ErrorReason(client.Get("fraud-detection").status())
            << "\n";
}
