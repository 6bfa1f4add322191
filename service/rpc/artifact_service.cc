#include "service/rpc/artifact_service.h"

#include <utility>

#include "proto/cpp/base/status_macros.h"
#include "service/core/errors.h"
#include "service/rpc/artifact_wire.h"
#include "service/rpc/convert.h"

namespace mlops::rpc {

using artifacts::Artifact;
using artifacts::RelativePath;
using core::ProjectName;

namespace {

// Decides before the call is queued which pool handles it. A request that
// cannot be decoded returns false here; the handler refuses it.
bool WantsChecksum(const grpc::ByteBuffer& bytes) {
  pb::GetArtifactRequest request;
  return CheckRequestSize(bytes.Length()).ok() &&
         Decode(bytes, &request).ok() && request.checksum();
}

}  // namespace

grpc::ServerUnaryReactor* ArtifactService::GetArtifact(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  const Method& method =
      WantsChecksum(*request) ? kGetArtifactChecksum : kGetArtifact;
  return calls_->Unary<pb::GetArtifactRequest, pb::Artifact>(
      method, context, request, response,
      [this, context](const auto& request, auto* response) {
        ASSIGN_OR_RETURN(const ProjectName project,
                         ProjectName::Parse(request.project()));
        ASSIGN_OR_RETURN(
            const RelativePath path,
            RelativePath::Parse(request.path(), RelativePath::Use::kFind));
        const auto cancelled = [context] { return context->IsCancelled(); };
        ASSIGN_OR_RETURN(
            const Artifact artifact,
            artifacts_->Get(project, path, request.checksum(), cancelled));
        ToProto(artifact, response);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* ArtifactService::ListArtifacts(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return calls_->Unary<pb::ListArtifactsRequest, pb::ListArtifactsResponse>(
      kListArtifacts, context, request, response,
      [this](const auto& request, auto* response) {
        ASSIGN_OR_RETURN(const artifacts::ListArtifactsArgs args,
                         FromProto(request));
        ASSIGN_OR_RETURN(const artifacts::ArtifactPage page,
                         artifacts_->List(args));
        for (const Artifact& artifact : page.artifacts)
          ToProto(artifact, response->add_artifacts());
        response->set_next_page_token(page.next_page_token);
        return absl::OkStatus();
      });
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* ArtifactService::ReadArtifact(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) {
  return new ArtifactReadStream(streams_, context, *request);
}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>*
ArtifactService::WriteArtifact(grpc::CallbackServerContext* context) {
  return new ArtifactWriteStream(streams_, context);
}

grpc::ServerUnaryReactor* ArtifactService::GetUpload(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return calls_->Unary<pb::GetUploadRequest, pb::Upload>(
      kGetUpload, context, request, response,
      [this](const auto& request, auto* response) {
        ASSIGN_OR_RETURN(const ProjectName project,
                         ProjectName::Parse(request.project()));
        ASSIGN_OR_RETURN(const std::string upload_id,
                         ParseUploadId(request.upload_id()));
        ASSIGN_OR_RETURN(const artifacts::UploadState state,
                         artifacts_->GetUpload(project, upload_id));
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

grpc::ServerUnaryReactor* ArtifactService::DeleteArtifact(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  const auto handler = [this, context](const auto& request, auto* response) {
    ASSIGN_OR_RETURN(const artifacts::DeleteArtifactArgs args,
                     FromProto(request));
    const auto cancelled = [context] { return context->IsCancelled(); };
    ASSIGN_OR_RETURN(const artifacts::DeletedArtifacts deleted,
                     artifacts_->Delete(args, cancelled));
    response->set_file_count(ClampToInt32(deleted.file_count));
    response->set_size_bytes(deleted.size_bytes);
    return absl::OkStatus();
  };
  return calls_->Unary<pb::DeleteArtifactRequest, pb::DeleteArtifactResponse>(
      kDeleteArtifact, context, request, response, handler);
}

grpc::ServerUnaryReactor* ArtifactService::MoveArtifact(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return calls_->Unary<pb::MoveArtifactRequest, pb::Artifact>(
      kMoveArtifact, context, request, response,
      [this](const auto& request, auto* response) {
        ASSIGN_OR_RETURN(const artifacts::TransferArgs args,
                         FromProto(request));
        ASSIGN_OR_RETURN(const Artifact artifact, artifacts_->Move(args));
        ToProto(artifact, response);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* ArtifactService::CopyArtifact(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return calls_->Unary<pb::CopyArtifactRequest, pb::Artifact>(
      kCopyArtifact, context, request, response,
      [this, context](const auto& request, auto* response) {
        ASSIGN_OR_RETURN(const artifacts::TransferArgs args,
                         FromProto(request));
        const auto cancelled = [context] { return context->IsCancelled(); };
        ASSIGN_OR_RETURN(const Artifact artifact,
                         artifacts_->Copy(args, cancelled));
        ToProto(artifact, response);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* ArtifactService::MakeDirectory(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return calls_->Unary<pb::MakeDirectoryRequest, pb::Artifact>(
      kMakeDirectory, context, request, response,
      [this](const auto& request, auto* response) {
        ASSIGN_OR_RETURN(const ProjectName project,
                         ProjectName::Parse(request.project()));
        RETURN_IF_ERROR(CheckFence(request.fence()));
        ASSIGN_OR_RETURN(
            const RelativePath path,
            RelativePath::Parse(request.path(), RelativePath::Use::kMake));
        ASSIGN_OR_RETURN(
            const Artifact artifact,
            artifacts_->MakeDirectory(project, path, request.fence()));
        ToProto(artifact, response);
        return absl::OkStatus();
      });
}

}  // namespace mlops::rpc
