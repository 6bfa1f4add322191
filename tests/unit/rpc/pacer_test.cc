#include "service/rpc/pacer.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "service/rpc/steady_clock.h"

namespace mlops::rpc {
namespace {

TEST(PacerTest, RunsTasksInOrderAndAFewInEachTick) {
  constexpr int kTicks = 50;
  const int count = (kTicks + 1) * static_cast<int>(Pacer::TasksPerTick());
  Pacer pacer(static_cast<size_t>(count));
  absl::BlockingCounter left(count);
  std::vector<int> order;
  const auto began = SteadyClock::now();
  for (int i = 0; i < count; ++i) {
    ASSERT_TRUE(pacer.TrySchedule([&, i] {
      order.push_back(i);
      left.DecrementCount();
    }));
  }
  left.Wait();
  EXPECT_GE(SteadyClock::now() - began,
            absl::ToChronoNanoseconds(kTicks * Pacer::kTick));
  for (int i = 0; i < count; ++i) EXPECT_EQ(order[static_cast<size_t>(i)], i);
}

TEST(PacerTest, RefusesWhatDoesNotFitAndLosesNothingAtItsEnd) {
  int done = 0;
  absl::Notification started, go_on;
  std::optional<Pacer> pacer(std::in_place, 3);
  ASSERT_TRUE(pacer->TrySchedule([&] {
    started.Notify();
    go_on.WaitForNotification();
  }));
  // Now the queue is empty, and the thread is busy.
  started.WaitForNotification();
  for (int i = 0; i < 3; ++i)
    EXPECT_TRUE(pacer->TrySchedule([&done] { ++done; }));
  EXPECT_FALSE(pacer->TrySchedule([&done] { ++done; }));
  go_on.Notify();
  pacer.reset();
  EXPECT_EQ(done, 3);
}

}  // namespace
}  // namespace mlops::rpc
