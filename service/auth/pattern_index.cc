#include "service/auth/pattern_index.h"

#include <algorithm>

namespace mlops::auth {

bool Matches(absl::string_view pattern, absl::string_view text) {
  size_t p = 0, t = 0;
  // Where to resume if the text after the last "*" does not match; that "*"
  // then matches one more byte.
  size_t star = pattern.npos, star_end = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_end = t;
    } else if (p < pattern.size() &&
               (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p;
      ++t;
    } else if (star != pattern.npos) {
      p = star + 1;
      t = ++star_end;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == pattern.npos;
}

void PatternIndex::Add(absl::string_view pattern, int id) {
  const size_t wildcard = pattern.find_first_of("*?");
  if (wildcard == pattern.npos) {
    exact_[pattern].push_back(id);
    return;
  }
  by_prefix_[pattern.substr(0, wildcard)].push_back(
      {.rest = std::string(pattern.substr(wildcard)), .id = id});
  // Keep the sizes sorted, so that Any() can stop at the length of the text.
  const auto place =
      std::lower_bound(prefix_sizes_.begin(), prefix_sizes_.end(), wildcard);
  if (place == prefix_sizes_.end() || *place != wildcard)
    prefix_sizes_.insert(place, wildcard);
}

bool PatternIndex::Any(absl::string_view text,
                       absl::FunctionRef<bool(int)> visit) const {
  if (const auto found = exact_.find(text); found != exact_.end()) {
    if (std::any_of(found->second.begin(), found->second.end(), visit))
      return true;
  }
  // Look up each prefix length once, however many patterns share it.
  for (const size_t size : prefix_sizes_) {
    if (size > text.size()) break;
    const auto found = by_prefix_.find(text.substr(0, size));
    if (found == by_prefix_.end()) continue;
    for (const Wildcard& wildcard : found->second) {
      if (Matches(wildcard.rest, text.substr(size)) && visit(wildcard.id))
        return true;
    }
  }
  return false;
}

}  // namespace mlops::auth
