#ifndef MLOPS_SERVICE_CORE_FILTER_SPELLING_H_
#define MLOPS_SERVICE_CORE_FILTER_SPELLING_H_

#include <cstddef>
#include <optional>

#include "absl/strings/string_view.h"

namespace mlops::core {

// Translates operators of other query languages into those of filters. Read as
// ordinary text, a foreign operator would match nothing, and the empty result
// would look valid. The parser therefore rejects it and suggests the right
// spelling.

// Returns the filter's spelling of `word`, such as "AND" for "and", or nullopt
// if it is an ordinary word. Ignores letter case, except that AND, OR and NOT
// are the filter's own operators.
std::optional<absl::string_view> SpellingOfWord(absl::string_view word);

struct ForeignSymbol {
  // In bytes.
  size_t size;
  // The filter's spelling.
  absl::string_view instead;
};
// Returns the operator, quote or space at the beginning of `text` that filters
// spell differently, or nullopt if there is none.
std::optional<ForeignSymbol> FindForeignSymbol(absl::string_view text);

// Returns the filter's spelling of the constant `word`, such as "true" for
// "True", or nullopt if `word` is not a constant of another language.
std::optional<absl::string_view> SpellingOfConstant(absl::string_view word);

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_FILTER_SPELLING_H_
