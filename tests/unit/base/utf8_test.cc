#include "proto/cpp/base/utf8.h"

#include <gtest/gtest.h>

#include <string>

namespace mlops::base {
namespace {

// Encodes `c` in UTF-8, even if it is not a valid code point.
std::string Encode(char32_t c) {
  const auto tail = [c](int shift) {
    return static_cast<char>(0x80 | ((c >> shift) & 0x3f));
  };
  if (c < 0x80) return {static_cast<char>(c)};
  if (c < 0x800) return {static_cast<char>(0xc0 | (c >> 6)), tail(0)};
  if (c < 0x10000)
    return {static_cast<char>(0xe0 | (c >> 12)), tail(6), tail(0)};
  return {static_cast<char>(0xf0 | (c >> 18)), tail(12), tail(6), tail(0)};
}

TEST(Utf8, EveryCodePointIsDecodedButSurrogates) {
  for (char32_t c = 0; c < 0x120000; ++c) {
    char32_t decoded = 0xdead;
    const std::string bytes = Encode(c);
    const bool valid = c <= 0x10ffff && !(c >= 0xd800 && c < 0xe000);
    ASSERT_EQ(DecodeUtf8(bytes + "rest", &decoded), valid ? bytes.size() : 0)
        << static_cast<uint32_t>(c);
    ASSERT_EQ(decoded, valid ? c : char32_t{0xdead});
  }
}

TEST(Utf8, EveryCutIsInvalid) {
  for (const char32_t c : {U'ö', U'日', U'🚀'}) {
    const std::string bytes = Encode(c);
    for (size_t length = 1; length < bytes.size(); ++length) {
      EXPECT_FALSE(IsValidUtf8(bytes.substr(0, length)));
      EXPECT_FALSE(IsValidUtf8(bytes.substr(0, length) + "xxxx"));
      EXPECT_FALSE(IsValidUtf8(bytes.substr(length)));
    }
  }
}

TEST(Utf8, OverlongFormsAreInvalid) {
  for (const char* text :
       {"\xc0\x80", "\xc1\xbf", "\xe0\x80\x80", "\xe0\x9f\xbf",
        "\xf0\x80\x80\x80", "\xf0\x8f\xbf\xbf"}) {
    EXPECT_FALSE(IsValidUtf8(text));
  }
}

TEST(Utf8, APathIsShownAsText) {
  EXPECT_EQ(PathText("/a b/\xc3\xa9/\\xff\n"), "/a b/\xc3\xa9/\\xff\n");
  EXPECT_EQ(PathText("/j\xfcrgen/\xed\xa0\x80/\xc3"),
            "/j\\xfcrgen/\\xed\\xa0\\x80/\\xc3");
  EXPECT_EQ(PathText(""), "");
}

TEST(Utf8, TextMayHoldAnything) {
  EXPECT_TRUE(IsValidUtf8(""));
  EXPECT_TRUE(IsValidUtf8(absl::string_view("a\0b", 3)));
  EXPECT_TRUE(IsValidUtf8("Größe 日本 🚀"));
  EXPECT_FALSE(
      IsValidUtf8("Gr\xf6\xdf"
                  "e"));
}

}  // namespace
}  // namespace mlops::base
