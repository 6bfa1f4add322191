#include "service/core/page_token.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/matchers.h"
#include "tests/support/workspaces.h"

namespace mlops::core {
namespace {

using absl::StatusCode;
using support::HasDetail;
using support::IsError;

const auto kTokenInvalid =
    IsError(StatusCode::kInvalidArgument, "TOKEN_INVALID");
const auto kFilterInvalid =
    IsError(StatusCode::kInvalidArgument, "FILTER_INVALID");

const PageContext kContext = {
    .order = {.field = OrderField::kCreateTime, .descending = true},
    .show_deleted = true};
const PageStart kStart = {.after = {.time = support::TimeAt(7),
                                    .project = "fraud",
                                    .deleted_uid = "0123"},
                          .matching_count = 17};

TEST(PageToken, ComesBackAsItWent) {
  EXPECT_EQ(
      DecodePageToken(EncodePageToken(kStart, kContext), kContext).value(),
      kStart);
  const PageStart plain = {.after = {.project = "a"}};
  EXPECT_EQ(DecodePageToken(EncodePageToken(plain, {}), {}).value(), plain);
}

TEST(PageToken, IsSafeInUrls) {
  EXPECT_THAT(EncodePageToken(kStart, kContext),
              testing::MatchesRegex("[A-Za-z0-9_-]+"));
}

TEST(PageToken, IsGoodForTheSameArgumentsOnly) {
  const std::string token = EncodePageToken(kStart, kContext);
  PageContext other = kContext;
  other.order.field = OrderField::kUpdateTime;
  EXPECT_THAT(DecodePageToken(token, other), kTokenInvalid);
  other = kContext;
  other.order.descending = false;
  EXPECT_THAT(DecodePageToken(token, other), kTokenInvalid);
  other = kContext;
  other.show_deleted = false;
  EXPECT_THAT(DecodePageToken(token, other), kTokenInvalid);
  other = kContext;
  other.filter = "project = x";
  EXPECT_THAT(DecodePageToken(token, other), kTokenInvalid);
  other = kContext;
  other.caller = "robot";
  EXPECT_THAT(DecodePageToken(token, other), kTokenInvalid);
}

TEST(PageToken, EveryChangeOfAByteIsNoticed) {
  const std::string token = EncodePageToken(kStart, kContext);
  for (size_t i = 0; i < token.size(); ++i) {
    for (int c = 0; c < 256; ++c) {
      std::string tampered = token;
      tampered[i] = static_cast<char>(c);
      if (tampered == token) continue;
      ASSERT_THAT(DecodePageToken(tampered, kContext), kTokenInvalid)
          << "byte " << i << " is " << c;
    }
  }
}

TEST(PageToken, EveryCutAndExtensionIsNoticed) {
  const std::string token = EncodePageToken(kStart, kContext);
  for (size_t length = 0; length < token.size(); ++length) {
    EXPECT_THAT(DecodePageToken(token.substr(0, length), kContext),
                kTokenInvalid);
    EXPECT_THAT(DecodePageToken(token.substr(length + 1), kContext),
                kTokenInvalid);
  }
  for (const char* extension : {"A", "=", "\n", " ", "AAAA"}) {
    EXPECT_THAT(DecodePageToken(token + extension, kContext), kTokenInvalid);
  }
}

TEST(PageToken, OthersAreRefused) {
  for (const std::string& text :
       {std::string("x"), std::string("%%%"), std::string(2000, 'A'),
        std::string("\0", 1)}) {
    EXPECT_THAT(DecodePageToken(text, kContext), kTokenInvalid);
    EXPECT_THAT(DecodePageToken(text, kContext),
                HasDetail("field", "page_token"));
  }
}

TEST(OrderBy, TakesAFieldAndADirection) {
  const auto parse = [](absl::string_view text) {
    const Order order = ParseOrderBy(text).value();
    return std::pair(order.field, order.descending);
  };
  EXPECT_EQ(parse(""), std::pair(OrderField::kProject, false));
  EXPECT_EQ(parse("   "), std::pair(OrderField::kProject, false));
  EXPECT_EQ(parse("project"), std::pair(OrderField::kProject, false));
  EXPECT_EQ(parse("project desc"), std::pair(OrderField::kProject, true));
  EXPECT_EQ(parse("create_time"), std::pair(OrderField::kCreateTime, false));
  EXPECT_EQ(parse("  update_time   desc "),
            std::pair(OrderField::kUpdateTime, true));
}

TEST(OrderBy, SaysWhereItIsWrong) {
  for (const auto& [text, position] : {std::pair("name", "0"),
                                       {"  uid", "2"},
                                       {"project asc", "8"},
                                       {"project DESC", "8"},
                                       {"project desc create_time", "13"},
                                       {"project,create_time", "0"},
                                       {"Project", "0"},
                                       {"create_time\tdesc", "0"}}) {
    const auto order = ParseOrderBy(text);
    EXPECT_THAT(order, kFilterInvalid) << text;
    EXPECT_THAT(order, HasDetail("field", "order_by"));
    EXPECT_THAT(order, HasDetail("position", position)) << text;
  }
}

}  // namespace
}  // namespace mlops::core
