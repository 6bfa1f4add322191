#include "service/doctor/place.h"

#include <gtest/gtest.h>

namespace mlops::doctor {
namespace {

TEST(PlaceTest, NormalizesPaths) {
  EXPECT_EQ(Normalized("/a//b/./c/../d/"), "/a/b/d");
  EXPECT_EQ(Normalized("/../a"), "/a");
  EXPECT_EQ(Normalized("/"), "/");
}

TEST(PlaceTest, ComparesWholeNames) {
  EXPECT_TRUE(IsWithin("/a/fraud", "/a/fraud"));
  EXPECT_TRUE(IsWithin("/a/fraud/x", "/a/fraud"));
  EXPECT_FALSE(IsWithin("/a/fraud2", "/a/fraud"));
  EXPECT_FALSE(IsWithin("/a", "/a/fraud"));
  EXPECT_TRUE(IsWithin("/a", "/"));
}

TEST(PlaceTest, ReadsLocations) {
  EXPECT_EQ(PathOf("/a/b"), "/a/b");
  EXPECT_EQ(PathOf("file:///a%20b/c"), "/a b/c");
  EXPECT_EQ(PathOf("file://localhost/a"), "/a");
  EXPECT_EQ(PathOf("file:/a"), "/a");
  EXPECT_EQ(PathOf("file:///a%2"), "/a%2");
  EXPECT_EQ(PathOf("file://host/a"), std::nullopt);
  EXPECT_EQ(PathOf("s3://bucket/a"), std::nullopt);
  EXPECT_EQ(PathOf("relative"), std::nullopt);
  EXPECT_TRUE(IsRemoteUrl("file://host/a"));
  EXPECT_TRUE(IsRemoteUrl("s3://bucket/a"));
  EXPECT_FALSE(IsRemoteUrl("file:///a"));
  EXPECT_FALSE(IsRemoteUrl("relative"));
}

TEST(PlaceTest, FindsTheEntryOfTheBase) {
  EXPECT_EQ(EntryOf("/base/fraud/x", "/base"), "fraud");
  EXPECT_EQ(EntryOf("/base/fraud", "/base"), "fraud");
  EXPECT_EQ(EntryOf("/base", "/base"), "");
  EXPECT_EQ(EntryOf("/other/fraud", "/base"), "");
  EXPECT_EQ(EntryOf("/fraud/x", "/"), "fraud");
}

}  // namespace
}  // namespace mlops::doctor
