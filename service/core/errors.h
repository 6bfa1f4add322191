#ifndef MLOPS_SERVICE_CORE_ERRORS_H_
#define MLOPS_SERVICE_CORE_ERRORS_H_

#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"

// The words of every error of the core, one function a reason. Each returns the code that ErrorReason's comment in
// error_reason.proto gives for its name.
namespace mlops::core {

absl::Status FieldInvalid(std::string_view field, std::string_view problem);
absl::Status FilterInvalid(std::string_view field, int position, std::string_view problem);
absl::Status TokenInvalid(std::string_view field);
absl::Status WorkspaceNotFound(std::string_view project);
absl::Status WorkspaceExists(std::string_view project, std::string_view uid);
absl::Status ForceRequired(std::string_view project, std::string_view path);
absl::Status PathUnsuitable(std::string_view project, std::string_view path, std::string_view problem);
absl::Status EtagMismatch(std::string_view project, std::string_view etag, std::string_view current_etag);
absl::Status WorkspaceBusy(std::string_view project, std::string_view operation);
absl::Status Overloaded(std::string_view limit, absl::Duration retry_delay);
absl::Status ShuttingDown();
// `line` counts from 1; 0 means the problem is with the file as a whole.
absl::Status WorkspaceCorrupt(std::string_view project, std::string_view file, int line, std::string_view problem);

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_ERRORS_H_
