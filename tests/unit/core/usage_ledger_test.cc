// Tests the ledger over a scripted disk and clock.
#include "service/core/usage_ledger.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "tests/support/fake_clock.h"
#include "tests/support/matchers.h"
#include "tests/support/workspaces.h"

namespace mlops::core {
namespace {

using absl::StatusCode;
using support::HasDetail;
using support::IsError;

const auto kNoSpace = IsError(StatusCode::kResourceExhausted, "NO_SPACE");

bool Never() { return false; }

// --- Quotas ---

TEST(Quota, AChangeMustFitEveryLimit) {
  const Quota quota = {.max_size_bytes = 10, .max_file_count = 2};
  const Amount used = {.file_count = 1, .size_bytes = 8};
  const auto check = [&](int64_t files, int64_t bytes) {
    return CheckQuota("fraud", quota, used,
                      {.file_count = files, .size_bytes = bytes});
  };
  EXPECT_OK(check(1, 2));
  EXPECT_THAT(check(2, 2), kNoSpace);
  const absl::Status refused = check(1, 3);
  EXPECT_THAT(refused, kNoSpace);
  EXPECT_THAT(refused, HasDetail("quota", "max_size_bytes"));
  EXPECT_THAT(refused, HasDetail("limit", "10"));
  EXPECT_THAT(refused, HasDetail("used", "8"));
  EXPECT_THAT(refused, HasDetail("wanted", "3"));
}

TEST(Quota, WhatDoesNotGrowIsNotRefused) {
  const Quota quota = {.max_size_bytes = 10, .max_file_count = 2};
  const Amount used = {.file_count = 5, .size_bytes = 50};
  EXPECT_OK(CheckQuota("fraud", quota, used, {}));
  EXPECT_OK(CheckQuota("fraud", quota, used, {.size_bytes = -1}));
  EXPECT_OK(CheckQuota("fraud", {}, used, {.file_count = 9, .size_bytes = 9}));
  EXPECT_TRUE(IsOverQuota(quota, used));
  EXPECT_FALSE(IsOverQuota(quota, {.file_count = 2, .size_bytes = 10}));
  EXPECT_FALSE(IsOverQuota({}, used));
}

TEST(Quota, HugeNumbersDoNotOverflow) {
  const Quota quota = {.max_size_bytes = 0};
  EXPECT_THAT(CheckQuota("fraud", quota, {.size_bytes = kMaxInteger},
                         {.size_bytes = std::numeric_limits<int64_t>::max()}),
              kNoSpace);
}

// --- Ledger ---

class UsageLedgerTest : public testing::Test {
 protected:
  UsageLedgerTest() { SetQuota({.max_size_bytes = 100, .max_file_count = 10}); }

  void SetQuota(const Quota& quota) {
    Workspace workspace = support::NewWorkspace("fraud");
    workspace.quota = quota;
    fraud = std::make_shared<const Workspace>(std::move(workspace));
  }
  absl::StatusOr<Usage> Scan(Cancelled cancelled) {
    ++scans;
    // What is on the disk when the scan looks at it.
    Usage usage{.scan_time = clock.Now()};
    usage.directories[0] = {.exists = true,
                            .file_count = disk.file_count,
                            .size_bytes = disk.size_bytes};
    if (during_scan) std::exchange(during_scan, nullptr)();
    clock.Advance(scan_time);
    if (cancelled()) return absl::CancelledError("by the caller");
    return usage;
  }
  std::unique_ptr<UsageLedger::Hold> Grow() {
    return ledger.BeginGrowth(fraud, Never).value();
  }
  // Writes a file as an upload does.
  absl::Status Write(int64_t bytes) {
    const Amount file = {.file_count = 1, .size_bytes = bytes};
    const auto hold = Grow();
    if (absl::Status status = hold->Reserve(file); !status.ok()) return status;
    if (absl::Status status = hold->Place(file); !status.ok()) return status;
    disk += file;
    hold->Placed();
    return absl::OkStatus();
  }
  void Remove(int64_t bytes) {
    const Amount file = {.file_count = 1, .size_bytes = bytes};
    const auto hold = ledger.BeginShrinking(fraud);
    disk -= file;
    hold->Removed(file);
  }
  // Returns how many bytes fit.
  int64_t Room() {
    const int before = scans;
    int64_t room = 0;
    while (Grow()->Reserve({.size_bytes = room + 1}).ok()) ++room;
    EXPECT_EQ(scans, before);
    return room;
  }

  Amount disk;
  int scans = 0;
  std::function<void()> during_scan;
  absl::Duration scan_time;
  support::FakeClock clock;
  WorkspacePtr fraud;
  // Whether the workspace was over its quota, each time that it changed.
  std::vector<bool> flips;
  UsageLedger ledger{[this](const Workspace&, bool, Cancelled cancelled) {
                       return Scan(cancelled);
                     },
                     {.clock = clock.steady_clock(),
                      .on_flip = [this](const Workspace& workspace) {
                        flips.push_back(ledger.is_over(workspace));
                      }}};
};

TEST_F(UsageLedgerTest, WithoutAQuotaNothingIsScanned) {
  SetQuota({});
  EXPECT_EQ(Grow(), nullptr);
  EXPECT_EQ(ledger.BeginShrinking(fraud), nullptr);
  EXPECT_EQ(scans, 0);
  EXPECT_EQ(ledger.bytes(), 0);
}

TEST_F(UsageLedgerTest, ItTellsWhenAWorkspaceExceedsItsQuotaAndWhenNoLonger) {
  const auto scan = [&] {
    EXPECT_TRUE(ledger.Scan(*fraud, false, Never).ok());
  };
  scan();
  EXPECT_THAT(flips, testing::IsEmpty());
  disk = {.file_count = 1, .size_bytes = 101};
  scan();
  scan();
  EXPECT_THAT(flips, testing::ElementsAre(true));
  EXPECT_TRUE(ledger.is_over(*fraud));
  Remove(101);
  EXPECT_THAT(flips, testing::ElementsAre(true, false));
  disk = {.file_count = 11, .size_bytes = 0};
  scan();
  SetQuota({.max_file_count = 11});
  ledger.NoteQuota(*fraud);
  SetQuota({.max_file_count = 5});
  ledger.NoteQuota(*fraud);
  SetQuota({});
  // A quota that was removed by hand.
  scan();
  EXPECT_THAT(flips,
              testing::ElementsAre(true, false, true, false, true, false));
  EXPECT_FALSE(ledger.is_over(*fraud));
  // The deletion itself is reported.
  SetQuota({.max_file_count = 5});
  scan();
  ledger.Forget(*fraud);
  EXPECT_EQ(flips.size(), 7u);
  EXPECT_FALSE(ledger.is_over(*fraud));
}

TEST_F(UsageLedgerTest, ManyChangesCostOneScan) {
  disk = {.file_count = 1, .size_bytes = 40};
  EXPECT_OK(Write(20));
  EXPECT_OK(Write(20));
  Remove(20);
  EXPECT_OK(Write(40));
  EXPECT_EQ(scans, 1);
  EXPECT_THAT(Write(1), kNoSpace);
  EXPECT_EQ(scans, 1);
}

TEST_F(UsageLedgerTest, ReservationsOfConcurrentChangesAdd) {
  const auto a = Grow(), b = Grow();
  EXPECT_OK(a->Reserve({.file_count = 1, .size_bytes = 60}));
  EXPECT_THAT(b->Reserve({.file_count = 1, .size_bytes = 41}), kNoSpace);
  EXPECT_OK(b->Reserve({.file_count = 1, .size_bytes = 40}));
  // A refused reservation stays as it was.
  EXPECT_THAT(a->Reserve({.file_count = 1, .size_bytes = 61}), kNoSpace);
  EXPECT_THAT(b->Reserve({.file_count = 1, .size_bytes = 41}), kNoSpace);
}

TEST_F(UsageLedgerTest, AnAbandonedChangeGivesItsRoomBack) {
  EXPECT_OK(Grow()->Reserve({.file_count = 1, .size_bytes = 100}));
  {
    const auto hold = Grow();
    EXPECT_OK(hold->Reserve({.file_count = 1, .size_bytes = 100}));
    EXPECT_OK(hold->Place({.file_count = 1, .size_bytes = 100}));
    // The rename fails.
  }
  EXPECT_EQ(Room(), 100);
}

TEST_F(UsageLedgerTest, ReplacingAFileCountsTheDifference) {
  EXPECT_OK(Write(90));
  const auto hold = Grow();
  EXPECT_OK(hold->Reserve({.size_bytes = 95 - 90}));
  EXPECT_OK(hold->Place({.size_bytes = 95 - 90}));
  hold->Placed();
  EXPECT_EQ(Room(), 5);
  const auto smaller = Grow();
  EXPECT_OK(smaller->Place({.size_bytes = 10 - 95}));
  // The room is free once the file is replaced.
  EXPECT_EQ(Room(), 5);
  smaller->Placed();
  EXPECT_EQ(Room(), 90);
}

TEST_F(UsageLedgerTest, BelowTheUseOnlyShrinkingWorks) {
  EXPECT_OK(Write(90));
  SetQuota({.max_size_bytes = 10});
  EXPECT_THAT(Write(1), kNoSpace);
  EXPECT_OK(Grow()->Reserve({.file_count = 1}));
  EXPECT_OK(Grow()->Reserve({.size_bytes = -5}));
  EXPECT_EQ(ledger.over_quota_count(), 1);
  Remove(90);
  EXPECT_EQ(ledger.over_quota_count(), 0);
}

TEST_F(UsageLedgerTest, OtherProgramsFilesCountAfterTheNextScan) {
  EXPECT_OK(Write(10));
  disk += {.file_count = 1, .size_bytes = 80};
  EXPECT_EQ(Room(), 90);
  clock.Advance(absl::Minutes(1) + absl::Seconds(1));
  Grow();
  EXPECT_EQ(scans, 2);
  EXPECT_EQ(Room(), 10);
}

TEST_F(UsageLedgerTest, NothingIsRefusedForFilesThatAreGone) {
  EXPECT_OK(Write(100));
  disk = {};
  // The last scan is too recent to scan for every refusal.
  EXPECT_THAT(Write(1), kNoSpace);
  clock.Advance(absl::Seconds(2));
  EXPECT_OK(Write(100));
  EXPECT_EQ(scans, 2);
}

TEST_F(UsageLedgerTest, LongScansAreRare) {
  scan_time = absl::Seconds(10);
  EXPECT_OK(Write(100));
  clock.Advance(absl::Minutes(3));
  EXPECT_THAT(Write(1), kNoSpace);
  EXPECT_EQ(scans, 1);
  clock.Advance(absl::Minutes(1));
  EXPECT_THAT(Write(1), kNoSpace);
  EXPECT_EQ(scans, 2);
}

TEST_F(UsageLedgerTest, EveryScanCorrectsTheCount) {
  EXPECT_OK(Write(10));
  disk += {.file_count = 1, .size_bytes = 95};
  EXPECT_OK(ledger.Scan(*fraud, false, Never));
  EXPECT_EQ(ledger.over_quota_count(), 1);
  EXPECT_THAT(Write(1), kNoSpace);
  EXPECT_EQ(scans, 2);
  // One that counts no sizes corrects nothing.
  disk = {};
  EXPECT_OK(ledger.Scan(*fraud, true, Never));
  EXPECT_EQ(ledger.over_quota_count(), 1);
}

TEST_F(UsageLedgerTest, AScanThatEndsAfterTheDeletionCountsNothing) {
  EXPECT_OK(Write(10));
  disk += {.file_count = 1, .size_bytes = 95};
  during_scan = [this] {
    clock.Advance(absl::Milliseconds(1));
    ledger.Forget(*fraud);
  };
  EXPECT_OK(ledger.Scan(*fraud, false, Never));
  EXPECT_EQ(ledger.over_quota_count(), 0);
}

TEST_F(UsageLedgerTest, WhatIsAddedDuringAScanIsNotForgotten) {
  EXPECT_OK(Write(10));
  during_scan = [this] { EXPECT_OK(Write(30)); };
  EXPECT_OK(ledger.Scan(*fraud, false, Never));
  EXPECT_EQ(Room(), 60);
}

TEST_F(UsageLedgerTest, WhatIsBeingRenamedWhenAScanBeginsIsNotForgotten) {
  const Amount file = {.file_count = 1, .size_bytes = 30};
  const auto hold = Grow();
  EXPECT_OK(hold->Place(file));
  // The scan sees the directory before the rename.
  EXPECT_OK(ledger.Scan(*fraud, false, Never));
  disk += file;
  hold->Placed();
  EXPECT_EQ(Room(), 70);
}

TEST_F(UsageLedgerTest, WhatAScanAlreadyMissesIsNotSubtractedAgain) {
  EXPECT_OK(Write(40));
  EXPECT_OK(Write(40));
  const auto hold = ledger.BeginShrinking(fraud);
  disk -= {.file_count = 1, .size_bytes = 40};
  EXPECT_OK(ledger.Scan(*fraud, false, Never));
  hold->Removed({.file_count = 1, .size_bytes = 40});
  EXPECT_EQ(Room(), 60);
}

TEST_F(UsageLedgerTest, AnOlderScanDoesNotReplaceANewerOne) {
  EXPECT_OK(Write(10));
  during_scan = [this] {
    clock.Advance(absl::Milliseconds(1));
    disk += {.file_count = 1, .size_bytes = 50};
    EXPECT_OK(ledger.Scan(*fraud, false, Never));
  };
  EXPECT_OK(ledger.Scan(*fraud, false, Never));
  EXPECT_EQ(Room(), 40);
}

TEST_F(UsageLedgerTest, AChangedQuotaAppliesToChangesInProgress) {
  const auto hold = Grow();
  EXPECT_OK(hold->Reserve({.size_bytes = 50}));
  SetQuota({.max_size_bytes = 60});
  ledger.NoteQuota(*fraud);
  EXPECT_THAT(hold->Reserve({.size_bytes = 61}), kNoSpace);
  SetQuota({});
  ledger.NoteQuota(*fraud);
  EXPECT_OK(hold->Reserve({.size_bytes = 1000}));
}

TEST_F(UsageLedgerTest, ADeletedWorkspaceIsForgotten) {
  EXPECT_OK(Write(100));
  SetQuota({.max_size_bytes = 50});
  ledger.NoteQuota(*fraud);
  EXPECT_EQ(ledger.over_quota_count(), 1);
  ledger.Forget(*fraud);
  EXPECT_EQ(ledger.over_quota_count(), 0);
  EXPECT_EQ(ledger.bytes(), 0);
  // It was restored, with other files.
  disk = {};
  EXPECT_OK(Write(50));
  EXPECT_EQ(scans, 2);
}

TEST_F(UsageLedgerTest, CallersThatNeedTheFirstScanShareIt) {
  absl::Notification scanning, others_began;
  during_scan = [&] {
    scanning.Notify();
    others_began.WaitForNotification();
  };
  std::thread first([&] { EXPECT_NE(Grow(), nullptr); });
  scanning.WaitForNotification();
  // One that gives up, and one that waits.
  EXPECT_THAT(ledger.BeginGrowth(fraud, [] { return true; }),
              IsError(StatusCode::kCancelled, ""));
  std::thread second([&] { EXPECT_NE(Grow(), nullptr); });
  others_began.Notify();
  first.join();
  second.join();
  EXPECT_EQ(scans, 1);
}

TEST_F(UsageLedgerTest, ACancelledScanLeavesTheUseUnknown) {
  EXPECT_THAT(ledger.BeginGrowth(fraud, [] { return true; }),
              IsError(StatusCode::kCancelled, ""));
  EXPECT_EQ(ledger.bytes(), 0);
  EXPECT_OK(Write(1));
  EXPECT_EQ(scans, 2);
}

TEST_F(UsageLedgerTest, ItsMemoryIsBounded) {
  UsageLedger small([this](const Workspace&, bool,
                           Cancelled cancelled) { return Scan(cancelled); },
                    {.clock = clock.steady_clock(), .max_bytes = 4000});
  for (int i = 0; i < 100; ++i) {
    Workspace workspace = support::NewWorkspace(absl::StrCat("p", i));
    workspace.quota.max_size_bytes = 100;
    EXPECT_OK(small.BeginGrowth(
        std::make_shared<const Workspace>(std::move(workspace)), Never));
  }
  EXPECT_LE(small.bytes(), 4000);
  EXPECT_GT(small.bytes(), 0);
}

}  // namespace
}  // namespace mlops::core
