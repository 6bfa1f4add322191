#ifndef MLOPS_SERVICE_CORE_FILTER_H_
#define MLOPS_SERVICE_CORE_FILTER_H_

#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "service/core/workspace.h"

namespace mlops::core {

inline constexpr size_t kMaxFilterBytes = 2048;
inline constexpr int kMaxFilterTerms = 64;

// A condition on workspaces, in a subset of the language of AIP-160:
//
//   metadata.stage = "production" AND (create_time > 2026-01-31 OR NOT fraud)
//
//   terms      FIELD OPERATOR VALUE, or a lone word that is not a field's
//              name: text that the project's name contains
//   fields     project, mlflow_experiment_id, mlflow_tracking_uri,
//              dvc_remote_path, bentoml_tag_prefix, create_time,
//              update_time, metadata.KEY[.KEY]...; quote keys that have
//              characters other than letters, digits, _ and -
//   operators  = != < <= > >=, and `:`, which means "has": text contains
//              the value, a list has it as an element, a map has it as a
//              key; `field:*` means that the field is present
//   values     words, or text in " or ', where \ makes the next character
//              literal. With = and !=, `*` at either end of the value matches
//              any text. Times are ISO 8601. An unquoted number, true, false
//              or null also matches such a value in the metadata.
//   combining  AND (or nothing); OR, which binds more tightly; NOT or -;
//              parentheses
//
// A term on an absent field is false, so only NOT can make it match:
// `metadata.stage != x` matches only workspaces that have a stage.
// Text is compared byte by byte.
//
// An empty result must mean that nothing matches, never that the parser misread
// the filter. Outside quotes, it therefore rejects operators of other languages
// (filter_spelling.h), a field without an operator, and values that cannot
// match anything.
//
// Immutable and thread-safe. Copying is cheap.
class Filter {
 public:
  // Matches every workspace.
  Filter() = default;

  // Parses `text`. "" matches every workspace. Returns
  // INVALID_ARGUMENT/FILTER_INVALID {field = "filter", position in bytes
  // from 0, problem} if `text` is malformed, is longer than kMaxFilterBytes,
  // or has more than kMaxFilterTerms terms.
  static absl::StatusOr<Filter> Parse(absl::string_view text);

  // Returns whether `workspace` meets the condition.
  bool Matches(const Workspace& workspace) const;

  bool matches_all() const { return root_ == nullptr; }

  // Returns the text that was passed to Parse().
  const std::string& text() const { return text_; }

  // A node of the parsed condition, defined in filter.cc.
  struct Node;

 private:
  Filter(std::shared_ptr<const Node> root, absl::string_view text)
      : root_(std::move(root)), text_(text) {}

  std::shared_ptr<const Node> root_;  // Null: matches every workspace.
  std::string text_;
};

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_FILTER_H_
