#include "proto/cpp/base/utf8.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace mlops::base {

size_t DecodeUtf8(absl::string_view text, char32_t* code_point) {
  const auto byte = [text](size_t i) {
    return static_cast<unsigned char>(text[i]);
  };
  const unsigned char first = byte(0);
  if (first < 0x80) {
    *code_point = first;
    return 1;
  }
  // The first byte determines the length. 0xC0 and 0xC1 could only begin
  // overlong forms; 0xF5 and above lie beyond U+10FFFF.
  const size_t length = first < 0xC2   ? 0
                        : first < 0xE0 ? 2
                        : first < 0xF0 ? 3
                        : first < 0xF5 ? 4
                                       : 0;
  if (length == 0 || length > text.size()) return 0;
  char32_t value = first & (0x7F >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
    value = value << 6 | (byte(i) & 0x3F);
  }
  // RFC 3629 forbids overlong forms and surrogates.
  const bool overlong =
      (length == 3 && value < 0x800) || (length == 4 && value < 0x10000);
  const bool surrogate = value >= 0xD800 && value < 0xE000;
  if (overlong || surrogate || value > 0x10FFFF) return 0;
  *code_point = value;
  return length;
}

std::string PathText(absl::string_view path) {
  std::string text;
  char32_t ignored;
  while (!path.empty()) {
    const size_t length = DecodeUtf8(path, &ignored);
    if (length == 0) {
      absl::StrAppendFormat(&text, "\\x%02x",
                            static_cast<unsigned char>(path[0]));
    } else {
      absl::StrAppend(&text, path.substr(0, length));
    }
    path.remove_prefix(std::max<size_t>(length, 1));
  }
  return text;
}

bool IsValidUtf8(absl::string_view text) {
  char32_t ignored;
  while (!text.empty()) {
    const size_t length = DecodeUtf8(text, &ignored);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

}  // namespace mlops::base
