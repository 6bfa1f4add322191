#ifndef MLOPS_SERVICE_AUTH_PATTERN_INDEX_H_
#define MLOPS_SERVICE_AUTH_PATTERN_INDEX_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"

namespace mlops::auth {

// Returns whether `pattern` matches all of `text`: "*" matches any bytes, "?"
// matches one byte, and everything else matches itself. In the worst case,
// takes time proportional to the product of the sizes.
bool Matches(absl::string_view pattern, absl::string_view text);

// Finds which of many patterns match a text. Takes one hash look-up for all
// patterns without wildcards, and one for each distinct length of the text
// before the first wildcard. Const methods are thread-safe.
class PatternIndex {
 public:
  // Several patterns may have the same id.
  void Add(absl::string_view pattern, int id);

  // Calls `visit` with the id of each pattern that matches `text`, in
  // unspecified order, until it returns true. Returns whether it did.
  bool Any(absl::string_view text, absl::FunctionRef<bool(int)> visit) const;

  // Returns whether any pattern matches `text`.
  bool Any(absl::string_view text) const {
    return Any(text, [](int) { return true; });
  }

 private:
  struct Wildcard {
    // The pattern from its first wildcard on.
    std::string rest;
    int id;
  };

  absl::flat_hash_map<std::string, std::vector<int>> exact_;
  // Keyed by the text before the first wildcard.
  absl::flat_hash_map<std::string, std::vector<Wildcard>> by_prefix_;
  // Sizes of the keys of by_prefix_, in ascending order.
  std::vector<size_t> prefix_sizes_;
};

}  // namespace mlops::auth

#endif  // MLOPS_SERVICE_AUTH_PATTERN_INDEX_H_
