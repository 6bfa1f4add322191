// Creates, reads, updates and lists workspaces.
//
//   quickstart ADDRESS
//
// ADDRESS is for example 127.0.0.1:50051 or unix:/path/of/socket.
#include <iostream>

#include "mlops/workspace_client.h"

int main(int argc, char** argv) {
  const auto client = mlops::WorkspaceClient::Connect(
      {.address = argc > 1 ? argv[1] : "127.0.0.1:50051"});
  if (!client.ok()) return std::cerr << client.status() << "\n", 1;

  const auto made =
      client->Create("lora-finetuning", {.mlflow_experiment_id = "17"});
  if (!made.ok() && mlops::ErrorReason(made.status()) != "WORKSPACE_EXISTS")
    return std::cerr << made.status() << "\n", 1;

  const auto read = client->Get("lora-finetuning");
  if (!read.ok()) return std::cerr << read.status() << "\n", 1;
  std::cout << read->project << " keeps its runs in "
            << read->mlflow_tracking_uri.value_or("nothing") << "\n";

  const auto updated = client->Update(
      "lora-finetuning",
      {.metadata = *mlops::MetadataFromJson(R"({"stage": "dev"})")},
      {.etag = read->etag});
  if (!updated.ok()) return std::cerr << updated.status() << "\n", 1;

  const auto listed = client->ListAll([](const mlops::Workspace& workspace) {
    std::cout << workspace.project << " "
              << mlops::MetadataToJson(workspace.metadata) << "\n";
    return true;
  });
  return listed.ok() ? 0 : 1;
}
