#ifndef MLOPS_SERVICE_BASE_NEAREST_H_
#define MLOPS_SERVICE_BASE_NEAREST_H_

#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace mlops::base {

// Returns the least number of characters to insert, delete or replace
// to turn `a` into `b`, ignoring the case of ASCII letters.
size_t EditDistance(absl::string_view a, absl::string_view b);

// Returns the element of `known` with the least EditDistance() to `word`,
// the first of several, or "" if `known` is empty. For error texts about
// a misspelled name; both should be short.
absl::string_view Nearest(absl::string_view word,
                          absl::Span<const absl::string_view> known);

}  // namespace mlops::base

#endif  // MLOPS_SERVICE_BASE_NEAREST_H_
