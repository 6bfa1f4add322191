#ifndef MLOPS_SERVICE_RPC_CONVERT_H_
#define MLOPS_SERVICE_RPC_CONVERT_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "grpcpp/support/byte_buffer.h"
#include "mlops/workspace/v1/workspace_service.pb.h"
#include "service/artifacts/templates.h"
#include "service/auth/caller.h"
#include "service/auth/policy.h"
#include "service/core/authority.h"
#include "service/core/lease.h"

// Converts between messages and the core's values. Rejects ill-formed requests
// with INVALID_ARGUMENT/FIELD_INVALID. Thread-safe.
namespace mlops::rpc {

namespace pb = mlops::workspace::v1;

// Maximum number of bytes of workspaces in a page of a list, so that every
// client can receive it.
inline constexpr size_t kMaxPageBytes = 8 << 20;

// Decodes a message. Returns INVALID_ARGUMENT/FIELD_INVALID if `bytes` cannot
// be decoded.
absl::Status Decode(const grpc::ByteBuffer& bytes,
                    google::protobuf::Message* message);
// Encodes a message.
grpc::ByteBuffer Encode(const google::protobuf::MessageLite& message);
// Wraps `bytes` without copying them.
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

// Returns INVALID_ARGUMENT/FIELD_INVALID unless `id` is empty or matches
// `[A-Za-z0-9._-]{1,64}`.
absl::Status CheckRequestId(absl::string_view id);

// Checks a field that a later message of a stream may repeat. Returns
// DiffersFromFirst() unless `value` is empty or equals `first`.
absl::Status CheckRepeated(absl::string_view field, absl::string_view value,
                           absl::string_view first);
// Returns INVALID_ARGUMENT/FIELD_INVALID for a field that contradicts the first
// message.
absl::Status DiffersFromFirst(absl::string_view field);

// Returns the directories that a request names, each once, in the order of
// core::kDirectories; all five if it names none. Returns
// INVALID_ARGUMENT/FIELD_INVALID for an unknown name.
absl::StatusOr<std::vector<std::string>> ParseDirectories(
    const google::protobuf::RepeatedPtrField<std::string>& names);

// Returns INVALID_ARGUMENT/FIELD_INVALID if `fence` is negative.
absl::Status CheckFence(int64_t fence);

// The arguments of AcquireLease and ReleaseLease.
struct LeaseArgs {
  core::ProjectName project;
  std::string holder;
  absl::Duration ttl = core::kDefaultLeaseTtl;
  bool force = false;
};
absl::StatusOr<LeaseArgs> FromProto(const pb::AcquireLeaseRequest& request);
absl::StatusOr<LeaseArgs> FromProto(const pb::ReleaseLeaseRequest& request);

// Clamps a count to the range of int32, the wire's type.
int32_t ClampToInt32(int64_t count);

// Returns the maximum age of a status that a request accepts. An absent field
// is zero, which asks for an exact status. Returns
// INVALID_ARGUMENT/FIELD_INVALID if it is negative.
absl::StatusOr<absl::Duration> MaxStaleness(
    const google::protobuf::Duration& max_staleness);

// Does not set `lease`, which is no part of core::Workspace.
void ToProto(const core::Workspace& workspace, pb::Workspace* message);
void ToProto(const core::Lease& lease, pb::Lease* message);
void ToProto(const core::DeleteResult& result,
             pb::DeleteWorkspaceResponse* message);
void ToProto(const core::StatusResult& result, pb::WorkspaceStatus* message);
void ToProto(const artifacts::ListedTemplate& listed, pb::Template* message);

// Encode a Workspace, or an EnsureWorkspaceResponse for an existing workspace,
// from the encoding that the workspace caches, which has no lease. Return
// nullopt if the encoding is too large to be cached: producing it takes
// milliseconds, which must not block gRPC's own threads.
std::optional<grpc::ByteBuffer> EncodeKept(
    const core::Workspace& workspace, const std::optional<core::Lease>& lease);
std::optional<grpc::ByteBuffer> EncodeKeptAsFound(
    const core::Workspace& workspace, const std::optional<core::Lease>& lease);

// Builds a ListWorkspacesResponse from the encodings that the workspaces cache,
// ten times faster than building and encoding a message. A page ends at
// kMaxPageBytes of workspaces. Not thread-safe.
class ListEncoder {
 public:
  enum Which { kAll, kOnlyKept };
  // With kOnlyKept, the page ends before a workspace whose encoding is too
  // large to be cached.
  explicit ListEncoder(Which which = kAll) : which_(which) {}

  // Appends a workspace to the page. Returns false if there is no room; the
  // first workspace always fits. `left` is the number of workspaces still to be
  // added, including this one, if it is known.
  bool Add(const core::Workspace& workspace,
           const std::optional<core::Lease>& lease = std::nullopt,
           size_t left = 1);
  // Whether kOnlyKept ended the page at a large workspace.
  bool met_large() const { return met_large_; }
  // Returns the encoded message: the appended workspaces, `resume_token`, and
  // all other fields from `result`.
  grpc::ByteBuffer Finish(const core::ListResult& result,
                          const std::string& resume_token) &&;

 private:
  const Which which_;
  bool met_large_ = false;
  std::string bytes_;
};

// Encodes the status of `project`, or its error, as an element of
// StreamWorkspaceStatusesResponse.statuses. Uses cached encodings, like
// ListEncoder.
std::string EncodeStatus(const core::ProjectName& project,
                         const absl::StatusOr<core::StatusResult>& result,
                         const std::optional<core::Lease>& lease);
// Encodes a WatchWorkspacesResponse. Uses cached encodings, like ListEncoder.
std::string EncodeWatched(pb::Change change, const core::Workspace& workspace,
                          const std::optional<core::Lease>& lease,
                          bool over_quota, const std::string& resume_token);
void ToProto(const auth::Caller& caller,
             const std::vector<auth::Policy::Grant>& grants,
             pb::Caller* message);
void ToProto(absl::Time time, google::protobuf::Timestamp* message);
void ToProto(absl::Duration duration, google::protobuf::Duration* message);

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_CONVERT_H_
