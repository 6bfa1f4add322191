#include "service/base/lru_map.h"

#include <gtest/gtest.h>

namespace mlops::base {
namespace {

TEST(LruMapTest, KeepsWhatIsPut) {
  LruMap<int> map(10'000);
  map.Put("a", 1, 0);
  map.Put("a", 2, 0);
  EXPECT_EQ(*map.Find("a"), 2);
  EXPECT_EQ(map.Find("b"), nullptr);
}

TEST(LruMapTest, WhatIsTakenIsGone) {
  LruMap<int> map(10'000);
  map.Put("a", 1, 100);
  EXPECT_EQ(map.Take("a"), 1);
  EXPECT_EQ(map.Take("a"), std::nullopt);
  EXPECT_EQ(map.bytes(), 0u);
}

TEST(LruMapTest, WhatWasUsedLongestAgoGoesFirst) {
  LruMap<int> map(3500);
  for (const char* key : {"a", "b", "c"}) map.Put(key, 1, 1000);
  EXPECT_NE(map.Find("a"), nullptr);
  map.Put("d", 1, 1000);
  EXPECT_EQ(map.Find("b"), nullptr);
  EXPECT_NE(map.Find("a"), nullptr);
  EXPECT_LE(map.bytes(), 3500u);
}

TEST(LruMapTest, WhatHasNoRoomAtAllIsDropped) {
  LruMap<int> map(500);
  map.Put("a", 1, 1000);
  EXPECT_EQ(map.Find("a"), nullptr);
  EXPECT_EQ(map.bytes(), 0u);
}

}  // namespace
}  // namespace mlops::base
