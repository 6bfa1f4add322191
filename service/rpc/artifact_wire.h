#ifndef MLOPS_SERVICE_RPC_ARTIFACT_WIRE_H_
#define MLOPS_SERVICE_RPC_ARTIFACT_WIRE_H_

#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "grpcpp/support/byte_buffer.h"
#include "mlops/workspace/v1/workspace_service.pb.h"
#include "proto/cpp/wire_data.h"
#include "service/artifacts/artifacts.h"

// Converts between artifact messages and the core's values, like convert.h.
// Encodes and decodes messages that carry data without copying the data.
// Thread-safe.
namespace mlops::rpc {

namespace pb = mlops::workspace::v1;

// Number of data bytes in a ReadArtifact message; the recommended number in a
// WriteArtifact message.
inline constexpr size_t kChunkBytes = 1 << 20;
// Maximum number of data bytes in a WriteArtifact message.
inline constexpr size_t kMaxChunkBytes = 4 << 20;

// Each returns INVALID_ARGUMENT with FIELD_INVALID or PATH_INVALID if the
// request is ill-formed.
absl::StatusOr<artifacts::ListArtifactsArgs> FromProto(
    const pb::ListArtifactsRequest& request);
absl::StatusOr<artifacts::ReadArgs> FromProto(
    const pb::ReadArtifactRequest& request);
absl::StatusOr<artifacts::DeleteArtifactArgs> FromProto(
    const pb::DeleteArtifactRequest& request);
absl::StatusOr<artifacts::TransferArgs> FromProto(
    const pb::MoveArtifactRequest& request);
absl::StatusOr<artifacts::TransferArgs> FromProto(
    const pb::CopyArtifactRequest& request);
// Converts the first message of a WriteArtifact stream.
absl::StatusOr<artifacts::WriteArgs> FromProto(
    const pb::WriteArtifactRequest& first);
// Returns `text` as an upload id. Returns INVALID_ARGUMENT/FIELD_INVALID unless
// it matches `[A-Za-z0-9._-]{1,64}`.
absl::StatusOr<std::string> ParseUploadId(absl::string_view text);

void ToProto(const artifacts::Artifact& artifact, pb::Artifact* message);

// A decoded WriteArtifact message.
struct WriteMessage {
  // All fields but the data.
  pb::WriteArtifactRequest head;
  wire::Data data;
};
// Decodes a message. Returns INVALID_ARGUMENT/FIELD_INVALID if the bytes are
// not a WriteArtifactRequest.
absl::StatusOr<WriteMessage> DecodeWrite(const grpc::ByteBuffer& bytes);

// Encodes a ReadArtifactResponse with `size` data bytes, which `fill` writes
// directly into the buffer to send. Returns the error of `fill`.
absl::StatusOr<grpc::ByteBuffer> EncodeData(
    size_t size, absl::FunctionRef<absl::Status(char* data)> fill);

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_ARTIFACT_WIRE_H_
