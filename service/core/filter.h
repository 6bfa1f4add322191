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
//   terms      FIELD OPERATOR VALUE, or a word alone that names no field: text
//   that the project's name contains fields     project, mlflow_experiment_id,
//   mlflow_tracking_uri, dvc_remote_path, bentoml_tag_prefix, create_time,
//              update_time, metadata.KEY[.KEY]...; keys with other characters
//              than letters, digits, _ and - in quotes
//   operators  = != < <= > >=, and `:`, which means "has": text contains the
//   value, a list has it as an element, a map
//              as a key; `field:*` means that the field is there
//   values     words, or quoted by " or ' with \ before a character that is to
//   mean itself. `*` at either end of the
//              value of = and != stands for anything. Times are ISO 8601. An
//              unquoted number, true, false or null also matches such a value
//              of the metadata.
//   between    AND (or nothing), OR, which binds more tightly, NOT or -,
//   parentheses
//
// A field that is not there matches nothing but NOT: `metadata.stage != x`
// holds only where there is a stage. Text is compared byte by byte.
//
// An empty answer must mean that nothing matches, never that a filter was
// misread. So outside quotes the parser refuses the operators of other
// languages (filter_spelling.h), a field without an operator, and values that
// can match nothing.
//
// Immutable and thread-safe; copies are cheap.
class Filter {
 public:
  // Matches every workspace.
  Filter() = default;

  // The filter `text`; "" matches every workspace.
  // INVALID_ARGUMENT/FILTER_INVALID {field = "filter", position in bytes from
  // 0, problem} if it cannot be understood, is longer than kMaxFilterBytes, or
  // has more than kMaxFilterTerms terms.
  static absl::StatusOr<Filter> Parse(absl::string_view text);

  bool Matches(const Workspace& workspace) const;

  bool matches_all() const { return root_ == nullptr; }

  // As it was given to Parse().
  const std::string& text() const { return text_; }

  // A node of the parsed condition; only filter.cc knows more.
  struct Node;

 private:
  Filter(std::shared_ptr<const Node> root, absl::string_view text)
      : root_(std::move(root)), text_(text) {}

  std::shared_ptr<const Node> root_;  // Null: matches every workspace.
  std::string text_;
};

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_FILTER_H_
