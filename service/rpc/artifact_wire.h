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

// Between the messages of artifacts and the core's values, as convert.h, and
// the bytes of those messages that carry data, which is not copied.
// Thread-safe.
namespace mlops::rpc {

namespace pb = mlops::workspace::v1;

// The data of a message of ReadArtifact, and of one of WriteArtifact as clients
// should send it.
inline constexpr size_t kChunkBytes = 1 << 20;
// What a message of WriteArtifact may have.
inline constexpr size_t kMaxChunkBytes = 4 << 20;

absl::StatusOr<core::ListArtifactsArgs> FromProto(
    const pb::ListArtifactsRequest& request);
absl::StatusOr<core::ReadArgs> FromProto(
    const pb::ReadArtifactRequest& request);
absl::StatusOr<core::DeleteArtifactArgs> FromProto(
    const pb::DeleteArtifactRequest& request);
absl::StatusOr<core::TransferArgs> FromProto(
    const pb::MoveArtifactRequest& request);
absl::StatusOr<core::TransferArgs> FromProto(
    const pb::CopyArtifactRequest& request);
// Of the first message of a stream.
absl::StatusOr<core::WriteArgs> FromProto(
    const pb::WriteArtifactRequest& first);
// `text` as an upload's id, if it is one.
absl::StatusOr<std::string> ParseUploadId(absl::string_view text);

void ToProto(const core::Artifact& artifact, pb::Artifact* message);

// A message of WriteArtifact, taken apart.
struct WriteMessage {
  pb::WriteArtifactRequest head;  // All but the data.
  wire::Data data;
};
// INVALID_ARGUMENT/FIELD_INVALID if the bytes are no such message.
absl::StatusOr<WriteMessage> DecodeWrite(const grpc::ByteBuffer& bytes);

// A ReadArtifactResponse whose data are the `size` bytes that `fill` sets,
// where they are to be sent from.
absl::StatusOr<grpc::ByteBuffer> EncodeData(
    size_t size, absl::FunctionRef<absl::Status(char* data)> fill);

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_ARTIFACT_WIRE_H_
