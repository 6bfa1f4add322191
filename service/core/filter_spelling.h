#ifndef MLOPS_SERVICE_CORE_FILTER_SPELLING_H_
#define MLOPS_SERVICE_CORE_FILTER_SPELLING_H_

#include <cstddef>
#include <optional>

#include "absl/strings/string_view.h"

namespace mlops::core {

// How filters spell what other languages spell differently. Read as ordinary
// text, such a spelling would match nothing and pass for an empty answer; so
// the parser refuses it and names the right one.

// Returns what to write instead of the whole word `word`, such as "AND" for
// "and" or "&&"; nullopt if it is an ordinary word. Letter case does not count,
// except that AND, OR and NOT are our own operators.
std::optional<absl::string_view> SpellingOfWord(absl::string_view word);

struct ForeignSymbol {
  size_t size;                // In bytes.
  absl::string_view instead;  // What to write instead.
};
// Returns the operator, quote or space at the beginning of `text` that filters
// spell differently, if there is one.
std::optional<ForeignSymbol> FindForeignSymbol(absl::string_view text);

// Returns how metadata spells the constant that `word` means in another
// language, such as "true" for "True".
std::optional<absl::string_view> SpellingOfConstant(absl::string_view word);

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_FILTER_SPELLING_H_
