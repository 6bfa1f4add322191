// The methods of WorkspaceService that handle artifacts.
#include <string>

#include "proto/cpp/base/status_macros.h"
#include "service/core/errors.h"
#include "service/rpc/artifact_wire.h"
#include "service/rpc/convert.h"
#include "service/rpc/workspace_service.h"

namespace mlops::rpc {

using artifacts::Artifact;
using artifacts::RelativePath;
using core::ProjectName;

namespace {

// Reports whether the request asks for a checksum, which decides the thread
// pool before the call is queued. Returns false for a request that cannot be
// decoded, which the handler then rejects.
bool WantsChecksum(const grpc::ByteBuffer& bytes) {
  pb::GetArtifactRequest request;
  return CheckRequestSize(bytes.Length()).ok() &&
         Decode(bytes, &request).ok() && request.checksum();
}

}  // namespace

grpc::ServerUnaryReactor* WorkspaceService::GetArtifact(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  const Method& method =
      WantsChecksum(*request) ? kGetArtifactChecksum : kGetArtifact;
  return parts_.calls->Unary<pb::GetArtifactRequest, pb::Artifact>(
      method, context, request, response,
      [this, context](const auto& request, auto* response) {
        ASSIGN_OR_RETURN(const ProjectName project,
                         ProjectName::Parse(request.project()));
        ASSIGN_OR_RETURN(
            const RelativePath path,
            RelativePath::Parse(request.path(), RelativePath::Use::kFind));
        const auto cancelled = [context] { return context->IsCancelled(); };
        ASSIGN_OR_RETURN(const Artifact artifact,
                         parts_.artifacts->artifacts().Get(
                             project, path, request.checksum(), cancelled));
        ToProto(artifact, response);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* WorkspaceService::ListArtifacts(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return parts_.calls
      ->Unary<pb::ListArtifactsRequest, pb::ListArtifactsResponse>(
          kListArtifacts, context, request, response,
          [this](const auto& request, auto* response) {
            ASSIGN_OR_RETURN(const artifacts::ListArtifactsArgs args,
                             FromProto(request));
            ASSIGN_OR_RETURN(const artifacts::ArtifactPage page,
                             parts_.artifacts->artifacts().List(args));
            for (const Artifact& artifact : page.artifacts)
              ToProto(artifact, response->add_artifacts());
            response->set_next_page_token(page.next_page_token);
            return absl::OkStatus();
          });
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* WorkspaceService::ReadArtifact(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) {
  return new ArtifactReadStream(parts_.artifacts, context, *request);
}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>*
WorkspaceService::WriteArtifact(grpc::CallbackServerContext* context) {
  return new ArtifactWriteStream(parts_.artifacts, context);
}

grpc::ServerUnaryReactor* WorkspaceService::GetUpload(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return parts_.calls->Unary<pb::GetUploadRequest, pb::Upload>(
      kGetUpload, context, request, response,
      [this](const auto& request, auto* response) {
        ASSIGN_OR_RETURN(const ProjectName project,
                         ProjectName::Parse(request.project()));
        ASSIGN_OR_RETURN(const std::string upload_id,
                         ParseUploadId(request.upload_id()));
        ASSIGN_OR_RETURN(
            const artifacts::UploadState state,
            parts_.artifacts->artifacts().GetUpload(project, upload_id));
        response->set_upload_id(upload_id);
        response->set_path(state.path);
        response->set_offset(state.offset);
        ToProto(state.expire_time, response->mutable_expire_time());
        if (state.artifact)
          ToProto(*state.artifact, response->mutable_artifact());
        response->set_staged_path(state.staged_path);
        response->set_staged_etag(state.staged_etag);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* WorkspaceService::DeleteArtifact(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  const auto handler = [this, context](const auto& request, auto* response) {
    ASSIGN_OR_RETURN(const artifacts::DeleteArtifactArgs args,
                     FromProto(request));
    const auto cancelled = [context] { return context->IsCancelled(); };
    ASSIGN_OR_RETURN(const artifacts::DeletedArtifacts deleted,
                     parts_.artifacts->artifacts().Delete(args, cancelled));
    response->set_file_count(ClampToInt32(deleted.file_count));
    response->set_size_bytes(deleted.size_bytes);
    return absl::OkStatus();
  };
  return parts_.calls
      ->Unary<pb::DeleteArtifactRequest, pb::DeleteArtifactResponse>(
          kDeleteArtifact, context, request, response, handler);
}

grpc::ServerUnaryReactor* WorkspaceService::MoveArtifact(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return parts_.calls->Unary<pb::MoveArtifactRequest, pb::Artifact>(
      kMoveArtifact, context, request, response,
      [this](const auto& request, auto* response) {
        ASSIGN_OR_RETURN(const artifacts::TransferArgs args,
                         FromProto(request));
        ASSIGN_OR_RETURN(const Artifact artifact,
                         parts_.artifacts->artifacts().Move(args));
        ToProto(artifact, response);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* WorkspaceService::CopyArtifact(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return parts_.calls->Unary<pb::CopyArtifactRequest, pb::Artifact>(
      kCopyArtifact, context, request, response,
      [this, context](const auto& request, auto* response) {
        ASSIGN_OR_RETURN(const artifacts::TransferArgs args,
                         FromProto(request));
        const auto cancelled = [context] { return context->IsCancelled(); };
        ASSIGN_OR_RETURN(const Artifact artifact,
                         parts_.artifacts->artifacts().Copy(args, cancelled));
        ToProto(artifact, response);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* WorkspaceService::MakeDirectory(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return parts_.calls->Unary<pb::MakeDirectoryRequest, pb::Artifact>(
      kMakeDirectory, context, request, response,
      [this](const auto& request, auto* response) {
        ASSIGN_OR_RETURN(const ProjectName project,
                         ProjectName::Parse(request.project()));
        RETURN_IF_ERROR(CheckFence(request.fence()));
        ASSIGN_OR_RETURN(
            const RelativePath path,
            RelativePath::Parse(request.path(), RelativePath::Use::kMake));
        ASSIGN_OR_RETURN(const Artifact artifact,
                         parts_.artifacts->artifacts().MakeDirectory(
                             project, path, request.fence()));
        ToProto(artifact, response);
        return absl::OkStatus();
      });
}

}  // namespace mlops::rpc
