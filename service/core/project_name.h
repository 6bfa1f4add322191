#ifndef MLOPS_SERVICE_CORE_PROJECT_NAME_H_
#define MLOPS_SERVICE_CORE_PROJECT_NAME_H_

#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace mlops::core {

// The name of a project and of its directory:
// `^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`. Only Parse() can create
// one, so that no other name reaches the file system. Names that begin with '.'
// are reserved for the server.
class ProjectName {
 public:
  // Returns INVALID_ARGUMENT/FIELD_INVALID {field = "project", problem} if
  // `text` is not a valid name.
  static absl::StatusOr<ProjectName> Parse(absl::string_view text);

  // Returns whether Parse() would succeed.
  static bool IsValid(absl::string_view text);

  const std::string& str() const { return text_; }

  auto operator<=>(const ProjectName&) const = default;

  template <typename H>
  friend H AbslHashValue(H h, const ProjectName& name) {
    return H::combine(std::move(h), name.text_);
  }

 private:
  explicit ProjectName(absl::string_view text) : text_(text) {}

  std::string text_;
};

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_PROJECT_NAME_H_
