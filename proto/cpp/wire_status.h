#ifndef MLOPS_PROTO_CPP_WIRE_STATUS_H_
#define MLOPS_PROTO_CPP_WIRE_STATUS_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/support/status.h"

// The one mapping of errors between absl::Status with base::ErrorInfo and the
// wire. Thread-safe.
namespace mlops::wire {

inline constexpr absl::string_view kErrorDomain = "mlops.workspace";

// Details larger than this are cut: gRPC replaces an error whose trailers
// exceed about 7 KB by another one.
inline constexpr size_t kMaxDetailsBytes = 4096;

// The error as google.rpc.Status: ErrorInfo with its metadata, BadRequest
// beside FIELD_INVALID, RetryInfo where a delay is known. An error without a
// reason, which no layer should let through, becomes INTERNAL/IO_ERROR.
google::rpc::Status ToProto(const absl::Status& status);

// The same as a gRPC status, the google.rpc.Status in its binary details.
grpc::Status ToGrpc(const absl::Status& status);

// The inverse. Errors that carry no google.rpc.Status (a broken connection, a
// deadline) keep their code and message.
absl::Status FromGrpc(const grpc::Status& status);
absl::Status FromProto(const google::rpc::Status& status);

}  // namespace mlops::wire

#endif  // MLOPS_PROTO_CPP_WIRE_STATUS_H_
