#ifndef MLOPS_SERVICE_RPC_CONVERT_H_
#define MLOPS_SERVICE_RPC_CONVERT_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "grpcpp/support/byte_buffer.h"
#include "mlops/workspace/v1/workspace_service.pb.h"
#include "service/core/authority.h"

// Between messages and the core's values. What is wrong with the form of a
// request is found here, as INVALID_ARGUMENT/FIELD_INVALID. Thread-safe.
namespace mlops::rpc {

namespace pb = mlops::workspace::v1;

// Where a page of a list ends, so that every client can receive it.
inline constexpr size_t kMaxPageBytes = 8 << 20;

// A message that came as bytes. INVALID_ARGUMENT/FIELD_INVALID if they are
// none.
absl::Status Decode(const grpc::ByteBuffer& bytes,
                    google::protobuf::Message* message);
// A message as bytes.
grpc::ByteBuffer Encode(const google::protobuf::MessageLite& message);
// Without a copy.
grpc::ByteBuffer ToByteBuffer(std::string bytes);

absl::StatusOr<core::CreateArgs> FromProto(
    const pb::CreateWorkspaceRequest& request);
absl::StatusOr<core::CreateArgs> FromProto(
    const pb::EnsureWorkspaceRequest& request);
absl::StatusOr<core::ListArgs> FromProto(
    const pb::ListWorkspacesRequest& request);
absl::StatusOr<core::UpdateArgs> FromProto(
    const pb::UpdateWorkspaceRequest& request);
absl::StatusOr<core::DeleteArgs> FromProto(
    const pb::DeleteWorkspaceRequest& request);

// The fence of a lease, which this server does not grant yet.
absl::Status CheckNoFence(int64_t fence);

// A count as the wire has it.
int32_t ClampToInt32(int64_t count);

// Returns the age that a status request allows its answer; an unset field is
// zero, which means exact.
absl::StatusOr<absl::Duration> MaxStaleness(
    const google::protobuf::Duration& max_staleness);

void ToProto(const core::Workspace& workspace, pb::Workspace* message);
void ToProto(const core::DeleteResult& result,
             pb::DeleteWorkspaceResponse* message);
void ToProto(const core::StatusResult& result, pb::WorkspaceStatus* message);

// Puts a ListWorkspacesResponse together from what each workspace keeps of
// itself, which takes a tenth of the time of making and encoding a message. A
// page ends at kMaxPageBytes of workspaces. Not thread-safe.
class ListEncoder {
 public:
  enum Which { kAll, kOnlyKept };
  // With kOnlyKept, the page ends before a workspace whose encoding is too
  // large to be kept.
  explicit ListEncoder(Which which = kAll) : which_(which) {}

  // Adds a workspace to the page, unless there is no room for it. The first one
  // always fits.
  bool Add(const core::Workspace& workspace);
  // Whether kOnlyKept left one out.
  bool met_large() const { return met_large_; }
  // The message: what was added, and all else of `result`.
  grpc::ByteBuffer Finish(const core::ListResult& result) &&;

 private:
  const Which which_;
  bool met_large_ = false;
  std::string bytes_;
};

// The status of `project`, or why there is none, as an element of
// StreamWorkspaceStatusesResponse.statuses, likewise.
std::string EncodeStatus(const core::ProjectName& project,
                         const absl::StatusOr<core::StatusResult>& result);
void ToProto(absl::Time time, google::protobuf::Timestamp* message);
void ToProto(absl::Duration duration, google::protobuf::Duration* message);

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_CONVERT_H_
