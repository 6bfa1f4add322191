#include "service/auth/token_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/support/matchers.h"

namespace mlops::auth {
namespace {

using support::HasMessage;
using support::IsError;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

const absl::Time kNow = absl::FromUnixSeconds(1'700'000'000);

std::string Line(absl::string_view name, absl::string_view token,
                 std::optional<absl::Time> expires = std::nullopt) {
  return TokenLine(name, token, expires);
}

void ExpectRefused(const std::string& text, const std::string& problem) {
  const auto table = TokenTable::Parse(text);
  EXPECT_THAT(table, IsError(absl::StatusCode::kInvalidArgument, "")) << text;
  EXPECT_THAT(table.status(), HasMessage(HasSubstr(problem)));
}

TEST(MakeToken, TokensAreLongAndDiffer) {
  std::set<std::string> tokens;
  for (int i = 0; i < 100; ++i) tokens.insert(MakeToken().value());
  EXPECT_EQ(tokens.size(), 100u);
  EXPECT_THAT(*tokens.begin(), testing::MatchesRegex("mlw_[A-Za-z0-9_-]{43}"));
}

TEST(TokenTable, KnowsTheNamesOfTokens) {
  const auto table =
      TokenTable::Parse(Line("robot", "mlw_a") + Line("alice", "mlw_b"))
          .value();
  EXPECT_EQ(table.Find("mlw_a", kNow).value(), "robot");
  EXPECT_EQ(table.Find("mlw_b", kNow).value(), "alice");
  EXPECT_EQ(table.size(), 2u);
}

TEST(TokenTable, RefusesOtherTokensWithoutRepeatingThem) {
  const auto table = TokenTable::Parse(Line("robot", "mlw_secret")).value();
  for (const char* token :
       {"mlw_secreu", "mlw_secret ", "mlw_", "", "robot", "MLW_SECRET"}) {
    const auto name = table.Find(token, kNow);
    EXPECT_THAT(name, IsError(absl::StatusCode::kUnauthenticated,
                              "CREDENTIALS_INVALID"));
    EXPECT_THAT(name.status(), HasMessage(Not(HasSubstr("secre"))));
  }
}

TEST(TokenTable, HashesAreNoTokens) {
  const std::string line = Line("robot", "mlw_a");
  const auto table = TokenTable::Parse(line).value();
  EXPECT_FALSE(table.Find(line.substr(6, 64), kNow).ok());
}

TEST(TokenTable, CommentsEmptyLinesAndCarriageReturnsAreIgnored) {
  std::string text = absl::StrCat(
      "# tokens\n\n  \t\n", "\t", Line("robot", "mlw_a"),
      absl::StrReplaceAll(Line("alice", "mlw_b"), {{"\n", " # of Alice\n"}}),
      "  # end\n");
  EXPECT_EQ(TokenTable::Parse(text)->size(), 2u);
  const auto crlf =
      TokenTable::Parse(absl::StrReplaceAll(text, {{"\n", "\r\n"}})).value();
  EXPECT_EQ(crlf.Find("mlw_b", kNow).value(), "alice");
  EXPECT_EQ(TokenTable::Parse("")->size(), 0u);
}

TEST(TokenTable, TheLastLineMayLackItsNewline) {
  const std::string line = Line("robot", "mlw_a");
  EXPECT_EQ(TokenTable::Parse(line.substr(0, line.size() - 1))->size(), 1u);
}

TEST(TokenTable, HexDigitsMayBeUpperCase) {
  const std::string line = absl::AsciiStrToUpper(Line("r", "mlw_a"));
  EXPECT_EQ(TokenTable::Parse(line)->Find("mlw_a", kNow).value(), "R");
}

TEST(TokenTable, ANameMayHaveSeveralTokens) {
  const auto table =
      TokenTable::Parse(Line("robot", "mlw_a") + Line("robot", "mlw_b"))
          .value();
  EXPECT_EQ(table.Find("mlw_a", kNow).value(), "robot");
  EXPECT_EQ(table.Find("mlw_b", kNow).value(), "robot");
}

TEST(TokenTable, TokensExpire) {
  const auto table =
      TokenTable::Parse(Line("robot", "mlw_a", kNow + absl::Seconds(1)))
          .value();
  EXPECT_OK(table.Find("mlw_a", kNow));
  const auto late = table.Find("mlw_a", kNow + absl::Seconds(1));
  EXPECT_THAT(
      late, IsError(absl::StatusCode::kUnauthenticated, "CREDENTIALS_INVALID"));
  EXPECT_THAT(late.status(),
              HasMessage(AllOf(HasSubstr("robot"),
                               HasSubstr("expired at 2023-11-14T22:13:21Z"),
                               Not(HasSubstr("mlw_")))));
}

TEST(TokenTable, ExpiryMayHaveAnOffset) {
  const std::string line = Line("robot", "mlw_a");
  const auto table = TokenTable::Parse(
      absl::StrReplaceAll(line, {{"\n", " 2023-11-14T23:13:21+01:00\n"}}));
  EXPECT_OK(table->Find("mlw_a", kNow));
  EXPECT_FALSE(table->Find("mlw_a", kNow + absl::Seconds(1)).ok());
}

TEST(TokenTable, BadLinesAreNamed) {
  const std::string good = Line("robot", "mlw_a");
  const std::string hash(64, 'a');
  ExpectRefused(good + "alice\n", "line 2: has 1 fields");
  ExpectRefused("# x\n\nalice " + hash + " 2027-01-01T00:00:00Z more\n",
                "line 3: has 4 fields");
  ExpectRefused("alice " + hash.substr(1), "line 1: the second field");
  ExpectRefused("alice " + hash + "a", "64 hexadecimal digits");
  ExpectRefused("alice g" + hash.substr(1), "64 hexadecimal digits");
  ExpectRefused("alice " + hash + " tomorrow", "line 1: the third field");
  ExpectRefused("alice " + hash + " 2027-01-01", "2027-01-31T00:00:00Z");
  ExpectRefused("team-* " + hash, "the name team-* has * or ?");
  ExpectRefused("uid:0 " + hash, "is reserved");
  ExpectRefused(
      "a\x01"
      "b " +
          hash,
      "control characters");
  ExpectRefused(std::string("alice\0 ", 7) + hash, "control characters");
  ExpectRefused("\xef\xbb\xbf", "has 1 fields");
}

TEST(TokenTable, RepeatedTokensAreRefused) {
  ExpectRefused(Line("robot", "mlw_a") + "\n" + Line("alice", "mlw_a"),
                "line 3: has the same token as line 1");
}

TEST(TokenTable, PastedTokensAreNotRepeated) {
  const std::string token = MakeToken().value();
  for (const std::string& text :
       {"robot " + token, "robot " + std::string(64, 'a') + " " + token,
        "robot x" + token}) {
    const auto table = TokenTable::Parse(text);
    EXPECT_FALSE(table.ok());
    EXPECT_THAT(table.status(), HasMessage(Not(HasSubstr(token.substr(8, 6)))));
  }
  ExpectRefused("robot " + token, "instead of its SHA-256");
}

}  // namespace
}  // namespace mlops::auth
