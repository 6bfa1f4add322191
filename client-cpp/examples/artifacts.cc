// Stores a file in a workspace, lists the workspace's outputs, and reads the
// file back.
//
//   artifacts ADDRESS PROJECT FILE
#include <iostream>
#include <string>

#include "mlops/workspace_client.h"

namespace {

int Fail(const absl::Status& status) {
  std::cerr << status << "\n";
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4)
    return std::cerr << "usage: artifacts ADDRESS PROJECT FILE\n", 2;
  const std::string project = argv[2];
  const auto client = mlops::WorkspaceClient::Connect({.address = argv[1]});
  if (!client.ok()) return Fail(client.status());
  if (const auto ensured = client->Ensure(project); !ensured.ok())
    return Fail(ensured.status());

  const mlops::Progress progress = [](int64_t done, int64_t total) {
    std::cerr << "\r" << done << " of " << total << " bytes";
    return true;
  };
  const auto stored = client->Upload(project, argv[3], "outputs/file.bin",
                                     {.checksum = true, .progress = progress});
  if (!stored.ok()) return Fail(stored.status());
  std::cerr << "\n";

  const absl::Status listed = client->ListArtifacts(
      project,
      [](const mlops::Artifact& artifact) {
        std::cout << artifact.path << " " << artifact.size_bytes << "\n";
        return true;
      },
      {.path = "outputs", .recursive = true});
  if (!listed.ok()) return Fail(listed);

  auto reader =
      client->OpenForRead(project, "outputs/file.bin", {.etag = stored->etag});
  if (!reader.ok()) return Fail(reader.status());
  while (reader->remaining_bytes() > 0) {
    const auto chunk = reader->ReadChunk();
    if (!chunk.ok()) return Fail(chunk.status());
  }
  std::cout << "read " << reader->offset() << " bytes, SHA-256 "
            << stored->sha256 << "\n";
}
