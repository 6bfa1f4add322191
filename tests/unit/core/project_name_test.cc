#include "service/core/project_name.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "tests/support/matchers.h"

namespace mlops::core {
namespace {

using absl::StatusCode;
using support::HasDetail;
using support::IsError;

TEST(ProjectName, KeepsEveryGoodName) {
  for (const std::string& name :
       {std::string("a"), std::string("7"), std::string("Fraud"),
        std::string("a.b_c-d"), std::string("0..--__9"),
        std::string(63, 'x')}) {
    EXPECT_EQ(ProjectName::Parse(name).value().str(), name);
    EXPECT_TRUE(ProjectName::IsValid(name));
  }
}

TEST(ProjectName, RefusesEveryBadName) {
  for (const std::string& name :
       {std::string(), std::string("."), std::string(".."),
        std::string(".hidden"), std::string("../x"), std::string("a/b"),
        std::string("/a"), std::string("a\n"), std::string("a\0b", 3),
        std::string("a "), std::string("-a"), std::string("a-"),
        std::string("_a"), std::string("a."), std::string("a b"),
        std::string("näme"), std::string("a\xff"), std::string("a:b"),
        std::string(64, 'x')}) {
    EXPECT_THAT(ProjectName::Parse(name),
                IsError(StatusCode::kInvalidArgument, "FIELD_INVALID"))
        << name;
    EXPECT_THAT(ProjectName::Parse(name), HasDetail("field", "project"));
    EXPECT_FALSE(ProjectName::IsValid(name));
  }
}

TEST(ProjectName, IsTheLanguageOfItsPattern) {
  const std::regex pattern("[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?");
  for (int a = 0; a < 256; ++a) {
    for (int b = 0; b < 256; b += 3) {
      for (const std::string& text :
           {std::string{static_cast<char>(a)},
            std::string{static_cast<char>(a), static_cast<char>(b)},
            std::string{'x', static_cast<char>(a), static_cast<char>(b)}}) {
        ASSERT_EQ(ProjectName::IsValid(text), std::regex_match(text, pattern))
            << a << " " << b;
      }
    }
  }
}

TEST(ProjectName, SaysWhatIsWrong) {
  EXPECT_THAT(ProjectName::Parse(""), HasDetail("problem", "is required"));
  EXPECT_THAT(ProjectName::Parse(std::string(64, 'x')),
              HasDetail("problem", "is longer than 63 characters"));
  EXPECT_THAT(ProjectName::Parse(".a"),
              HasDetail("problem", testing::HasSubstr("begin and end")));
  EXPECT_THAT(ProjectName::Parse("a/b"),
              HasDetail("problem", testing::HasSubstr("may hold only")));
}

TEST(ProjectName, IsOrderedByBytes) {
  EXPECT_LT(ProjectName::Parse("B").value(), ProjectName::Parse("a").value());
  EXPECT_LT(ProjectName::Parse("a").value(), ProjectName::Parse("a-b").value());
  EXPECT_EQ(ProjectName::Parse("a").value(), ProjectName::Parse("a").value());
}

}  // namespace
}  // namespace mlops::core
