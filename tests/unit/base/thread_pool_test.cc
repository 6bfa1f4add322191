#include "service/base/thread_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <set>

#include "absl/synchronization/barrier.h"
#include "absl/synchronization/notification.h"
#include "proto/cpp/base/unique_fd.h"

namespace mlops::base {
namespace {

TEST(ThreadPool, RunsEveryTaskOnceBeforeItEnds) {
  std::atomic<int> runs = 0;
  {
    ThreadPool pool(4, 1000);
    for (int i = 0; i < 500; ++i)
      ASSERT_TRUE(pool.TrySchedule([&] { ++runs; }));
  }
  EXPECT_EQ(runs, 500);
}

TEST(ThreadPool, OneThreadKeepsTheOrder) {
  std::vector<int> order;
  {
    ThreadPool pool(1, 1000);
    for (int i = 0; i < 100; ++i)
      ASSERT_TRUE(pool.TrySchedule([&order, i] { order.push_back(i); }));
  }
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
  EXPECT_EQ(order.size(), 100);
}

TEST(ThreadPool, RefusesWhatDoesNotFitTheQueue) {
  absl::Notification begun, go_on;
  ThreadPool pool(1, 2);
  ASSERT_TRUE(pool.TrySchedule([&] {
    begun.Notify();
    go_on.WaitForNotification();
  }));
  begun.WaitForNotification();
  EXPECT_TRUE(pool.TrySchedule([] {}));
  EXPECT_TRUE(pool.TrySchedule([] {}));
  EXPECT_FALSE(pool.TrySchedule([] { FAIL() << "was refused"; }));
  EXPECT_EQ(pool.queued(), 2u);
  go_on.Notify();
}

TEST(ThreadPool, TasksRunAtTheSameTime) {
  constexpr int kThreads = 4;
  // The barrier opens only if all tasks run at the same time.
  absl::Barrier* const barrier = new absl::Barrier(kThreads);
  ThreadPool pool(kThreads, 100);
  for (int i = 0; i < kThreads; ++i) {
    ASSERT_TRUE(pool.TrySchedule([barrier] {
      if (barrier->Block()) delete barrier;
    }));
  }
}

TEST(ParallelFor, CallsEachIndexOnce) {
  for (const size_t count : {0, 1, 7, 64, 1000}) {
    for (const size_t run : {1, 3, 64, 5000}) {
      std::vector<std::atomic<int>> calls(count);
      ParallelFor(count, 4, run, [&](size_t i) { ++calls[i]; });
      EXPECT_TRUE(std::all_of(calls.begin(), calls.end(),
                              [](const auto& n) { return n == 1; }));
    }
  }
}

TEST(UniqueFd, ClosesOnceAndMoves) {
  const int raw = ::dup(0);
  ASSERT_GE(raw, 0);
  UniqueFd a(raw);
  UniqueFd b(std::move(a));
  EXPECT_FALSE(a.ok());
  EXPECT_EQ(b.get(), raw);
  a = std::move(b);
  EXPECT_EQ(a.get(), raw);
  a.Reset();
  EXPECT_FALSE(a.ok());
  EXPECT_EQ(::close(raw), -1);  // Fails, because it is already closed.
}

TEST(RunBoth, RunsBothWhetherOrNotThereIsAThread) {
  ThreadPool pool(1, 1);
  absl::Notification release;
  ASSERT_TRUE(pool.TrySchedule([&] { release.WaitForNotification(); }));
  for (int i = 0; i < 100; ++i) {
    if (i == 50) release.Notify();
    std::atomic<int> here = 0, aside = 0;
    RunBoth(
        pool, [&] { ++here; }, [&] { ++aside; });
    EXPECT_EQ(here, 1);
    EXPECT_EQ(aside, 1);
  }
}

}  // namespace
}  // namespace mlops::base
