#include "service/core/status_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "tests/support/fake_clock.h"
#include "tests/support/matchers.h"
#include "tests/support/workspaces.h"

namespace mlops::core {
namespace {

using absl::StatusCode;
using support::IsError;
using support::NewWorkspace;

bool Never() { return false; }

constexpr size_t kMaxBytes = 3000;

class StatusCacheTest : public testing::Test {
 protected:
  // A scanner that counts its calls and returns that number as the file count.
  absl::StatusOr<Usage> Scan(const Workspace& workspace, bool counts_only,
                             Cancelled cancelled) {
    Usage usage{.counts_only = counts_only, .scan_time = clock.Now()};
    usage.directories[0] = {.exists = true,
                            .file_count = ++scans,
                            .size_bytes = counts_only ? 0 : 100};
    if (during_scan) during_scan(workspace);
    if (cancelled()) return absl::CancelledError("by the caller");
    if (!scan_result.ok()) return scan_result;
    return usage;
  }
  int64_t Count(const Workspace& workspace, absl::Duration max_staleness) {
    return cache.Get(workspace, {.max_staleness = max_staleness}, Never)
        .value()
        .file_count();
  }

  std::atomic<int> scans = 0;
  std::function<void(const Workspace&)> during_scan;
  absl::Status scan_result;
  support::FakeClock clock;
  StatusCache cache{[this](const Workspace& workspace, bool counts_only,
                           Cancelled cancelled) {
                      return Scan(workspace, counts_only, cancelled);
                    },
                    clock.steady_clock(), kMaxBytes};
  const Workspace fraud = NewWorkspace("fraud");
};

TEST_F(StatusCacheTest, ACountIsGoodForAsLongAsTheCallerSays) {
  EXPECT_EQ(Count(fraud, absl::Seconds(5)), 1);
  clock.Advance(absl::Seconds(5) - absl::Nanoseconds(1));
  EXPECT_EQ(Count(fraud, absl::Seconds(5)), 1);
  clock.Advance(absl::Nanoseconds(1));
  EXPECT_EQ(Count(fraud, absl::Seconds(10)), 1);
  EXPECT_EQ(Count(fraud, absl::Seconds(5)), 2);
}

TEST_F(StatusCacheTest, ZeroMeansExact) {
  EXPECT_EQ(Count(fraud, absl::ZeroDuration()), 1);
  // Even within one tick of the clock.
  EXPECT_EQ(Count(fraud, absl::ZeroDuration()), 2);
  clock.Advance(absl::Nanoseconds(1));
  EXPECT_EQ(Count(fraud, absl::ZeroDuration()), 3);
}

TEST_F(StatusCacheTest, WorkspacesAreToldApartByUidAndPlace) {
  EXPECT_EQ(Count(fraud, absl::Hours(1)), 1);
  // The same name after a deletion: another uid.
  EXPECT_EQ(
      Count(NewWorkspace("fraud", "/base", /*seconds=*/9), absl::Hours(1)), 2);
  Workspace corrupt_a = NewWorkspace("a"), corrupt_b = NewWorkspace("b");
  corrupt_a.uid = corrupt_b.uid = "";
  EXPECT_NE(Count(corrupt_a, absl::Hours(1)), Count(corrupt_b, absl::Hours(1)));
}

TEST_F(StatusCacheTest, CallersThatWaitShareTheNextScan) {
  constexpr int kCallers = 16;
  absl::Notification scanning, go_on;
  during_scan = [&](const Workspace&) {
    if (scans > 1) return;
    scanning.Notify();
    go_on.WaitForNotification();
    clock.Advance(absl::Seconds(1));
  };
  std::thread first([&] { EXPECT_EQ(Count(fraud, absl::ZeroDuration()), 1); });
  scanning.WaitForNotification();
  std::vector<std::thread> callers;
  std::atomic<int> waiting = 0;
  for (int i = 0; i < kCallers; ++i) {
    callers.emplace_back([&] {
      // A waiting caller is polled repeatedly, so count it once.
      bool counted = false;
      const auto count_once = [&] {
        if (!std::exchange(counted, true)) ++waiting;
        return false;
      };
      // The running scan began before this call, so it may miss a file
      // written in between.
      EXPECT_EQ(cache.Get(fraud, {}, count_once).value().file_count(), 2);
    });
  }
  while (waiting < kCallers) absl::SleepFor(absl::Milliseconds(1));
  go_on.Notify();
  first.join();
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(scans, 2);
}

TEST_F(StatusCacheTest, AScanThatBeganTooEarlyDoesNotDo) {
  absl::Notification scanning, go_on;
  during_scan = [&](const Workspace&) {
    if (scans > 1) return;
    scanning.Notify();
    go_on.WaitForNotification();
  };
  std::thread first([&] { EXPECT_EQ(Count(fraud, absl::ZeroDuration()), 1); });
  scanning.WaitForNotification();
  // A file may have been added since that scan began.
  clock.Advance(absl::Seconds(1));
  std::thread second([&] { EXPECT_EQ(Count(fraud, absl::ZeroDuration()), 2); });
  go_on.Notify();
  first.join();
  second.join();
}

TEST_F(StatusCacheTest, AFailedScanIsToldAndNotKept) {
  scan_result = absl::InternalError("disk");
  EXPECT_EQ(cache.Get(fraud, {.max_staleness = absl::Hours(1)}, Never).status(),
            absl::InternalError("disk"));
  scan_result = absl::OkStatus();
  EXPECT_EQ(Count(fraud, absl::Hours(1)), 2);
}

TEST_F(StatusCacheTest, AFailedScanKeepsTheCountBefore) {
  EXPECT_EQ(Count(fraud, absl::Hours(1)), 1);
  scan_result = absl::InternalError("disk");
  clock.Advance(absl::Seconds(9));
  EXPECT_FALSE(
      cache.Get(fraud, {.max_staleness = absl::Seconds(1)}, Never).ok());
  EXPECT_EQ(Count(fraud, absl::Hours(1)), 1);
}

TEST_F(StatusCacheTest, ACancelledCallerLeavesWhetherItScansOrWaits) {
  EXPECT_THAT(
      cache.Get(fraud, {.max_staleness = absl::Hours(1)}, [] { return true; }),
      IsError(StatusCode::kCancelled, ""));
  absl::Notification scanning, go_on;
  during_scan = [&](const Workspace&) {
    scanning.Notify();
    go_on.WaitForNotification();
  };
  std::thread first([&] { Count(fraud, absl::Hours(1)); });
  scanning.WaitForNotification();
  EXPECT_THAT(
      cache.Get(fraud, {.max_staleness = absl::Hours(1)}, [] { return true; }),
      IsError(StatusCode::kCancelled, ""));
  go_on.Notify();
  first.join();
}

TEST_F(StatusCacheTest, ACallerWhoseSharedScanIsCancelledScansItself) {
  absl::Notification scanning, go_on;
  during_scan = [&](const Workspace&) {
    if (scans > 1) return;
    scanning.Notify();
    go_on.WaitForNotification();
  };
  std::thread first([&] {
    EXPECT_THAT(cache.Get(fraud, {.max_staleness = absl::Hours(1)},
                          [&] { return scanning.HasBeenNotified(); }),
                IsError(StatusCode::kCancelled, ""));
  });
  scanning.WaitForNotification();
  std::thread second([&] { EXPECT_EQ(Count(fraud, absl::Hours(1)), 2); });
  go_on.Notify();
  first.join();
  second.join();
}

TEST_F(StatusCacheTest, OneOfManyWhoseSharedScanIsCancelledScansForTheOthers) {
  constexpr int kWaiting = 8;
  absl::Notification scanning, go_on;
  during_scan = [&](const Workspace&) {
    if (scans > 1) return;
    scanning.Notify();
    go_on.WaitForNotification();
    clock.Advance(absl::Seconds(1));
  };
  std::thread first([&] {
    EXPECT_THAT(
        cache.Get(fraud, {}, [&] { return scanning.HasBeenNotified(); }),
        IsError(StatusCode::kCancelled, ""));
  });
  scanning.WaitForNotification();
  std::atomic<int> waiting = 0;
  std::vector<std::thread> others;
  for (int i = 0; i < kWaiting; ++i) {
    others.emplace_back([&] {
      bool counted = false;
      const auto count_once = [&] {
        if (!std::exchange(counted, true)) ++waiting;
        return false;
      };
      EXPECT_EQ(cache.Get(fraud, {}, count_once).value().file_count(), 2);
    });
  }
  while (waiting < kWaiting) absl::SleepFor(absl::Milliseconds(1));
  go_on.Notify();
  first.join();
  for (std::thread& other : others) other.join();
  EXPECT_EQ(scans, 2);
}

TEST_F(StatusCacheTest, AWholeAnswerServesWhoWantsCountsOnly) {
  EXPECT_EQ(cache.Get(fraud, {.max_staleness = absl::Hours(1)}, Never)
                .value()
                .size_bytes(),
            100);
  const Usage counts =
      cache
          .Get(fraud, {.max_staleness = absl::Hours(1), .counts_only = true},
               Never)
          .value();
  EXPECT_TRUE(counts.counts_only);
  EXPECT_EQ(counts.file_count(), 1);
  EXPECT_EQ(counts.size_bytes(), 0);
}

TEST_F(StatusCacheTest, CountsDoNotServeWhoWantsSizes) {
  const StatusArgs counts{.max_staleness = absl::Hours(1), .counts_only = true};
  EXPECT_EQ(cache.Get(fraud, counts, Never).value().file_count(), 1);
  EXPECT_EQ(cache.Get(fraud, counts, Never).value().file_count(), 1);
  EXPECT_EQ(cache.Get(fraud, {.max_staleness = absl::Hours(1)}, Never)
                .value()
                .size_bytes(),
            100);
}

TEST_F(StatusCacheTest, KeepsNoMoreCountsThanAllowed) {
  for (int i = 0; i < 10; ++i)
    Count(NewWorkspace(absl::StrCat("p", i)), absl::Hours(1));
  int known = 0;
  for (int i = 9; i >= 0; --i) {
    const int before = scans;
    Count(NewWorkspace(absl::StrCat("p", i)), absl::Hours(1));
    known += scans == before ? 1 : 0;
  }
  EXPECT_GT(known, 0);
  EXPECT_LT(known, 10);
  EXPECT_LE(cache.bytes(), kMaxBytes);
}

TEST_F(StatusCacheTest, SumsAreOverAllDirectories) {
  Usage usage;
  for (size_t i = 0; i < usage.directories.size(); ++i) {
    usage.directories[i] = {.exists = true, .file_count = 1, .size_bytes = 10};
  }
  EXPECT_EQ(usage.file_count(), 5);
  EXPECT_EQ(usage.size_bytes(), 50);
}

}  // namespace
}  // namespace mlops::core
