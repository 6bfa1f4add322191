#ifndef MLOPS_SERVICE_CORE_PROJECT_NAME_H_
#define MLOPS_SERVICE_CORE_PROJECT_NAME_H_

#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace mlops::core {

// A project's name, which is also its directory's:
// `^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`. Made by Parse() alone, so
// that no other name can reach the file system. Names with a leading '.' belong
// to the server.
class ProjectName {
 public:
  // Returns INVALID_ARGUMENT/FIELD_INVALID {field = "project", problem} if
  // `text` is no such name.
  static absl::StatusOr<ProjectName> Parse(absl::string_view text);

  // Whether Parse() would succeed.
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
