#ifndef MLOPS_SERVICE_RPC_RAW_SERVICE_H_
#define MLOPS_SERVICE_RPC_RAW_SERVICE_H_

#include "mlops/workspace/v1/workspace_service.grpc.pb.h"

namespace mlops::rpc {

namespace pb = mlops::workspace::v1;

// WorkspaceService with encoded messages in every method. The server thus knows
// the size of a request before decoding it, reports an undecodable request like
// any other invalid one, and does not copy data or long lists.
// clang-format off
using RawService =
    pb::WorkspaceService::WithRawCallbackMethod_CreateWorkspace<
    pb::WorkspaceService::WithRawCallbackMethod_GetWorkspace<
    pb::WorkspaceService::WithRawCallbackMethod_ListWorkspaces<
    pb::WorkspaceService::WithRawCallbackMethod_UpdateWorkspace<
    pb::WorkspaceService::WithRawCallbackMethod_DeleteWorkspace<
    pb::WorkspaceService::WithRawCallbackMethod_EnsureWorkspace<
    pb::WorkspaceService::WithRawCallbackMethod_UndeleteWorkspace<
    pb::WorkspaceService::WithRawCallbackMethod_GetWorkspaceStatus<
    pb::WorkspaceService::WithRawCallbackMethod_ListTemplates<
    pb::WorkspaceService::WithRawCallbackMethod_AcquireLease<
    pb::WorkspaceService::WithRawCallbackMethod_ReleaseLease<
    pb::WorkspaceService::WithRawCallbackMethod_GetArtifact<
    pb::WorkspaceService::WithRawCallbackMethod_ListArtifacts<
    pb::WorkspaceService::WithRawCallbackMethod_GetUpload<
    pb::WorkspaceService::WithRawCallbackMethod_DeleteArtifact<
    pb::WorkspaceService::WithRawCallbackMethod_MoveArtifact<
    pb::WorkspaceService::WithRawCallbackMethod_CopyArtifact<
    pb::WorkspaceService::WithRawCallbackMethod_MakeDirectory<
    pb::WorkspaceService::WithRawCallbackMethod_GetServerInfo<
    pb::WorkspaceService::WithRawCallbackMethod_CloneWorkspace<
    pb::WorkspaceService::WithRawCallbackMethod_ExportWorkspace<
    pb::WorkspaceService::WithRawCallbackMethod_ImportWorkspace<
    pb::WorkspaceService::WithRawCallbackMethod_WatchWorkspaces<
    pb::WorkspaceService::WithRawCallbackMethod_StreamWorkspaceStatuses<
    pb::WorkspaceService::WithRawCallbackMethod_ReadArtifact<
    pb::WorkspaceService::WithRawCallbackMethod_WriteArtifact<
        pb::WorkspaceService::Service>>>>>>>>>>>>>>>>>>>>>>>>>>;
// clang-format on

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_RAW_SERVICE_H_
