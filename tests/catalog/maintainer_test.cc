// Tests the thread that keeps a FileCatalog fresh. It works at its own pace,
// so these tests wait until it has done its work.
#include "service/catalog/maintainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "service/core/layout.h"
#include "tests/catalog/harness.h"
#include "tests/support/matchers.h"
#include "tests/support/workspaces.h"

namespace mlops::catalog {
namespace {

using support::OriginalRecord;
using testing::ElementsAre;
using testing::IsEmpty;

class MaintainerTest : public FileCatalogTest {
 protected:
  std::unique_ptr<Maintainer> Start(Maintainer::Options options = {}) {
    auto watcher = fs::MakeWatcher(base().path(), core::layout::kRecord,
                                   {.portable = portable()});
    return std::make_unique<Maintainer>(&catalog(), std::move(watcher),
                                        std::move(options));
  }
  // Waits until List returns `names`; these tests never refresh the catalog.
  // Hangs if it never does.
  void WaitUntilListed(const std::vector<std::string>& names) {
    while (Listed() != names) absl::SleepFor(absl::Milliseconds(5));
  }
};

TEST_P(MaintainerTest, WhatComesGoesAndChangesByHandIsListed) {
  Create("a");
  const auto maintainer = Start();
  base().WriteFile("b/workspace.yaml", OriginalRecord("b", base().Path("b")));
  WaitUntilListed({"a", "b"});
  base().Remove("a");
  WaitUntilListed({"b"});
  base().WriteFile("b/workspace.yaml",
                   OriginalRecord("b", base().Path("b"), "edited"));
  while (catalog().List({}).value().workspaces[0]->metadata["note"] !=
         "edited") {
    absl::SleepFor(absl::Milliseconds(5));
  }
  base().Remove("b/workspace.yaml");
  WaitUntilListed({});
}

TEST_P(MaintainerTest, TheTrashIsEmptiedInTime) {
  Create("a");
  ASSERT_OK(
      catalog().Commit(core::DeleteChange{.project = support::Project("a")}));
  const auto maintainer = Start();
  files.clock.Advance(absl::Hours(73));
  while (!std::filesystem::is_empty(base().Path(".trash")))
    absl::SleepFor(absl::Milliseconds(5));
  EXPECT_THAT(Listed(/*show_deleted=*/true), IsEmpty());
}

TEST_P(MaintainerTest, ALastCheckpointIsLeft) {
  Create("a");
  Start().reset();
  EXPECT_TRUE(base().Exists(".workspaced/checkpoint"));
}

TEST_P(MaintainerTest, AfterManyChangesThereIsACheckpointAtOnce) {
  const auto maintainer = Start();
  for (int i = 0; i < 1'000; ++i) Create(absl::StrCat("p", i));
  while (!base().Exists(".workspaced/checkpoint"))
    absl::SleepFor(absl::Milliseconds(5));
  EXPECT_LT(catalog().UnsavedChanges(), 1'000 + 2 * 1'000);
}

// Collects the maintainer's reports under a lock.
class Reports {
 public:
  Maintainer::Options options(base::Clock clock = base::SystemClock()) {
    return {.report =
                [this](absl::string_view what, const absl::Status& problem) {
                  absl::MutexLock lock(&mutex_);
                  lines_.push_back(absl::StrCat(what, ": ", problem.message()));
                },
            .clock = std::move(clock)};
  }
  std::vector<std::string> lines() const {
    absl::MutexLock lock(&mutex_);
    return lines_;
  }
  void WaitFor(absl::string_view part) const {
    while (Count(part) == 0) absl::SleepFor(absl::Milliseconds(5));
  }
  int Count(absl::string_view part) const {
    const auto all = lines();
    return static_cast<int>(
        std::count_if(all.begin(), all.end(), [part](const std::string& line) {
          return absl::StrContains(line, part);
        }));
  }

 private:
  mutable absl::Mutex mutex_;
  std::vector<std::string> lines_ ABSL_GUARDED_BY(mutex_);
};

TEST_P(MaintainerTest, WhatCannotBeSweptOrSavedIsReported) {
  Create("a");
  ASSERT_OK(
      catalog().Commit(core::DeleteChange{.project = support::Project("a")}));
  files.clock.Advance(absl::Hours(73));
  files.observer().SetBefore([](absl::string_view call) {
    const bool fails = absl::StartsWith(call, "RemoveDir .trash") ||
                       absl::StartsWith(call, "CreateFile .workspaced");
    return fails ? absl::InternalError(call) : absl::OkStatus();
  });
  Reports reports;
  auto maintainer = Start(reports.options());
  reports.WaitFor("cannot empty the trash: RemoveDir .trash");
  maintainer.reset();
  EXPECT_EQ(reports.Count("cannot save the checkpoint: CreateFile .workspaced"),
            1);
}

TEST_P(MaintainerTest, AJumpOfTheClockIsReported) {
  support::JumpingClock clock;
  Reports reports;
  const auto maintainer = Start(reports.options(clock.clock()));
  clock.Advance(absl::Hours(80));
  reports.WaitFor("the clock jumped: by 80h");
  clock.Advance(-absl::Hours(81));
  reports.WaitFor("the clock jumped: by -81h");
}

class OverflowingWatcher : public fs::Watcher {
 public:
  bool Add(absl::string_view) override { return false; }
  std::vector<std::string> TakeChanged() override { return {}; }
  bool TakeOverflow() override { return true; }
};

TEST_P(MaintainerTest, LostEventsAreReported) {
  Reports reports;
  const Maintainer maintainer(
      &catalog(), std::make_unique<OverflowingWatcher>(), reports.options());
  reports.WaitFor("inotify lost events");
}

INSTANTIATE_TEST_SUITE_P(Calls, MaintainerTest, testing::Bool(), CallsName);

}  // namespace
}  // namespace mlops::catalog
