// Tests the periodic work that keeps a FileCatalog fresh and its base tidy.
#include "service/catalog/upkeep.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "service/core/layout.h"
#include "tests/catalog/harness.h"
#include "tests/support/matchers.h"
#include "tests/support/workspaces.h"

namespace mlops::catalog {
namespace {

using support::OriginalRecord;
using testing::HasSubstr;
using testing::IsEmpty;

class UpkeepTest : public FileCatalogTest {
 protected:
  Upkeep Make() {
    return {&catalog(),
            fs::MakeWatcher(base().path(), core::layout::kRecord,
                            {.portable = portable()}),
            {.clock = files.clock.clock(),
             .steady_clock = files.clock.steady_clock()}};
  }
  // Refreshes the catalog until `done` returns true. Hangs if it never does.
  template <typename Predicate>
  static void RefreshUntil(Upkeep& upkeep, Predicate done) {
    while (!done()) {
      ASSERT_OK(upkeep.RefreshNames());
      ASSERT_OK(upkeep.RefreshRecords());
      absl::SleepFor(absl::Milliseconds(5));
    }
  }
  void RefreshUntilListed(Upkeep& upkeep,
                          const std::vector<std::string>& names) {
    RefreshUntil(upkeep, [&] { return Listed() == names; });
  }
  // Puts a workspace in the trash whose time is over.
  void DeleteLongAgo(absl::string_view name) {
    Create(name);
    ASSERT_OK(catalog().Commit(
        core::DeleteChange{.project = support::Project(name)}));
    files.clock.Advance(absl::Hours(73));
  }
  bool HasCheckpoint() const { return base().Exists(".workspaced/checkpoint"); }
};

TEST_P(UpkeepTest, WhatComesGoesAndChangesByHandIsListed) {
  Create("a");
  Upkeep upkeep = Make();
  base().WriteFile("b/workspace.yaml", OriginalRecord("b", base().Path("b")));
  RefreshUntilListed(upkeep, {"a", "b"});
  base().Remove("a");
  RefreshUntilListed(upkeep, {"b"});
  base().WriteFile("b/workspace.yaml",
                   OriginalRecord("b", base().Path("b"), "edited"));
  RefreshUntil(upkeep, [this] {
    return catalog().List({}).value().workspaces[0]->metadata["note"] ==
           "edited";
  });
  base().Remove("b/workspace.yaml");
  RefreshUntilListed(upkeep, {});
}

TEST_P(UpkeepTest, TheTrashIsEmptiedInTime) {
  DeleteLongAgo("a");
  Upkeep upkeep = Make();
  while (!std::filesystem::is_empty(base().Path(".trash")))
    ASSERT_OK(upkeep.SweepTrash());
  EXPECT_THAT(Listed(/*show_deleted=*/true), IsEmpty());
}

TEST_P(UpkeepTest, ACheckpointIsSavedAfterAMinute) {
  Upkeep upkeep = Make();
  Create("a");
  ASSERT_OK(upkeep.SaveCheckpoint());
  EXPECT_FALSE(HasCheckpoint());
  files.clock.Advance(absl::Minutes(1));
  ASSERT_OK(upkeep.SaveCheckpoint());
  EXPECT_TRUE(HasCheckpoint());
}

TEST_P(UpkeepTest, AfterManyChangesThereIsACheckpointAtOnce) {
  Upkeep upkeep = Make();
  for (int i = 0; i < 1'000; ++i) Create(absl::StrCat("p", i));
  ASSERT_OK(upkeep.SaveCheckpoint());
  EXPECT_TRUE(HasCheckpoint());
  EXPECT_EQ(catalog().UnsavedChanges(), 0u);
}

TEST_P(UpkeepTest, ACheckpointThatFailsIsRetriedLater) {
  Upkeep upkeep = Make();
  Create("a");
  files.clock.Advance(absl::Minutes(1));
  files.observer().SetBefore([](absl::string_view call) {
    return absl::StartsWith(call, "CreateFile .workspaced")
               ? absl::InternalError(call)
               : absl::OkStatus();
  });
  EXPECT_THAT(upkeep.SaveCheckpoint().message(),
              HasSubstr("CreateFile .workspaced"));
  EXPECT_OK(upkeep.SaveCheckpoint());
  EXPECT_FALSE(HasCheckpoint());
  files.observer().SetBefore(nullptr);
  files.clock.Advance(absl::Minutes(1));
  EXPECT_OK(upkeep.SaveCheckpoint());
  EXPECT_TRUE(HasCheckpoint());
}

TEST_P(UpkeepTest, WhatCannotBeSweptIsReported) {
  DeleteLongAgo("a");
  files.observer().SetBefore([](absl::string_view call) {
    return absl::StartsWith(call, "RemoveDir .trash")
               ? absl::InternalError(call)
               : absl::OkStatus();
  });
  Upkeep upkeep = Make();
  absl::Status swept;
  while (swept.ok()) swept = upkeep.SweepTrash();
  EXPECT_THAT(swept.message(), HasSubstr("RemoveDir .trash"));
}

TEST_P(UpkeepTest, AJumpOfTheClockIsReportedOnce) {
  Upkeep upkeep = Make();
  EXPECT_OK(upkeep.WatchClock());
  files.clock.StepWallClock(absl::Hours(80));
  EXPECT_THAT(upkeep.WatchClock().message(), HasSubstr("by 80h"));
  EXPECT_OK(upkeep.WatchClock());
  files.clock.StepWallClock(-absl::Hours(81));
  EXPECT_THAT(upkeep.WatchClock().message(), HasSubstr("by -81h"));
  // A machine that was suspended, or slow, is no jump.
  files.clock.Advance(absl::Hours(1));
  EXPECT_OK(upkeep.WatchClock());
}

class OverflowingWatcher : public fs::Watcher {
 public:
  bool Add(absl::string_view) override { return false; }
  std::vector<std::string> TakeChanged() override { return {}; }
  bool TakeOverflow() override { return true; }
};

TEST_P(UpkeepTest, LostEventsAreReported) {
  Upkeep upkeep(&catalog(), std::make_unique<OverflowingWatcher>(), {});
  EXPECT_THAT(upkeep.RefreshRecords().message(),
              HasSubstr("inotify lost events"));
}

INSTANTIATE_TEST_SUITE_P(Calls, UpkeepTest, testing::Bool(), CallsName);

}  // namespace
}  // namespace mlops::catalog
