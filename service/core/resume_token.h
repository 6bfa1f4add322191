#ifndef MLOPS_SERVICE_CORE_RESUME_TOKEN_H_
#define MLOPS_SERVICE_CORE_RESUME_TOKEN_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

// Encodes the position at which a watch resumes. Pure and thread-safe.
namespace mlops::core {

// A position in the history of one base directory (see ChangeLog).
struct ResumePoint {
  // The server's run that made the change `sequence`.
  std::string run;
  // The watcher knows every change up to this one.
  int64_t sequence = 0;
  // Identifies the projects that the watcher may see; "" means all of them. A
  // watcher that sees other projects must not use the token, because it would
  // miss their earlier changes.
  std::string view;
  // The last project received, or "" before the first one, while the watcher is
  // still receiving the list of all workspaces. Absent after that.
  std::optional<std::string> listed_through;

  bool operator==(const ResumePoint&) const = default;
};

std::string EncodeResumeToken(const ResumePoint& point);

// Returns INVALID_ARGUMENT/TOKEN_INVALID if EncodeResumeToken() did not make
// `token`.
absl::StatusOr<ResumePoint> DecodeResumeToken(absl::string_view token);

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_RESUME_TOKEN_H_
