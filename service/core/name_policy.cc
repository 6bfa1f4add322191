#include "service/core/name_policy.h"

#include "absl/strings/str_cat.h"
#include "re2/re2.h"
#include "service/core/errors.h"

namespace mlops::core {

absl::StatusOr<NamePolicy> NamePolicy::Parse(const std::string& pattern) {
  NamePolicy policy;
  if (pattern.empty()) return policy;
  // The error below is enough; RE2 need not write its own to stderr.
  RE2::Options options;
  options.set_log_errors(false);
  auto compiled = std::make_shared<const RE2>(pattern, options);
  if (!compiled->ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", pattern,
                     "\" is not a regular expression in the "
                     "syntax of RE2: ",
                     compiled->error()));
  }
  policy.pattern_ = std::move(compiled);
  return policy;
}

absl::Status NamePolicy::Check(const ProjectName& project) const {
  if (pattern_ == nullptr || RE2::FullMatch(project.str(), *pattern_))
    return absl::OkStatus();
  return FieldInvalid("project",
                      absl::StrCat("must match ", pattern_->pattern(),
                                   ", the operator's rule for the names of new "
                                   "workspaces"));
}

}  // namespace mlops::core
