#ifndef MLOPS_PROTO_CPP_BASE_ERROR_H_
#define MLOPS_PROTO_CPP_BASE_ERROR_H_

#include <map>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace mlops::base {

// The reason for a failed call, for programs: the content of the
// google.rpc.ErrorInfo on the wire. absl::Status carries it as a payload, so
// that layers without protobuf can create and read it.
struct ErrorInfo {
  // Name of a value of mlops.workspace.v1.ErrorReason.
  std::string reason;
  std::map<std::string, std::string> metadata;
  // Sent as google.rpc.RetryInfo.
  std::optional<absl::Duration> retry_delay;
};

// Maximum length of a value echoed in a message or in metadata. gRPC drops
// errors whose details exceed about 7 KB.
inline constexpr size_t kMaxEchoBytes = 256;

// Returns `value` with invalid UTF-8 and control characters escaped. Truncates
// the result to `max_bytes` at a character boundary, ending it with "...".
std::string Echo(absl::string_view value, size_t max_bytes = kMaxEchoBytes);

// Returns a status that carries `info`. `code` must not be OK. Passes the
// values of the metadata through Echo().
absl::Status MakeError(absl::StatusCode code, absl::string_view message,
                       ErrorInfo info);

// Returns the ErrorInfo of `status`, or nullopt if it carries none.
std::optional<ErrorInfo> GetErrorInfo(const absl::Status& status);

// Returns `status` with `key` set to `value` in its metadata. Returns it
// unchanged if it carries no ErrorInfo or already has that key.
absl::Status WithMetadata(absl::Status status, absl::string_view key,
                          absl::string_view value);

// Returns the reason in the ErrorInfo of `status`, or "" if it carries none.
std::string GetReason(const absl::Status& status);

}  // namespace mlops::base

#endif  // MLOPS_PROTO_CPP_BASE_ERROR_H_
