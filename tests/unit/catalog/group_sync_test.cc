#include "service/catalog/group_sync.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "absl/synchronization/notification.h"
#include "tests/support/matchers.h"
#include "tests/support/observed_dir.h"
#include "tests/support/temp_dir.h"

namespace mlops::catalog {
namespace {

class GroupSyncTest : public testing::Test {
 protected:
  const support::TempDir temp;
  const std::shared_ptr<support::DirObserver> observer =
      std::make_shared<support::DirObserver>();
  support::ObservedDir dir{fs::OpenBaseDir(temp.path()).value(), observer};
  core::DiskHealth health;
  GroupSync sync{&dir, &health};
};

TEST_F(GroupSyncTest, ASyncAloneIsASync) {
  EXPECT_TRUE(sync.Sync().ok());
  EXPECT_TRUE(sync.Sync().ok());
  EXPECT_EQ(observer->Take().size(), 2);
}

TEST_F(GroupSyncTest, WhoComesDuringASyncWaitsForTheNext) {
  absl::Notification syncing, go_on;
  std::atomic<int> syncs = 0;
  observer->SetBefore([&](absl::string_view) {
    if (++syncs == 1) {
      syncing.Notify();
      go_on.WaitForNotification();
    }
    return absl::OkStatus();
  });
  std::thread first([&] { EXPECT_TRUE(sync.Sync().ok()); });
  syncing.WaitForNotification();
  std::vector<std::thread> others;
  for (int i = 0; i < 8; ++i) {
    others.emplace_back([&] {
      EXPECT_TRUE(sync.Sync().ok());
      EXPECT_GE(syncs, 2);
    });
  }
  go_on.Notify();
  first.join();
  for (std::thread& other : others) other.join();
  EXPECT_LE(syncs, 9);
}

TEST_F(GroupSyncTest, AFailureIsTheAnswerForEver) {
  observer->SetBefore(
      [](absl::string_view) { return absl::InternalError("lost"); });
  EXPECT_EQ(sync.Sync(), absl::InternalError("lost"));
  EXPECT_FALSE(health.ok());
  observer->SetBefore(nullptr);
  EXPECT_THAT(sync.Sync(),
              support::IsError(absl::StatusCode::kInternal, "IO_ERROR"));
  EXPECT_EQ(observer->Take().size(), 1);
}

TEST_F(GroupSyncTest, AnothersFailureCounts) {
  EXPECT_TRUE(sync.Sync().ok());
  EXPECT_FALSE(health.Judge(absl::InternalError("lost elsewhere")).ok());
  EXPECT_THAT(sync.Sync(),
              support::IsError(absl::StatusCode::kInternal, "IO_ERROR"));
}

// All callers that share a failed sync get its error, even those that wake up
// after it has ended.
TEST_F(GroupSyncTest, AllWhoShareAFailureHearOfIt) {
  absl::Notification syncing, go_on;
  std::atomic<int> syncs = 0;
  observer->SetBefore([&](absl::string_view) -> absl::Status {
    if (++syncs > 1) return absl::InternalError("lost");
    syncing.Notify();
    go_on.WaitForNotification();
    return absl::OkStatus();
  });
  std::thread first([&] { sync.Sync().IgnoreError(); });
  syncing.WaitForNotification();
  std::atomic<int> acknowledged = 0;
  std::vector<std::thread> others;
  for (int i = 0; i < 8; ++i) {
    others.emplace_back([&] { acknowledged += sync.Sync().ok() ? 1 : 0; });
  }
  go_on.Notify();
  first.join();
  for (std::thread& other : others) other.join();
  EXPECT_EQ(acknowledged, 0);
}

TEST_F(GroupSyncTest, ThreadsNeverWaitForEver) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) EXPECT_TRUE(sync.Sync().ok());
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace mlops::catalog
