#include "service/auth/pattern_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <regex>
#include <set>

namespace mlops::auth {
namespace {

TEST(Matches, TheWholeText) {
  EXPECT_TRUE(Matches("team-a", "team-a"));
  EXPECT_FALSE(Matches("team-a", "team-ab"));
  EXPECT_FALSE(Matches("team-a", "team-"));
  EXPECT_TRUE(Matches("team-*", "team-"));
  EXPECT_TRUE(Matches("*", ""));
  EXPECT_FALSE(Matches("?", ""));
  EXPECT_TRUE(Matches("**?*", "x"));
  EXPECT_TRUE(Matches("a*b*c", "a-b-b-c"));
  EXPECT_FALSE(Matches("a*b*c", "a-c-b"));
  EXPECT_FALSE(Matches("Team", "team"));
}

TEST(Matches, ManyStarsTakeNoExponentialTime) {
  std::string pattern;
  for (int i = 0; i < 100; ++i) pattern += "a*";
  EXPECT_FALSE(Matches(pattern + "b", std::string(256, 'a')));
}

// Every pattern and text over a small alphabet, against the regular
// expression that means the same.
TEST(PatternIndex, FindsWhatRegularExpressionsFind) {
  std::mt19937 random(1);
  const auto word = [&](absl::string_view letters) {
    std::string text;
    for (size_t left = random() % 6; left > 0; --left)
      text += letters[random() % letters.size()];
    return text;
  };
  PatternIndex index;
  std::vector<std::regex> regexes;
  for (int i = 0; i < 200; ++i) {
    const std::string pattern = word("ab*?");
    std::string regex;
    for (char c : pattern)
      regex += c == '*' ? ".*" : c == '?' ? "." : std::string(1, c);
    index.Add(pattern, i);
    regexes.emplace_back(regex);
  }
  for (int i = 0; i < 200; ++i) {
    const std::string text = word("abc");
    std::multiset<int> expected, found;
    for (size_t j = 0; j < regexes.size(); ++j) {
      if (std::regex_match(text, regexes[j]))
        expected.insert(static_cast<int>(j));
    }
    index.Any(text, [&](int id) {
      found.insert(id);
      return false;
    });
    ASSERT_EQ(found, expected) << text;
    ASSERT_EQ(index.Any(text), !expected.empty()) << text;
  }
}

TEST(PatternIndex, StopsWhenTold) {
  PatternIndex index;
  index.Add("a*", 1);
  index.Add("a", 2);
  index.Add("*", 3);
  int visits = 0;
  EXPECT_TRUE(index.Any("a", [&](int) { return ++visits == 2; }));
  EXPECT_EQ(visits, 2);
}

}  // namespace
}  // namespace mlops::auth
