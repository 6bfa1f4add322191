#include "service/observe/counters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <thread>
#include <vector>

namespace mlops::observe {
namespace {

using testing::ElementsAre;

TEST(ShardedSumsTest, NoAdditionIsLostAmongThreads) {
  ShardedSums sums(20);
  std::vector<std::thread> threads;
  // More threads than shards.
  for (int i = 0; i < 40; ++i) {
    threads.emplace_back([&sums] {
      for (int n = 0; n < 1000; ++n) sums.Add(n % 20, 2);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < 20; ++i) EXPECT_EQ(sums.Get(i), 4000u) << i;
}

TEST(HistogramTest, ADurationCountsInTheFirstBucketThatReachesIt) {
  Histogram histogram({absl::Milliseconds(1), absl::Seconds(1)});
  histogram.Observe(absl::ZeroDuration());
  histogram.Observe(absl::Milliseconds(1));
  histogram.Observe(absl::Milliseconds(2));
  histogram.Observe(absl::Seconds(7));
  const Histogram::Snapshot snapshot = histogram.Take();
  EXPECT_THAT(snapshot.cumulative, ElementsAre(2, 3, 4));
  EXPECT_DOUBLE_EQ(snapshot.sum_seconds, 7.003);
}

TEST(HistogramTest, ANegativeDurationDoesNotSpoilTheSum) {
  Histogram histogram({absl::Seconds(1)});
  histogram.Observe(absl::Seconds(-1));
  EXPECT_EQ(histogram.Take().sum_seconds, 0);
  EXPECT_THAT(histogram.Take().cumulative, ElementsAre(1, 1));
}

}  // namespace
}  // namespace mlops::observe
