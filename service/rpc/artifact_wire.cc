#include "service/rpc/artifact_wire.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "proto/cpp/base/status_macros.h"
#include "service/core/errors.h"
#include "service/rpc/convert.h"

namespace mlops::rpc {

using artifacts::RelativePath;
using core::FieldInvalid;
using core::ProjectName;

namespace {

constexpr size_t kMaxUploadIdBytes = 64;

template <typename Request>
absl::StatusOr<artifacts::TransferArgs> TransferFromProto(
    const Request& request) {
  ASSIGN_OR_RETURN(ProjectName project, ProjectName::Parse(request.project()));
  RETURN_IF_ERROR(CheckFence(request.fence()));
  ASSIGN_OR_RETURN(
      RelativePath path,
      RelativePath::Parse(request.path(), RelativePath::Use::kFind));
  ASSIGN_OR_RETURN(
      RelativePath destination,
      RelativePath::Parse(request.destination_path(), RelativePath::Use::kMake,
                          "destination_path"));
  return artifacts::TransferArgs{.project = std::move(project),
                                 .path = std::move(path),
                                 .destination = std::move(destination),
                                 .create_only = request.create_only(),
                                 .etag = request.etag(),
                                 .fence = request.fence()};
}

}  // namespace

absl::StatusOr<artifacts::ListArtifactsArgs> FromProto(
    const pb::ListArtifactsRequest& request) {
  ASSIGN_OR_RETURN(ProjectName project, ProjectName::Parse(request.project()));
  if (request.page_size() < 0)
    return FieldInvalid("page_size", "must not be negative");
  artifacts::ListArtifactsArgs args{.project = std::move(project),
                                    .recursive = request.recursive(),
                                    .page_size = request.page_size(),
                                    .page_token = request.page_token()};
  if (request.path().empty()) return args;
  ASSIGN_OR_RETURN(
      args.path, RelativePath::Parse(request.path(), RelativePath::Use::kFind));
  return args;
}

absl::StatusOr<artifacts::ReadArgs> FromProto(
    const pb::ReadArtifactRequest& request) {
  ASSIGN_OR_RETURN(ProjectName project, ProjectName::Parse(request.project()));
  ASSIGN_OR_RETURN(
      RelativePath path,
      RelativePath::Parse(request.path(), RelativePath::Use::kFind));
  if (request.offset() < 0)
    return FieldInvalid("offset", "must not be negative");
  if (request.limit() < 0) return FieldInvalid("limit", "must not be negative");
  return artifacts::ReadArgs{.project = std::move(project),
                             .path = std::move(path),
                             .offset = request.offset(),
                             .limit = request.limit(),
                             .etag = request.etag()};
}

absl::StatusOr<artifacts::DeleteArtifactArgs> FromProto(
    const pb::DeleteArtifactRequest& request) {
  ASSIGN_OR_RETURN(ProjectName project, ProjectName::Parse(request.project()));
  RETURN_IF_ERROR(CheckFence(request.fence()));
  ASSIGN_OR_RETURN(
      RelativePath path,
      RelativePath::Parse(request.path(), RelativePath::Use::kFind));
  return artifacts::DeleteArtifactArgs{.project = std::move(project),
                                       .path = std::move(path),
                                       .force = request.force(),
                                       .etag = request.etag(),
                                       .allow_missing = request.allow_missing(),
                                       .fence = request.fence()};
}

absl::StatusOr<artifacts::TransferArgs> FromProto(
    const pb::MoveArtifactRequest& request) {
  return TransferFromProto(request);
}

absl::StatusOr<artifacts::TransferArgs> FromProto(
    const pb::CopyArtifactRequest& request) {
  return TransferFromProto(request);
}

absl::StatusOr<artifacts::WriteArgs> FromProto(
    const pb::WriteArtifactRequest& first) {
  ASSIGN_OR_RETURN(ProjectName project, ProjectName::Parse(first.project()));
  ASSIGN_OR_RETURN(RelativePath path,
                   RelativePath::Parse(first.path(), RelativePath::Use::kMake));
  if (first.offset() < 0) return FieldInvalid("offset", "must not be negative");
  RETURN_IF_ERROR(CheckFence(first.fence()));
  artifacts::WriteArgs args{.project = std::move(project),
                            .path = std::move(path),
                            .offset = first.offset(),
                            .precondition = {.create_only = first.create_only(),
                                             .etag = first.etag()},
                            .fence = first.fence()};
  if (first.upload_id().empty()) return args;
  ASSIGN_OR_RETURN(args.upload_id, ParseUploadId(first.upload_id()));
  return args;
}

absl::StatusOr<std::string> ParseUploadId(absl::string_view text) {
  const auto allowed = [](char c) {
    return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
  };
  if (text.empty()) return FieldInvalid("upload_id", "is required");
  if (text.size() > kMaxUploadIdBytes ||
      !std::all_of(text.begin(), text.end(), allowed)) {
    return FieldInvalid("upload_id",
                        "must be 1 to 64 letters, digits, '.', '_' and '-'");
  }
  return std::string(text);
}

void ToProto(const artifacts::Artifact& artifact, pb::Artifact* message) {
  message->set_path(artifact.path);
  message->set_directory(artifact.directory);
  message->set_size_bytes(artifact.size_bytes);
  message->set_sha256(artifact.sha256);
  message->set_etag(artifact.etag);
  ToProto(artifact.modify_time, message->mutable_modify_time());
}

absl::StatusOr<WriteMessage> DecodeWrite(const grpc::ByteBuffer& bytes) {
  WriteMessage message;
  if (!wire::Decode(bytes, pb::WriteArtifactRequest::kDataFieldNumber,
                    &message.head, &message.data)) {
    return FieldInvalid("request", "is not a valid WriteArtifactRequest");
  }
  return message;
}

absl::StatusOr<grpc::ByteBuffer> EncodeData(
    size_t size, absl::FunctionRef<absl::Status(char* data)> fill) {
  ASSIGN_OR_RETURN(const grpc::Slice data, wire::MakeSlice(size, fill));
  return wire::Encode(pb::ReadArtifactResponse(),
                      pb::ReadArtifactResponse::kDataFieldNumber, data);
}

}  // namespace mlops::rpc
