#ifndef MLOPS_CLIENT_CPP_SRC_CONVERT_H_
#define MLOPS_CLIENT_CPP_SRC_CONVERT_H_

#include <string_view>

#include "mlops/workspace/v1/workspace_service.pb.h"
#include "mlops/workspace_client.h"

// Converts between the client's values and the contract's messages.
// Thread-safe.
namespace mlops::internal {

workspace::v1::Workspace ToProto(std::string_view project,
                                 const Settings& settings);
google::protobuf::Duration ToProto(absl::Duration duration);

Workspace FromProto(const workspace::v1::Workspace& proto);
WorkspaceStatus FromProto(const workspace::v1::WorkspaceStatus& proto);
WorkspacePage FromProto(const workspace::v1::ListWorkspacesResponse& proto);
DeleteResult FromProto(const workspace::v1::DeleteWorkspaceResponse& proto);
EnsureResult FromProto(const workspace::v1::EnsureWorkspaceResponse& proto);
Template FromProto(const workspace::v1::Template& proto);
ServerInfo FromProto(const workspace::v1::ServerInfo& proto);
Artifact FromProto(const workspace::v1::Artifact& proto);

}  // namespace mlops::internal

#endif  // MLOPS_CLIENT_CPP_SRC_CONVERT_H_
