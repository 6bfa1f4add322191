// Tests Leases with a scripted store and clocks.
#include "service/core/leases.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/cpp/base/error.h"
#include "tests/support/fake_clock.h"
#include "tests/support/matchers.h"
#include "tests/support/workspaces.h"

namespace mlops::core {
namespace {

using absl::StatusCode;
using support::HasDetail;
using support::IsError;
using support::Project;
using testing::AllOf;
using testing::ElementsAre;
using testing::IsEmpty;

const auto kHeld = IsError(StatusCode::kFailedPrecondition, "LEASE_HELD");
const auto kLost = IsError(StatusCode::kFailedPrecondition, "LEASE_LOST");

// A store in memory that survives the Leases it serves, and can fail.
class FakeStore : public LeaseStore {
 public:
  absl::StatusOr<int64_t> NextFence() override {
    if (!failure.ok()) return failure;
    return next_fence++;
  }
  absl::Status Save(const StoredLease& lease) override {
    if (!failure.ok()) return failure;
    ++writes;
    stored.insert_or_assign(lease.project.str(), lease);
    return absl::OkStatus();
  }
  absl::Status Remove(const ProjectName& project) override {
    if (!failure.ok()) return failure;
    ++writes;
    stored.erase(project.str());
    return absl::OkStatus();
  }

  absl::Status failure;
  int64_t next_fence = 1;
  int writes = 0;
  std::map<std::string, StoredLease> stored;
};

class LeasesTest : public testing::Test {
 protected:
  LeasesTest() { Restart(); }

  void Restart() {
    leases = std::make_unique<Leases>(
        Leases::Options{.store = &store,
                        .clock = clock.clock(),
                        .steady_clock = clock.steady_clock(),
                        .await_changes =
                            [this](const ProjectName&) {
                              events.push_back(absl::StrCat("await ", Fence()));
                            },
                        .on_change =
                            [this](const ProjectName& project) {
                              events.push_back(project.str());
                            }});
    for (const auto& [project, lease] : store.stored) leases->Restore(lease);
  }
  absl::StatusOr<Leases::Acquired> Acquire(
      const std::string& holder, absl::Duration ttl = absl::Seconds(60),
      const std::string& uid = "u1") {
    return leases->Acquire(fraud, uid, holder, ttl);
  }
  int64_t AcquiredFence(const std::string& holder) {
    const auto acquired = Acquire(holder);
    EXPECT_OK(acquired);
    return acquired.ok() ? acquired->lease.fence : -1;
  }
  absl::Status Check(int64_t fence, absl::string_view uid = "u1") {
    return leases->Check(fraud, uid, fence);
  }
  // Returns the fence of the live lease; 0 if there is none.
  int64_t Fence() {
    const auto lease = leases->Find(fraud, "u1");
    return lease ? lease->fence : 0;
  }

  const ProjectName fraud = Project("fraud");
  support::JumpingClock clock;
  FakeStore store;
  std::vector<std::string> events;
  std::unique_ptr<Leases> leases;
};

TEST_F(LeasesTest, WithoutALeaseEveryFenceIsLost) {
  EXPECT_OK(Check(0));
  EXPECT_THAT(Check(7), AllOf(kLost, HasDetail("fence", "7"),
                              HasDetail("current_fence", "0")));
}

TEST_F(LeasesTest, OnlyTheFenceOfTheLeaseMayChangeTheWorkspace) {
  const auto acquired = Acquire("a");
  ASSERT_OK(acquired);
  EXPECT_FALSE(acquired->renewed);
  EXPECT_EQ(acquired->lease.holder, "a");
  EXPECT_GE(acquired->lease.expire_time - acquired->lease.acquire_time,
            absl::Seconds(60));
  const int64_t fence = acquired->lease.fence;
  EXPECT_OK(Check(fence));
  EXPECT_THAT(Check(0), AllOf(kHeld, HasDetail("holder", "a")));
  EXPECT_THAT(Check(fence + 1),
              AllOf(kLost, HasDetail("current_fence", absl::StrCat(fence))));
}

TEST_F(LeasesTest, AnotherHolderLearnsHowLongToWait) {
  ASSERT_OK(Acquire("a"));
  clock.Advance(absl::Seconds(20));
  const absl::Status refused = Acquire("b").status();
  EXPECT_THAT(refused, kHeld);
  const absl::Duration delay = *base::GetErrorInfo(refused)->retry_delay;
  EXPECT_LE(delay, absl::Seconds(40));
  EXPECT_GT(delay, absl::Seconds(39));
}

TEST_F(LeasesTest, TheSameHolderRenewsAndKeepsTheFenceWithoutWriting) {
  const int64_t fence = AcquiredFence("a");
  const int writes = store.writes;
  for (int i = 0; i < 10; ++i) {
    clock.Advance(absl::Seconds(50));
    const auto renewed = Acquire("a");
    ASSERT_OK(renewed);
    EXPECT_TRUE(renewed->renewed);
    EXPECT_EQ(renewed->lease.fence, fence);
  }
  EXPECT_EQ(store.writes, writes);
  EXPECT_OK(Check(fence));
}

TEST_F(LeasesTest, ARenewalForLongerIsSavedFirst) {
  const int64_t fence = AcquiredFence("a");
  ASSERT_OK(Acquire("a", absl::Hours(1)));
  EXPECT_EQ(store.stored.at("fraud").ttl, absl::Hours(1));
  const int writes = store.writes;
  ASSERT_OK(Acquire("a", absl::Seconds(5)));
  EXPECT_EQ(store.writes, writes);
  clock.Advance(absl::Seconds(6));
  EXPECT_THAT(Check(fence), kLost);
}

TEST_F(LeasesTest, AnExpiredLeaseIsLostAndItsHolderGetsALargerFence) {
  const int64_t first = AcquiredFence("a");
  clock.Advance(absl::Seconds(61));
  EXPECT_THAT(Check(first), AllOf(kLost, HasDetail("current_fence", "0")));
  EXPECT_OK(Check(0));
  EXPECT_EQ(Fence(), 0);
  const int64_t second = AcquiredFence("a");
  EXPECT_GT(second, first);
  EXPECT_THAT(Check(first), kLost);
}

TEST_F(LeasesTest, ExpiredLeasesAreRemovedAndReported) {
  AcquiredFence("a");
  events.clear();
  EXPECT_THAT(leases->Expired(10), IsEmpty());
  leases->EndExpired(fraud);
  EXPECT_EQ(leases->count(), 1u);
  clock.Advance(absl::Seconds(61));
  ASSERT_THAT(leases->Expired(10), ElementsAre(fraud));
  leases->EndExpired(fraud);
  EXPECT_EQ(leases->count(), 0u);
  EXPECT_THAT(store.stored, IsEmpty());
  EXPECT_THAT(events, ElementsAre("fraud"));
  leases->EndExpired(fraud);
  EXPECT_THAT(events, ElementsAre("fraud"));
}

TEST_F(LeasesTest, OnlyTheHolderReleases) {
  const int64_t fence = AcquiredFence("a");
  EXPECT_THAT(leases->Release(fraud, "u1", "b", false).status(), kHeld);
  EXPECT_OK(Check(fence));
  EXPECT_TRUE(leases->Release(fraud, "u1", "a", false).value());
  EXPECT_THAT(Check(fence), kLost);
  EXPECT_THAT(store.stored, IsEmpty());
  EXPECT_FALSE(leases->Release(fraud, "u1", "a", false).value());
}

TEST_F(LeasesTest, ForceReleasesALeaseOfAnybody) {
  const int64_t fence = AcquiredFence("a");
  EXPECT_TRUE(leases->Release(fraud, "u1", "", true).value());
  EXPECT_THAT(Check(fence), kLost);
}

TEST_F(LeasesTest, ANewLeaseWaitsForPermittedChangesAndRenewalsDoNot) {
  AcquiredFence("a");
  AcquiredFence("a");
  ASSERT_TRUE(leases->Release(fraud, "u1", "a", false).value());
  AcquiredFence("b");
  // While it waits, only the new fence is permitted.
  EXPECT_THAT(events,
              ElementsAre("await 1", "fraud", "fraud", "await 2", "fraud"));
}

TEST_F(LeasesTest, ALeaseBelongsToOneWorkspaceOnly) {
  const int64_t fence = AcquiredFence("a");
  // A workspace of the same name, created after somebody removed the first.
  EXPECT_OK(Check(0, "u2"));
  EXPECT_THAT(Check(fence, "u2"), kLost);
  EXPECT_FALSE(leases->Find(fraud, "u2").has_value());
  const auto other = Acquire("b", absl::Seconds(60), "u2");
  ASSERT_OK(other);
  EXPECT_GT(other->lease.fence, fence);
  // Where the record cannot be read, the name decides.
  EXPECT_THAT(Check(0, ""), kHeld);
}

TEST_F(LeasesTest, DeletionEndsTheLease) {
  const int64_t fence = AcquiredFence("a");
  leases->End(fraud);
  EXPECT_THAT(Check(fence), kLost);
  EXPECT_THAT(store.stored, IsEmpty());
  EXPECT_GT(AcquiredFence("a"), fence);
}

TEST_F(LeasesTest, ARestartNeitherShortensALeaseNorChangesItsFence) {
  const int64_t fence = AcquiredFence("a");
  clock.Advance(absl::Seconds(59));
  Restart();
  EXPECT_OK(Check(fence));
  EXPECT_THAT(Acquire("b").status(), kHeld);
  clock.Advance(absl::Seconds(59));
  EXPECT_OK(Check(fence));
  EXPECT_TRUE(Acquire("a")->renewed);
  clock.Advance(absl::Seconds(61));
  EXPECT_GT(AcquiredFence("b"), fence);
}

TEST_F(LeasesTest, StoredNonsenseLastsNoLongerThanTheLongestLease) {
  store.stored.insert_or_assign("fraud",
                                StoredLease{.project = fraud,
                                            .uid = "u1",
                                            .holder = "a",
                                            .fence = 1,
                                            .acquire_time = absl::UnixEpoch(),
                                            .ttl = absl::Hours(1000)});
  Restart();
  clock.Advance(kMaxLeaseTtl + absl::Seconds(1));
  EXPECT_OK(Check(0));
}

TEST_F(LeasesTest, TheWallClockMayJump) {
  const int64_t fence = AcquiredFence("a");
  for (const absl::Duration step : {absl::Hours(48), absl::Hours(-96)}) {
    clock.StepWallClock(step);
    EXPECT_OK(Check(fence));
    EXPECT_THAT(Acquire("b").status(), kHeld);
    EXPECT_THAT(leases->Expired(10), IsEmpty());
    Restart();
    EXPECT_OK(Check(fence));
    EXPECT_THAT(Acquire("b").status(), kHeld);
  }
  clock.Advance(absl::Seconds(61));
  EXPECT_OK(Check(0));
}

TEST_F(LeasesTest, WhatCannotBeStoredDoesNotHappen) {
  store.failure = absl::InternalError("no disk");
  EXPECT_EQ(Acquire("a").status(), store.failure);
  EXPECT_OK(Check(0));
  store.failure = absl::OkStatus();
  const int64_t fence = AcquiredFence("a");
  store.failure = absl::InternalError("no disk");
  EXPECT_EQ(leases->Release(fraud, "u1", "a", false).status(), store.failure);
  EXPECT_EQ(Acquire("a", absl::Hours(1)).status(), store.failure);
  EXPECT_OK(Check(fence));
  // Renewals do not need the disk.
  EXPECT_OK(Acquire("a"));
}

TEST(ReadOnlyLeasesTest, PermitWhatTheDiskRefuses) {
  FakeStore store;
  store.failure = absl::FailedPreconditionError("read-only");
  Leases leases({.store = &store, .read_only = true});
  const ProjectName fraud = Project("fraud");
  EXPECT_OK(leases.Check(fraud, "u1", 7));
  EXPECT_EQ(leases.Acquire(fraud, "u1", "a", kDefaultLeaseTtl).status(),
            store.failure);
  EXPECT_EQ(leases.Release(fraud, "u1", "a", false).status(), store.failure);
}

}  // namespace
}  // namespace mlops::core
