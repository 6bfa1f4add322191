#include "service/base/nearest.h"

#include <gtest/gtest.h>

namespace mlops::base {
namespace {

TEST(EditDistance, CountsChanges) {
  EXPECT_EQ(EditDistance("", ""), 0u);
  EXPECT_EQ(EditDistance("", "abc"), 3u);
  EXPECT_EQ(EditDistance("abc", ""), 3u);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3u);
  EXPECT_EQ(EditDistance("Viewer", "vIEWER"), 0u);
  EXPECT_EQ(EditDistance("flaw", "lawn"), 2u);
}

TEST(Nearest, PicksTheFirstOfTheNearest) {
  EXPECT_EQ(Nearest("edtior", {"viewer", "editor", "admin"}), "editor");
  EXPECT_EQ(Nearest("x", {"ab", "a", "b"}), "a");
  EXPECT_EQ(Nearest("x", {}), "");
}

}  // namespace
}  // namespace mlops::base
