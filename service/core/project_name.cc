#include "service/core/project_name.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/string_view.h"
#include "service/core/errors.h"

namespace mlops::core {
namespace {

constexpr size_t kMaxBytes = 63;

// Returns what is wrong with `text`, or "" if it is valid.
absl::string_view Problem(absl::string_view text) {
  if (text.empty()) return "is required";
  if (text.size() > kMaxBytes) return "is longer than 63 characters";
  if (!absl::ascii_isalnum(text.front()) || !absl::ascii_isalnum(text.back())) {
    return "must begin and end with a letter or digit (A-Z, a-z, 0-9)";
  }
  const auto allowed = [](char c) {
    return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
  };
  if (!std::all_of(text.begin(), text.end(), allowed))
    return "may hold only letters, digits, '.', '_' and '-'";
  return "";
}

}  // namespace

absl::StatusOr<ProjectName> ProjectName::Parse(absl::string_view text) {
  if (absl::string_view problem = Problem(text); !problem.empty())
    return FieldInvalid("project", problem);
  return ProjectName(text);
}

bool ProjectName::IsValid(absl::string_view text) {
  return Problem(text).empty();
}

}  // namespace mlops::core
