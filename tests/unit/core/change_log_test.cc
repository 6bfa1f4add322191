#include "service/core/change_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/support/matchers.h"
#include "tests/support/workspaces.h"

namespace mlops::core {
namespace {

using absl::StatusCode;
using support::IsError;
using support::Project;
using testing::ElementsAre;
using testing::IsEmpty;

const auto kExpired = IsError(StatusCode::kOutOfRange, "RESUME_TOKEN_EXPIRED");

WorkspacePtr Named(absl::string_view name, int64_t seconds = 0) {
  return std::make_shared<const Workspace>(
      support::NewWorkspace(name, "/base", seconds));
}

bool Everything(absl::string_view) { return true; }

std::string Text(const LoggedChange& change) {
  constexpr absl::string_view kKinds[] = {"created", "updated", "deleted"};
  return absl::StrCat(kKinds[static_cast<int>(change.kind)], " ",
                      change.workspace->project.str(), " ", change.sequence);
}

// Reads everything after `cursor` and moves it, as a watcher does.
std::vector<std::string> Read(const ChangeLog& log, int64_t& cursor) {
  std::vector<std::string> changes;
  while (true) {
    const ChangeLog::Found found = log.Next(cursor, Everything, 10).value();
    if (found.change == nullptr) return changes;
    changes.push_back(Text(*found.change));
    cursor = found.change->sequence;
  }
}
std::vector<std::string> ReadAfter(const ChangeLog& log, int64_t cursor) {
  return Read(log, cursor);
}

class ChangeLogTest : public testing::Test {
 protected:
  void Create(absl::string_view name) {
    log.Append(ChangeKind::kCreated, Named(name));
  }
  void Update(absl::string_view name) {
    log.Append(ChangeKind::kUpdated, Named(name));
  }
  void Delete(absl::string_view name) {
    log.Append(ChangeKind::kDeleted, Named(name));
  }

  ChangeLog log;
};

// Returns a log that continues what `log` has saved.
std::unique_ptr<ChangeLog> Restart(
    const ChangeLog& log, size_t max_bytes = ChangeLog::kDefaultBytes) {
  const auto find = [](absl::string_view project) { return Named(project); };
  auto next = std::make_unique<ChangeLog>(max_bytes);
  next->Restore(DecodeHistory(EncodeHistory(log.Save()), find).value());
  return next;
}

// --- Reading ---

TEST_F(ChangeLogTest, ReportsChangesInTheirOrder) {
  int64_t cursor = log.last();
  Create("a");
  Create("b");
  EXPECT_THAT(Read(log, cursor), ElementsAre("created a 1", "created b 2"));
  Update("a");
  Delete("b");
  EXPECT_THAT(Read(log, cursor), ElementsAre("updated a 3", "deleted b 4"));
  EXPECT_THAT(Read(log, cursor), IsEmpty());
}

TEST_F(ChangeLogTest, CombinesTheChangesOfAProjectThatACursorHasNotSeen) {
  Create("a");
  for (int i = 0; i < 1000; ++i) Update("a");
  EXPECT_THAT(ReadAfter(log, 0), ElementsAre("created a 1", "updated a 1001"));
  EXPECT_THAT(ReadAfter(log, 1), ElementsAre("updated a 1001"));
  Delete("a");
  EXPECT_THAT(ReadAfter(log, 0), ElementsAre("deleted a 1002"));
  Create("a");
  EXPECT_THAT(ReadAfter(log, 500), ElementsAre("created a 1003"));
  Update("a");
  EXPECT_LT(log.bytes(), 2000u);
}

TEST_F(ChangeLogTest, NoWatcherHearsOfAnUpdateBeforeTheCreation) {
  Create("a");
  Create("b");
  int64_t cursor = 0;
  Update("a");
  EXPECT_THAT(Read(log, cursor),
              ElementsAre("created a 1", "created b 2", "updated a 3"));
  // The creation does not keep the old state.
  EXPECT_EQ(log.Next(0, Everything, 1).value().change->workspace,
            log.Next(2, Everything, 1).value().change->workspace);
}

TEST_F(ChangeLogTest, ADeletedWorkspaceKeepsWhatIdentifiesIt) {
  Workspace workspace = *Named("a");
  workspace.metadata["large"] = std::string(10'000, 'x');
  workspace.delete_time = support::TimeAt(5);
  log.Append(ChangeKind::kDeleted,
             std::make_shared<const Workspace>(workspace));
  const WorkspacePtr kept =
      log.Next(0, Everything, 1).value().change->workspace;
  EXPECT_EQ(kept->uid, workspace.uid);
  EXPECT_EQ(kept->create_time, workspace.create_time);
  EXPECT_EQ(kept->delete_time, workspace.delete_time);
  EXPECT_TRUE(kept->metadata.empty());
}

TEST_F(ChangeLogTest, PassesOverWhatIsNotWanted) {
  for (int i = 0; i < 100; ++i) Create(absl::StrCat("p", i));
  const auto only_p70 = [](absl::string_view name) { return name == "p70"; };
  ChangeLog::Found found = log.Next(0, only_p70, 30).value();
  EXPECT_EQ(found.change, nullptr);
  EXPECT_TRUE(found.more);
  EXPECT_EQ(found.cursor, 30);
  found = log.Next(30, only_p70, 100).value();
  EXPECT_EQ(found.change->sequence, 71);
  EXPECT_EQ(found.cursor, 70);
  found = log.Next(71, only_p70, 100).value();
  EXPECT_EQ(found.change, nullptr);
  EXPECT_FALSE(found.more);
  EXPECT_EQ(found.cursor, 100);
}

TEST_F(ChangeLogTest, LookingUpProjectsFindsWhatASearchFinds) {
  std::mt19937 random(1);
  const auto name = [&random] { return absl::StrCat("p", random() % 20); };
  for (int i = 0; i < 300; ++i) {
    switch (random() % 3) {
      case 0:
        Create(name());
        break;
      case 1:
        Update(name());
        break;
      default:
        Delete(name());
    }
    const std::vector<ProjectName> projects = {Project(name()), Project(name()),
                                               Project("never")};
    const std::string hidden = name();
    const auto wants = [&](absl::string_view project) {
      return project != hidden &&
             (project == projects[0].str() || project == projects[1].str());
    };
    const int64_t cursor = static_cast<int64_t>(random() % (log.last() + 1));
    const ChangeLog::Found searched = log.Next(cursor, wants, 1000).value();
    const ChangeLog::Found found = log.NextOf(cursor, projects, wants).value();
    EXPECT_EQ(found.change, searched.change);
    // The cursor may skip sequences of which the log knows nothing any more.
    EXPECT_GE(found.cursor, searched.cursor);
    if (found.change != nullptr) {
      EXPECT_LT(found.cursor, found.change->sequence);
    }
    EXPECT_FALSE(found.more);
  }
}

// --- Bounds ---

TEST(ChangeLogBounds, ForgetsTheOldestAndSaysSo) {
  ChangeLog log(/*max_bytes=*/10'000);
  for (int i = 0; i < 1000; ++i)
    log.Append(ChangeKind::kCreated, Named(absl::StrCat("p", i)));
  EXPECT_LE(log.bytes(), 10'000u);
  EXPECT_THAT(log.Next(0, Everything, 1), kExpired);
  EXPECT_THAT(log.Resume(log.PointAt(0)), kExpired);
  const int64_t oldest = 1000 - static_cast<int64_t>(log.Save().changes.size());
  EXPECT_GT(oldest, 900);
  EXPECT_THAT(log.Next(oldest - 1, Everything, 1), kExpired);
  EXPECT_THAT(log.NextOf(oldest - 1, {Project("p999")}, Everything), kExpired);
  EXPECT_EQ(log.Next(oldest, Everything, 1).value().change->sequence,
            oldest + 1);
  EXPECT_EQ(log.Resume(log.PointAt(oldest)).value(), oldest);
}

TEST(ChangeLogBounds, DeletedAndUnreadableWorkspacesCountToo) {
  ChangeLog log(/*max_bytes=*/10'000);
  for (int i = 0; i < 100; ++i) {
    log.Append(ChangeKind::kDeleted, Named(absl::StrCat("p", i)));
    log.Append(ChangeKind::kUpdated,
               UnreadableWorkspace(Project(absl::StrCat("q", i))));
  }
  EXPECT_LE(log.Save().changes.size(),
            10'000 / (sizeof(Workspace) + sizeof(LoggedChange)));
}

// --- Waiting ---

TEST_F(ChangeLogTest, AWaitEndsWithAChangeOrAnInterrupt) {
  EXPECT_FALSE(log.WaitBeyond(0, absl::ZeroDuration()));
  std::thread writer([&] { Create("a"); });
  EXPECT_TRUE(log.WaitBeyond(0, absl::InfiniteDuration()));
  writer.join();
  std::thread interrupter([&] { log.Interrupt(); });
  EXPECT_FALSE(log.WaitBeyond(1, absl::InfiniteDuration()));
  interrupter.join();
}

// --- Restarts ---

TEST_F(ChangeLogTest, ARestartContinuesTheHistory) {
  Create("a");
  Create("b");
  Delete("b");
  const ResumePoint after_a = log.PointAt(1);
  const auto next = Restart(log);
  EXPECT_EQ(next->last(), 3);
  next->Append(ChangeKind::kUpdated, Named("a"));
  EXPECT_THAT(ReadAfter(*next, next->Resume(after_a).value()),
              ElementsAre("deleted b 3", "updated a 4"));
  EXPECT_THAT(ReadAfter(*next, 0),
              ElementsAre("created a 1", "deleted b 3", "updated a 4"));
  const LoggedChangePtr deleted = next->Next(2, Everything, 1).value().change;
  EXPECT_EQ(deleted->workspace->uid, Named("b")->uid);
  EXPECT_EQ(deleted->workspace->create_time, Named("b")->create_time);
}

TEST_F(ChangeLogTest, ChangesAfterTheSavedMomentAreUnknown) {
  Create("a");
  const auto crashed = Restart(log);
  const auto copy = Restart(log);
  crashed->Append(ChangeKind::kCreated, Named("b"));
  copy->Append(ChangeKind::kCreated, Named("c"));
  // The saved moment is common to both, what came later is not.
  EXPECT_EQ(copy->Resume(crashed->PointAt(1)).value(), 1);
  EXPECT_EQ(copy->Resume(log.PointAt(1)).value(), 1);
  EXPECT_THAT(copy->Resume(crashed->PointAt(2)), kExpired);
  EXPECT_THAT(crashed->Resume(copy->PointAt(2)), kExpired);
  Create("d");
  EXPECT_THAT(copy->Resume(log.PointAt(2)), kExpired);
  EXPECT_THAT(ChangeLog().Resume(log.PointAt(0)), kExpired);
}

TEST_F(ChangeLogTest, PositionsSurviveManyRestarts) {
  Create("a");
  const ResumePoint point = log.PointAt(1);
  auto next = Restart(log);
  for (int i = 0; i < 50; ++i) {
    next->Append(ChangeKind::kUpdated, Named("a"));
    next = Restart(*next);
  }
  EXPECT_EQ(next->Resume(point).value(), 1);
  EXPECT_THAT(ReadAfter(*next, 1), ElementsAre("updated a 51"));
  // The number of runs is bounded all the same.
  for (int i = 0; i < 100; ++i) {
    next->Append(ChangeKind::kUpdated, Named("a"));
    next = Restart(*next);
  }
  EXPECT_THAT(next->Resume(point), kExpired);
  EXPECT_LE(next->Save().runs.size(), 65u);
}

TEST_F(ChangeLogTest, WhatWasForgottenStaysForgotten) {
  ChangeLog small(/*max_bytes=*/1000);
  for (int i = 0; i < 10; ++i)
    small.Append(ChangeKind::kCreated, Named(absl::StrCat("p", i)));
  const auto next = Restart(small);
  EXPECT_THAT(next->Resume(small.PointAt(1)), kExpired);
  EXPECT_EQ(next->Resume(small.PointAt(10)).value(), 10);
}

TEST(DecodeHistory, RefusesEverythingElse) {
  const auto find = [](absl::string_view) -> WorkspacePtr { return nullptr; };
  for (const char* text :
       {"", "\n", "1", "2 0 1\nr 0\n", "1 0 0\n", "1 0 1\n", "1 0 1\nr\n",
        "1 0 1\nr x\n", "1 0 1\nr 1", "1 0 1\nr 1\n2 0 a     \n",
        "1 1 1\nr 1\n1 0 a     \n", "1 0 1\nr 1\n1 0 .a     \n",
        "1 0 1\nr 1\n1 2 a  x   \n", "1 0 1\nr 1\n1 3 a     \n",
        "1 0 1\nr 1\n1 0 a\n"}) {
    EXPECT_THAT(DecodeHistory(text, find),
                IsError(StatusCode::kInvalidArgument, ""))
        << text;
  }
  EXPECT_OK(DecodeHistory("1 0 1\nr 1\n1 0 a     \n", find));
}

}  // namespace
}  // namespace mlops::core
