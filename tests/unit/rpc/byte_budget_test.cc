#include "service/rpc/byte_budget.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>
#include <utility>
#include <vector>

namespace mlops::rpc {
namespace {

constexpr size_t kKiB = 1024;

TEST(ByteBudgetTest, AHoldTakesAndReturns) {
  ByteBudget budget(1000 * kKiB);
  {
    ByteBudget::Hold hold(&budget);
    EXPECT_TRUE(hold.Set(500 * kKiB));
    EXPECT_EQ(budget.taken(), 500 * kKiB);
    EXPECT_TRUE(hold.Set(100 * kKiB));
    EXPECT_EQ(budget.taken(), 100 * kKiB);
  }
  EXPECT_EQ(budget.taken(), 0);
}

TEST(ByteBudgetTest, BeyondItNothingChanges) {
  ByteBudget budget(1000 * kKiB);
  ByteBudget::Hold hold(&budget), other(&budget);
  EXPECT_TRUE(hold.Set(700 * kKiB));
  EXPECT_FALSE(other.Set(100 * kKiB));
  EXPECT_FALSE(hold.Set(800 * kKiB));
  EXPECT_EQ(budget.taken(), 700 * kKiB);
  EXPECT_TRUE(budget.RefusedWithin(std::chrono::hours(1)));
  EXPECT_FALSE(ByteBudget(kKiB).RefusedWithin(std::chrono::minutes(1)));
}

TEST(ByteBudgetTest, LargeUsersLeaveRoomForSmallOnes) {
  ByteBudget budget(1000 * kKiB);
  ByteBudget::Hold large(&budget), second(&budget), small(&budget);
  EXPECT_TRUE(large.Set(750 * kKiB));
  EXPECT_FALSE(second.Set(17 * kKiB));
  EXPECT_TRUE(small.Set(16 * kKiB));
}

TEST(ByteBudgetTest, AMovedHoldReturnsOnce) {
  ByteBudget budget(1000 * kKiB);
  ByteBudget::Hold hold(&budget);
  EXPECT_TRUE(hold.Set(kKiB));
  {
    const ByteBudget::Hold moved = std::move(hold);
    EXPECT_EQ(budget.taken(), kKiB);
  }
  EXPECT_EQ(budget.taken(), 0);
}

TEST(ByteBudgetTest, ThreadsNeverTakeMoreThanThereIs) {
  ByteBudget budget(100 * kKiB);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&budget] {
      for (int round = 0; round < 10'000; ++round) {
        ByteBudget::Hold hold(&budget);
        if (!hold.Set(40 * kKiB)) continue;
        EXPECT_LE(budget.taken(), 75 * kKiB);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(budget.taken(), 0);
}

}  // namespace
}  // namespace mlops::rpc
