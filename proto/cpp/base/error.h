#ifndef MLOPS_PROTO_CPP_BASE_ERROR_H_
#define MLOPS_PROTO_CPP_BASE_ERROR_H_

#include <map>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace mlops::base {

// Why a call failed, for programs: the content of the google.rpc.ErrorInfo that
// goes over the wire. It travels inside absl::Status as a payload, so that
// layers which know nothing of protobuf can make and read it.
struct ErrorInfo {
  std::string reason;  // Name of a value of mlops.workspace.v1.ErrorReason.
  std::map<std::string, std::string> metadata;
  std::optional<absl::Duration> retry_delay;  // Becomes google.rpc.RetryInfo.
};

// Longest value echoed in a message or in metadata; gRPC drops errors whose
// details exceed about 7 KB.
inline constexpr size_t kMaxEchoBytes = 256;

// Returns `value` cut to `max_bytes` at a UTF-8 boundary, with invalid UTF-8
// and control characters escaped.
std::string Echo(absl::string_view value, size_t max_bytes = kMaxEchoBytes);

// Makes a status that carries `info`; values of the metadata are passed through
// Echo(). `code` must not be OK.
absl::Status MakeError(absl::StatusCode code, absl::string_view message,
                       ErrorInfo info);

// Returns the info of `status`, or nullopt if it carries none.
std::optional<ErrorInfo> GetErrorInfo(const absl::Status& status);

// Returns `status` with `key` set to `value` in its info, if it carries one
// that has no such key.
absl::Status WithMetadata(absl::Status status, absl::string_view key,
                          absl::string_view value);

// Returns GetErrorInfo(status)->reason, or "" if it carries none.
std::string GetReason(const absl::Status& status);

}  // namespace mlops::base

#endif  // MLOPS_PROTO_CPP_BASE_ERROR_H_
