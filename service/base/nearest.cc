#include "service/base/nearest.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "absl/strings/ascii.h"

namespace mlops::base {

size_t EditDistance(absl::string_view a, absl::string_view b) {
  // row[j] is the distance of the first i characters of `a` from the first j
  // of `b`.
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    // The value of the previous row at j, which this row overwrites.
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const bool same = absl::ascii_tolower(a[i]) == absl::ascii_tolower(b[j]);
      const size_t replaced = diagonal + (same ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

absl::string_view Nearest(absl::string_view word,
                          absl::Span<const absl::string_view> known) {
  const auto nearest =
      std::min_element(known.begin(), known.end(), [word](auto a, auto b) {
        return EditDistance(word, a) < EditDistance(word, b);
      });
  return nearest == known.end() ? "" : *nearest;
}

}  // namespace mlops::base
