#ifndef MLOPS_PROTO_CPP_WIRE_STATUS_H_
#define MLOPS_PROTO_CPP_WIRE_STATUS_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/support/status.h"

// Converts between absl::Status with base::ErrorInfo and errors on the wire. No
// other code does. Thread-safe.
namespace mlops::wire {

inline constexpr absl::string_view kErrorDomain = "mlops.workspace";

// Larger details are truncated: if the trailers exceed about 7 KB, gRPC
// replaces the error with another one.
inline constexpr size_t kMaxDetailsBytes = 4096;

// Converts an error to google.rpc.Status: ErrorInfo with its metadata,
// BadRequest for FIELD_INVALID, and RetryInfo if a delay is known. An error
// without a reason, which should not occur, becomes INTERNAL/IO_ERROR, except
// for CANCELLED and DEADLINE_EXCEEDED.
google::rpc::Status ToProto(const absl::Status& status);

// Like ToProto(), but returns a gRPC status with the google.rpc.Status in its
// binary details.
grpc::Status ToGrpc(const absl::Status& status);

// Inverses of ToGrpc() and ToProto(). Errors without a google.rpc.Status, such
// as a broken connection or a deadline, keep their code and message.
absl::Status FromGrpc(const grpc::Status& status);
absl::Status FromProto(const google::rpc::Status& status);

}  // namespace mlops::wire

#endif  // MLOPS_PROTO_CPP_WIRE_STATUS_H_
