#include "service/core/resume_token.h"

#include <gtest/gtest.h>

#include "service/core/page_token.h"
#include "tests/support/matchers.h"

namespace mlops::core {
namespace {

using absl::StatusCode;
using support::HasDetail;
using support::IsError;

const auto kInvalid = IsError(StatusCode::kInvalidArgument, "TOKEN_INVALID");

TEST(ResumeToken, ComesBackAsItWent) {
  for (const ResumePoint& point :
       {ResumePoint{.run = "r"},
        ResumePoint{.run = "r-1", .sequence = int64_t{1} << 40},
        ResumePoint{.run = "r", .sequence = 3, .view = "0123456789abcdef"},
        ResumePoint{.run = "r", .sequence = 3, .listed_through = ""},
        ResumePoint{.run = "r", .sequence = 3, .listed_through = "fraud"}}) {
    EXPECT_EQ(DecodeResumeToken(EncodeResumeToken(point)).value(), point);
  }
}

TEST(ResumeToken, ADamagedOneIsInvalid) {
  const std::string token =
      EncodeResumeToken({.run = "r", .sequence = 7, .listed_through = "a"});
  for (size_t i = 0; i < token.size(); ++i) {
    std::string damaged = token;
    damaged[i] = damaged[i] == 'A' ? 'B' : 'A';
    EXPECT_THAT(DecodeResumeToken(damaged), kInvalid) << i;
    EXPECT_THAT(DecodeResumeToken(token.substr(0, i)), kInvalid) << i;
  }
  EXPECT_THAT(DecodeResumeToken(token + "A"), kInvalid);
  EXPECT_THAT(DecodeResumeToken("x"), HasDetail("field", "resume_token"));
}

TEST(ResumeToken, ATokenOfAPageIsInvalid) {
  EXPECT_THAT(DecodeResumeToken(EncodePageToken({}, {})), kInvalid);
  EXPECT_THAT(DecodeResumeToken(SealToken("2\nr\n1\n\n", "watch")), kInvalid);
}

}  // namespace
}  // namespace mlops::core
