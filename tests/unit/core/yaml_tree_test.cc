#include "service/core/yaml_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace mlops::core::yaml {
namespace {

using nlohmann::json;
using testing::HasSubstr;

Node ParseGood(absl::string_view text) {
  Node root;
  const auto problem = Parse(text, &root);
  EXPECT_FALSE(problem.has_value()) << text << ": " << problem->what;
  return root;
}

json Read(absl::string_view text) {
  json value;
  const auto problem = Resolve(ParseGood(text), &value);
  EXPECT_FALSE(problem.has_value()) << text << ": " << problem->what;
  return value;
}

Problem ProblemOf(absl::string_view text) {
  Node root;
  if (const auto problem = Parse(text, &root)) return *problem;
  json value;
  return Resolve(root, &value).value_or(Problem{.line = -1, .what = "none"});
}

std::string Written(absl::string_view key, const json& value) {
  std::string out;
  AppendEntry(key, value, 0, out);
  return out;
}

// --- Scalars ---

// The values that PyYAML 6.0 reads from `k: <text>`.
TEST(PlainScalars, MeanWhatTheyMeanToPyYaml) {
  const std::vector<std::pair<std::string, json>> table = {
      {"yes", true},
      {"Yes", true},
      {"YES", true},
      {"no", false},
      {"No", false},
      {"on", true},
      {"ON", true},
      {"off", false},
      {"Off", false},
      {"true", true},
      {"True", true},
      {"TRUE", true},
      {"false", false},
      {"y", "y"},
      {"n", "n"},
      {"Y", "Y"},
      {"N", "N"},
      {"yEs", "yEs"},
      {"tRUE", "tRUE"},
      {"~", nullptr},
      {"null", nullptr},
      {"Null", nullptr},
      {"NULL", nullptr},
      {"", nullptr},
      {"nUll", "nUll"},
      {"none", "none"},
      {"None", "None"},
      {"0", 0},
      {"-0", 0},
      {"00", 0},
      {"+1", 1},
      {"+12", 12},
      {"1_000", 1000},
      {"-1_000", -1000},
      {"1__0", 10},
      {"1_", 1},
      {"_1", "_1"},
      {"1,000", "1,000"},
      {"0x1f", 31},
      {"0x1F", 31},
      {"-0x1f", -31},
      {"+0x1f", 31},
      {"0x_1", 1},
      {"0x", "0x"},
      {"010", 8},
      {"0777", 511},
      {"0_7", 7},
      {"08", "08"},
      {"09", "09"},
      {"0o10", "0o10"},
      {"0b101", 5},
      {"+0b11", 3},
      {"0b", "0b"},
      {"1:30", 90},
      {"1:30:05", 5405},
      {"-1:30", -90},
      {"1:2:3:4", 223384},
      {"1:60", "1:60"},
      {"012:30", "012:30"},
      {"9007199254740991", 9007199254740991},
      {"-9007199254740991", -9007199254740991},
      {"1.5", 1.5},
      {".5", 0.5},
      {"5.", 5.0},
      {"0.", 0.0},
      {"00.5", 0.5},
      {".5_0", 0.5},
      {"1_0.5_0", 10.5},
      {"-.5", "-.5"},
      {"+.5", "+.5"},
      {"1.0e+5", 1e5},
      {"6.02e+23", 6.02e23},
      {"1.e+3", 1000.0},
      {"-1.5e-3", -0.0015},
      {"1e5", "1e5"},
      {"1e+5", "1e+5"},
      {"1.0e5", "1.0e5"},
      {"1e", "1e"},
      {"e5", "e5"},
      {"1e400", "1e400"},
      {"1:5.5", 65.5},
      {"190:20:30.15", 685230.15},
      {"1-2", "1-2"},
      {"1.2.3", "1.2.3"},
      {".", "."},
      {"..", ".."},
      {"._1", "._1"},
      {"a b", "a b"},
      {"http://x:1", "http://x:1"},
      {"2024-01-31", "2024-01-31"},
      {"2024-01-31T10:00:00", "2024-01-31T10:00:00"},
  };
  for (const auto& [text, expected] : table) {
    const json value = Read(absl::StrCat("k: ", text, "\n"))["k"];
    EXPECT_EQ(value, expected) << text;
    EXPECT_EQ(value.is_number_float(), expected.is_number_float()) << text;
  }
}

TEST(PlainScalars, NumbersThatJsonCannotHoldAreProblems) {
  for (const char* text :
       {".inf", "-.inf", "+.Inf", ".INF", ".nan", ".NaN", "1.0e+400"}) {
    EXPECT_THAT(ProblemOf(absl::StrCat("a: 1\nk: ", text)).what,
                HasSubstr("not finite"))
        << text;
    EXPECT_EQ(ProblemOf(absl::StrCat("a: 1\nk: ", text)).line, 2);
  }
  for (const char* text :
       {"9007199254740992", "-9007199254740992", "0x20000000000000",
        "99999999999999999999999999", "99999999999999:00:00"}) {
    EXPECT_THAT(ProblemOf(absl::StrCat("k: ", text)).what, HasSubstr("2^53"))
        << text;
  }
}

TEST(QuotedScalars, AreStringsWhateverTheyLookLike) {
  for (const char* text :
       {"yes", "null", "~", "12", "1.5", "2024-01-31", "", "0x1f", ".inf"}) {
    EXPECT_EQ(Read(absl::StrCat("k: '", text, "'"))["k"], text);
    EXPECT_EQ(Read(absl::StrCat("k: \"", text, "\""))["k"], text);
  }
}

TEST(QuotedScalars, EscapesAndFoldsAreRead) {
  EXPECT_EQ(Read(R"(k: "a\n\t\"\\\x41\u00f6\U0001F680")")["k"], "a\n\t\"\\Aö🚀");
  EXPECT_EQ(Read("k: 'it''s'")["k"], "it's");
  EXPECT_EQ(Read("k: |\n  a\n  b\n")["k"], "a\nb\n");
  EXPECT_EQ(Read("k: |\n  a\n  b")["k"], "a\nb");
  EXPECT_EQ(Read("k: |-\n  a\n")["k"], "a");
  EXPECT_EQ(Read("k: >\n  a\n  b\n")["k"], "a b\n");
  EXPECT_EQ(Read("k: a\n  b\n")["k"], "a b");
}

// --- Structure ---

TEST(Parse, TellsKindsAndLines) {
  const Node root = ParseGood("# comment\na: 1\nb:\n  - 'x'\n  - {c: ~}\n");
  ASSERT_EQ(root.kind, Node::Kind::kMap);
  ASSERT_EQ(root.entries.size(), 2);
  EXPECT_EQ(root.entries[0].key.text, "a");
  EXPECT_TRUE(root.entries[0].value.plain);
  EXPECT_EQ(root.entries[0].value.line, 2);
  const Node& list = root.entries[1].value;
  ASSERT_EQ(list.items.size(), 2);
  EXPECT_FALSE(list.items[0].plain);
  EXPECT_EQ(list.items[1].line, 5);
}

TEST(Parse, TakesJsonAndFlowStyle) {
  EXPECT_EQ(
      Read(R"({"a": [1, 2.5, "x", null, true], "b": {"c": {}}, "d": []})"),
      json::parse(
          R"({"a": [1, 2.5, "x", null, true], "b": {"c": {}}, "d": []})"));
}

TEST(Parse, TakesAMarkAtBothEndsAndWindowsLines) {
  EXPECT_EQ(Read("---\na: 1\n...\n"), json({{"a", 1}}));
  EXPECT_EQ(Read("a: 1\r\nb: x\r\n"), json({{"a", 1}, {"b", "x"}}));
  EXPECT_EQ(Read("\xef\xbb\xbf"
                 "a: 1\n"),
            json({{"a", 1}}));
}

TEST(Parse, RefusesWhatARecordHasNoUseFor) {
  EXPECT_THAT(ProblemOf("a: &x 1\n").what, HasSubstr("anchors"));
  EXPECT_THAT(ProblemOf("a: !!int 1\n").what, HasSubstr("tags"));
  EXPECT_THAT(ProblemOf("a: !x y\n").what, HasSubstr("tags"));
  EXPECT_THAT(ProblemOf("<<: {a: 1}\n").what, HasSubstr("merge"));
  EXPECT_THAT(ProblemOf("a: 1\n---\nb: 2\n").what, HasSubstr("first document"));
  EXPECT_THAT(ProblemOf("? [a]\n: 1\n").what, HasSubstr("a key must be text"));
  EXPECT_THAT(ProblemOf("a: 1\nb: 2\na: 3\n").what, HasSubstr("twice"));
  EXPECT_EQ(ProblemOf("a: 1\nb: 2\na: 3\n").line, 3);
  EXPECT_THAT(ProblemOf("a: 1\n\"a\": 3\n").what, HasSubstr("twice"));
}

TEST(Parse, RefusesWhatIsNoText) {
  EXPECT_THAT(ProblemOf(absl::string_view("a: \0", 4)).what, HasSubstr("NUL"));
  EXPECT_THAT(ProblemOf("a: \xff").what, HasSubstr("UTF-8"));
  EXPECT_THAT(ProblemOf("").what, HasSubstr("empty"));
}

TEST(Parse, EscapesAreTheCharactersThatYamlSays) {
  for (int c = 1; c < 0x100; ++c) {
    std::string text;
    if (c >= 0x80) text += static_cast<char>(0xc0 | c >> 6);
    text += static_cast<char>(c < 0x80 ? c : 0x80 | (c & 0x3f));
    const std::string two = absl::StrCat(absl::Hex(c, absl::kZeroPad2));
    for (const std::string& escape :
         {"\\x" + two, "\\u00" + two, "\\U000000" + two}) {
      EXPECT_EQ(Read(absl::StrCat("k: \"a", escape, "b\""))["k"],
                "a" + text + "b")
          << escape;
    }
  }
  EXPECT_EQ(Read(R"({"\_": "\_\N\L\P", "k\N": "\N\_ü\_"})"),
            json({{"\xc2\xa0", "\xc2\xa0\xc2\x85\xe2\x80\xa8\xe2\x80\xa9"},
                  {"k\xc2\x85", "\xc2\x85\xc2\xa0ü\xc2\xa0"}}));
}

TEST(Parse, EveryCutThroughAQuoteIsNoticed) {
  for (const absl::string_view text : {"a: \"b c\\\"d\"", "a: 'b c d'",
                                       "a: [\"b\", 'c d']", "a: {b: \"c\"}"}) {
    ParseGood(text);
    for (size_t length = 4; length < text.size(); ++length) {
      EXPECT_NE(ProblemOf(text.substr(0, length)).line, -1)
          << text.substr(0, length);
      EXPECT_NE(ProblemOf(absl::StrCat(text.substr(0, length), "\n")).line, -1)
          << text.substr(0, length);
    }
  }
}

TEST(Parse, DepthIsBoundedHoweverItIsReached) {
  const auto nested = [](absl::string_view open, absl::string_view close,
                         int depth) {
    std::string text = "a: ";
    for (int i = 0; i < depth; ++i) absl::StrAppend(&text, open);
    text += "1";
    for (int i = 0; i < depth; ++i) absl::StrAppend(&text, close);
    return text;
  };
  EXPECT_EQ(ProblemOf(nested("[", "]", 63)).what, "none");
  for (const int depth : {64, 65, 499, 501, 100'000}) {
    EXPECT_THAT(ProblemOf(nested("[", "]", depth)).what,
                HasSubstr("nested deeper than 64"))
        << depth;
    EXPECT_THAT(ProblemOf(nested("{a: ", "}", depth)).what,
                HasSubstr("nested deeper than 64"))
        << depth;
  }
}

// --- Writing ---

TEST(AppendEntry, WritesPlainTextPlainAndTheRestInQuotes) {
  EXPECT_EQ(Written("k", "fraud"), "k: fraud\n");
  EXPECT_EQ(Written("k", "/base/fraud"), "k: /base/fraud\n");
  for (const char* text :
       {"yes", "no",  "null", "~",          "12",    "1.5",  "y",    "n",
        "",    "- a", "a: b", "a #b",       "[a",    "{a",   "*a",   "&a",
        "!a",  "%a",  "@a",   "`a",         "'a",    "\"a",  "| a",  "> a",
        "? a", " a",  "a ",   "2024-01-31", "0x1f",  "1:30", ".inf", "=",
        "<<",  "---", "...",  "a\nb",       "true ", "Ö"}) {
    EXPECT_EQ(Written("k", text)[3], '"') << text;
  }
}

TEST(AppendEntry, WhatIsWrittenIsReadEqualAndOfItsType) {
  std::vector<json> values = {nullptr,
                              true,
                              false,
                              0,
                              -7,
                              9007199254740991,
                              0.5,
                              2.0,
                              -0.25,
                              1e22,
                              1e-7,
                              1.5e300,
                              json::array(),
                              json::object(),
                              json({1, "1", {{"a", {}}}}),
                              json({{"a", {1, {2, {3}}}}})};
  for (int c = 1; c < 0x180; ++c) {
    std::string text = "x";
    text += c < 0x80 ? std::string{static_cast<char>(c)}
                     : std::string{static_cast<char>(0xc0 | c >> 6),
                                   static_cast<char>(0x80 | (c & 0x3f))};
    values.push_back(text);
    values.push_back(text.substr(1));
    values.push_back(text + " y");
  }
  for (const char* text : {"\xe2\x80\xa8",
                           "\xe2\x80\xa9",
                           "\xef\xbb\xbf",
                           "\xef\xbf\xbe",
                           "a\xc2\x85"
                           "b",
                           "🚀",
                           "a  b",
                           "\n",
                           "\n\n a",
                           "a\n",
                           "trailing\\",
                           "\"",
                           "'",
                           "\t",
                           "a\tb",
                           " ",
                           "  lead",
                           "#",
                           "a:",
                           ":a"}) {
    values.push_back(text);
  }
  for (const json& value : values) {
    const json read = Read(Written("k", value))["k"];
    EXPECT_EQ(read, value) << Written("k", value);
    EXPECT_EQ(read.is_number_float(), value.is_number_float())
        << Written("k", value);
  }
}

TEST(AppendEntry, KeysOfAnyKindComeBack) {
  for (const std::string& key :
       {std::string("a b"), std::string(""), std::string("yes"),
        std::string("- a"), std::string("a: b"), std::string("a\nb"),
        std::string("12"), std::string("\"q\""), std::string("ö🚀"),
        std::string(1500, 'k'), std::string(300, '\n'), std::string("? x"),
        std::string("<<x")}) {
    for (const json& value :
         {json(1), json({1, 2}), json({{"a", 1}}), json("x\ny")}) {
      EXPECT_EQ(Read(Written(key, value)), json({{key, value}})) << key;
    }
  }
}

TEST(AppendEntry, NodesAreWrittenAsTheyStoodThere) {
  const std::string text =
      "a: 0x1f\nb: \"0x1f\"\nc: null\nd: []\ne: {}\nf:\n  - 1:30\n  -\n    - "
      "x\n    - \"y z\"\n  -\n    g: "
      "2024-01-31\n";
  const Node root = ParseGood(text);
  std::string out;
  for (const auto& [key, value] : root.entries) AppendEntry(key, value, 0, out);
  EXPECT_EQ(out, text);
}

TEST(AppendEntry, NodesMeanTheSameWhenReadAgain) {
  const absl::string_view text =
      "a: |\n  x\n  y\nb: >-\n  folded\n  text\nc: 'single "
      "''quoted'''\n'quoted key': plain text\nd: a\n  b\n\n  c\n"
      "e: [1, [2, {f: g}]]\n? long\n: v\n";
  const Node root = ParseGood(text);
  std::string out;
  for (const auto& [key, value] : root.entries) AppendEntry(key, value, 0, out);
  EXPECT_EQ(Read(out), Read(text)) << out;
}

}  // namespace
}  // namespace mlops::core::yaml
