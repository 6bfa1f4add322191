// Prints the number of files and bytes in each workspace, once or every SECONDS
// seconds.
//
//   watch_usage ADDRESS [SECONDS]
#include <cstdlib>
#include <iostream>

#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "mlops/workspace_client.h"

namespace {

bool Print(const mlops::WorkspaceStatus& status) {
  std::cout << status.workspace.project << ": " << status.file_count
            << " files, " << status.size_bytes << " bytes";
  for (const mlops::DirectoryUsage& directory : status.directories) {
    if (directory.file_count > 0)
      std::cout << ", " << directory.name << " " << directory.size_bytes;
  }
  if (!status.error.ok())
    std::cout << " (incomplete: " << status.error.message() << ")";
  std::cout << "\n";
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  const auto client = mlops::WorkspaceClient::Connect(
      {.address = argc > 1 ? argv[1] : "127.0.0.1:50051"});
  if (!client.ok()) return std::cerr << client.status() << "\n", 1;
  int seconds = 0;
  if (argc > 2 && !absl::SimpleAtoi(argv[2], &seconds))
    return std::cerr << "SECONDS must be a number\n", 2;
  while (true) {
    const absl::Status status = client->StreamStatuses(Print);
    if (!status.ok()) std::cerr << status << "\n";
    if (seconds <= 0) return status.ok() ? EXIT_SUCCESS : EXIT_FAILURE;
    absl::SleepFor(absl::Seconds(seconds));
  }
}
