#include "service/artifacts/relative_path.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "tests/support/matchers.h"

namespace mlops::artifacts {
namespace {

using absl::StatusCode;
using support::HasDetail;
using support::IsError;

const auto kInvalid = IsError(StatusCode::kInvalidArgument, "PATH_INVALID");

absl::StatusOr<RelativePath> Find(absl::string_view text) {
  return RelativePath::Parse(text, RelativePath::Use::kFind);
}
absl::StatusOr<RelativePath> Make(absl::string_view text) {
  return RelativePath::Parse(text, RelativePath::Use::kMake);
}

TEST(RelativePathTest, TakesWhatBeginsWithOneOfTheFiveDirectories) {
  for (const char* text :
       {"models", "mlflow/mlflow.db", "dvc/a/b/c", "outputs/ü ß%20.txt",
        "monitoring/.hidden", "models/...", "models/a:b*c?d\"e",
        "models/\xf0\x9f\x98\x80"}) {
    EXPECT_OK(Find(text)) << text;
    const auto path = Make(text);
    ASSERT_OK(path) << text;
    EXPECT_EQ(path->on_disk(), text);
    EXPECT_EQ(path->shown(), text);
  }
}

TEST(RelativePathTest, RefusesWhatCouldLeadElsewhereOrIsNoName) {
  const std::string long_name = absl::StrCat("models/", std::string(256, 'x'));
  std::string long_path = "models";
  while (long_path.size() <= kMaxPathBytes)
    absl::StrAppend(&long_path, "/", std::string(99, 'x'));
  for (const std::string& text :
       {std::string("/models/x"), std::string("models/../x"),
        std::string("models/./x"), std::string(".."), std::string("models//x"),
        std::string("models/"), std::string("models/a\nb"),
        std::string("models/\x7f"), std::string("models/a\\b"),
        std::string("models/\xff"), std::string("workspace.yaml"),
        std::string("Models/x"), std::string(".uploads/x"),
        std::string("models/a\0b", 10), long_name, long_path}) {
    EXPECT_THAT(Find(text), kInvalid) << text;
    EXPECT_THAT(Make(text), kInvalid) << text;
    EXPECT_THAT(Find(text), HasDetail("problem", testing::Not(""))) << text;
  }
  EXPECT_THAT(Find(""), IsError(StatusCode::kInvalidArgument, "FIELD_INVALID"));
}

TEST(RelativePathTest, FindsNamesThatAreNotAllowedByTheirEscapedForm) {
  EXPECT_EQ(Find("models/caf\\xe9").value().on_disk(), "models/caf\xe9");
  EXPECT_EQ(Find("models/a\\x5cb").value().on_disk(), "models/a\\b");
  EXPECT_EQ(Find("models/a\\x0ab").value().shown(), "models/a\\x0ab");
  for (const char* text : {"models/caf\\xe9", "models/a\\x5cb"})
    EXPECT_THAT(Make(text), kInvalid) << text;
}

TEST(RelativePathTest, OneTextStandsForOneName) {
  for (const char* text :
       {"models/\\x41", "models/\\xE9", "models/a\\x2fb", "models/\\x2e\\x2e",
        "models/\\x00", "models/\\xc3\\xa9", "models/\\x", "models/\\xz0",
        "models/a\\"}) {
    EXPECT_THAT(Find(text), kInvalid) << text;
  }
}

TEST(RelativePathTest, WhateverIsOnDiskIsShownAndFoundAgain) {
  std::string all;
  for (int byte = 1; byte < 256; ++byte) {
    if (byte != '/') all += static_cast<char>(byte);
  }
  const std::string path = absl::StrCat("models/", all);
  EXPECT_EQ(Find(ShowPath(path)).value().on_disk(), path);
}

TEST(RelativePathTest, KnowsItsParts) {
  const RelativePath path = Make("models/a/b").value();
  EXPECT_EQ(path.parent(), "models/a");
  EXPECT_EQ(path.name(), "b");
  EXPECT_FALSE(path.is_top());
  EXPECT_TRUE(Make("models").value().is_top());
  EXPECT_EQ(Make("models").value().parent(), "");
  EXPECT_TRUE(path.IsWithin(path));
  EXPECT_TRUE(path.IsWithin(Make("models/a").value()));
  EXPECT_FALSE(Make("models/ab").value().IsWithin(Make("models/a").value()));
  EXPECT_FALSE(Make("models/a").value().IsWithin(path));
}

}  // namespace
}  // namespace mlops::artifacts
