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
  // The run of a server that made the change `sequence`.
  std::string run;
  // The watcher knows every change up to this one.
  int64_t sequence = 0;
  // What the watcher may see; "" means everything. A token must not be used
  // by a watcher that sees other projects, which it would not hear of.
  std::string view;
  // Set while the watcher is still receiving the list of all workspaces: the
  // last project that it received, or "" before the first.
  std::optional<std::string> listed_through;

  bool operator==(const ResumePoint&) const = default;
};

std::string EncodeResumeToken(const ResumePoint& point);

// Returns INVALID_ARGUMENT/TOKEN_INVALID if EncodeResumeToken() did not make
// `token`.
absl::StatusOr<ResumePoint> DecodeResumeToken(absl::string_view token);

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_RESUME_TOKEN_H_
