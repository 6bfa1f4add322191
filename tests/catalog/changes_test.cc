// Tests what catalogs report to watchers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "tests/catalog/harness.h"
#include "tests/support/matchers.h"
#include "tests/support/workspaces.h"

namespace mlops::catalog {
namespace {

using absl::StatusCode;
using core::CreateChange;
using core::DeleteChange;
using core::PurgeChange;
using core::ReplaceChange;
using core::UndeleteChange;
using support::IsError;
using support::NewWorkspace;
using support::OriginalRecord;
using support::Project;
using testing::ElementsAre;
using testing::IsEmpty;

const auto kExpired = IsError(StatusCode::kOutOfRange, "RESUME_TOKEN_EXPIRED");

using MakeHarness = std::unique_ptr<Harness> (*)();

class ReportedChanges : public testing::TestWithParam<MakeHarness> {
 protected:
  // Returns what has been reported since the last call.
  std::vector<std::string> News() {
    const int64_t from = std::exchange(cursor, harness->changes().last());
    return ChangesAfter(harness->changes(), from);
  }
  core::WorkspacePtr Commit(const core::Change& change) {
    return harness->catalog().Commit(change).value().workspace;
  }

  const std::unique_ptr<Harness> harness = GetParam()();
  int64_t cursor = 0;
};

TEST_P(ReportedChanges, EveryCommitIsReportedOnce) {
  core::Workspace workspace =
      *Commit(CreateChange{NewWorkspace("fraud", harness->base_path())});
  EXPECT_THAT(News(), ElementsAre("created fraud"));
  workspace.metadata["n"] = 1;
  workspace = *Commit(ReplaceChange{workspace, workspace.etag});
  EXPECT_THAT(News(), ElementsAre("updated fraud"));
  ASSERT_OK(harness->catalog().Get(workspace.project));
  EXPECT_THAT(News(), IsEmpty());
  const auto deleted = Commit(DeleteChange{workspace.project});
  EXPECT_THAT(News(), ElementsAre("deleted fraud"));
  Commit(UndeleteChange{workspace.project});
  EXPECT_THAT(News(), ElementsAre("created fraud"));
  const std::string uid = Commit(DeleteChange{workspace.project})->uid;
  EXPECT_THAT(News(), ElementsAre("deleted fraud"));
  Commit(PurgeChange{workspace.project, uid});
  EXPECT_THAT(News(), IsEmpty());
}

TEST_P(ReportedChanges, ADeletionSaysWhatWasDeletedAndWhen) {
  Commit(CreateChange{NewWorkspace("fraud", harness->base_path())});
  const auto deleted = Commit(DeleteChange{Project("fraud")});
  const auto everything = [](absl::string_view) { return true; };
  const auto reported =
      harness->changes().Next(1, everything, 1).value().change->workspace;
  EXPECT_EQ(reported->uid, deleted->uid);
  EXPECT_EQ(reported->delete_time, deleted->delete_time);
  EXPECT_EQ(reported->purge_time, deleted->purge_time);
}

TEST_P(ReportedChanges, AFailedCommitIsNotReported) {
  const auto workspace =
      Commit(CreateChange{NewWorkspace("fraud", harness->base_path())});
  News();
  EXPECT_FALSE(
      harness->catalog()
          .Commit(CreateChange{NewWorkspace("fraud", harness->base_path(), 1)})
          .ok());
  EXPECT_FALSE(
      harness->catalog().Commit(ReplaceChange{*workspace, "stale"}).ok());
  EXPECT_FALSE(harness->catalog().Commit(DeleteChange{Project("gone")}).ok());
  EXPECT_THAT(News(), IsEmpty());
}

TEST_P(ReportedChanges, AnAnnouncementIsAnUpdate) {
  Commit(CreateChange{NewWorkspace("fraud", harness->base_path())});
  News();
  harness->catalog().Announce(Project("fraud"));
  EXPECT_THAT(News(), ElementsAre("updated fraud"));
  harness->catalog().Announce(Project("gone"));
  EXPECT_THAT(News(), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(Catalogs, ReportedChanges,
                         testing::Values(MakeHarness{MakeMemoryHarness},
                                         MakeHarness{[] {
                                           return std::unique_ptr<Harness>(
                                               std::make_unique<FileHarness>());
                                         }}),
                         [](const auto& info) {
                           return info.index == 0 ? "Memory" : "Files";
                         });

// --- By hand ---

class ChangesByHand : public FileCatalogTest {
 protected:
  void WriteOriginal(absl::string_view name, absl::string_view note = "hello") {
    base().WriteFile(absl::StrCat(name, "/workspace.yaml"),
                     OriginalRecord(name, base().Path(name), note));
  }
  // Lets the catalog find out what has changed, and returns what it reported.
  std::vector<std::string> News() {
    files.clock.Advance(absl::Seconds(5));
    EXPECT_OK(catalog().RefreshNames());
    for (const auto& project : catalog().NextProjects(100))
      catalog().RefreshRecord(project);
    return Unread();
  }
  std::vector<std::string> Unread() {
    const int64_t from = std::exchange(cursor, files.changes().last());
    return ChangesAfter(files.changes(), from);
  }
  core::ResumePoint Here() {
    return files.changes().PointAt(files.changes().last());
  }
  // What a watcher that resumes at `point` is told.
  absl::StatusOr<std::vector<std::string>> Resumed(
      const core::ResumePoint& point) {
    const auto from = files.changes().Resume(point);
    if (!from.ok()) return from.status();
    return ChangesAfter(files.changes(), *from);
  }
  void StopCleanly() {
    ASSERT_OK(catalog().SaveCheckpoint(/*closing=*/true));
    files.Close();
  }

  int64_t cursor = 0;
};

TEST_P(ChangesByHand, WhatComesGoesAndChangesIsReported) {
  WriteOriginal("fraud");
  EXPECT_THAT(News(), ElementsAre("created fraud"));
  WriteOriginal("fraud", "edited");
  EXPECT_THAT(News(), ElementsAre("updated fraud"));
  std::filesystem::rename(base().Path("fraud"), base().Path("moved"));
  EXPECT_THAT(News(),
              testing::UnorderedElementsAre("deleted fraud", "created moved"));
  base().Remove("moved");
  EXPECT_THAT(News(), ElementsAre("deleted moved"));
}

TEST_P(ChangesByHand, ADirectoryWithoutARecordIsNotReported) {
  base().WriteFile("fraud/notes.txt", "x");
  base().WriteFile("README", "x");
  EXPECT_THAT(News(), IsEmpty());
  WriteOriginal("fraud");
  EXPECT_THAT(News(), ElementsAre("created fraud"));
  base().Remove("fraud/workspace.yaml");
  EXPECT_THAT(News(), ElementsAre("deleted fraud"));
}

TEST_P(ChangesByHand, ARecordThatSaysTheSameIsNotReported) {
  WriteOriginal("fraud");
  News();
  // A new file with the same text, as an editor saves it.
  base().Remove("fraud/workspace.yaml");
  WriteOriginal("fraud");
  EXPECT_THAT(News(), IsEmpty());
}

TEST_P(ChangesByHand, ARecordThatCannotBeReadIsReportedByItsNameOnly) {
  WriteOriginal("fraud");
  News();
  base().WriteFile("fraud/workspace.yaml", "[");
  const int64_t before = files.changes().last();
  EXPECT_THAT(News(), ElementsAre("updated fraud"));
  const auto everything = [](absl::string_view) { return true; };
  EXPECT_EQ(files.changes()
                .Next(before, everything, 1)
                .value()
                .change->workspace->uid,
            "");
  EXPECT_THAT(News(), IsEmpty());
  WriteOriginal("fraud");
  EXPECT_THAT(News(), ElementsAre("updated fraud"));
}

TEST_P(ChangesByHand, AnotherWorkspaceInItsPlaceIsCreated) {
  Create("fraud", 1);
  Create("churn", 2);
  News();
  std::filesystem::remove_all(base().Path("fraud"));
  std::filesystem::rename(base().Path("churn"), base().Path("fraud"));
  EXPECT_THAT(News(),
              testing::UnorderedElementsAre("created fraud", "deleted churn"));
}

// --- Restarts ---

TEST_P(ChangesByHand, WhatChangedWhileTheServerWasDownIsReported) {
  for (const char* name : {"a", "b", "c"}) WriteOriginal(name);
  base().WriteFile("broken/workspace.yaml", "[");
  base().WriteFile("stays-broken/workspace.yaml", "[");
  News();
  const core::ResumePoint here = Here();
  StopCleanly();
  WriteOriginal("a", "edited");
  base().Remove("b");
  base().Remove("broken");
  WriteOriginal("d");
  files.Reopen();
  EXPECT_THAT(Resumed(here).value(),
              testing::UnorderedElementsAre("updated a", "deleted b",
                                            "created d", "deleted broken"));
}

TEST_P(ChangesByHand, OlderPositionsSurviveACleanStopToo) {
  WriteOriginal("a");
  News();
  const core::ResumePoint here = Here();
  WriteOriginal("b");
  News();
  catalog().Announce(Project("a"));
  const core::ResumePoint announced = Here();
  StopCleanly();
  files.Reopen();
  EXPECT_THAT(Resumed(here).value(), ElementsAre("created b", "updated a"));
  EXPECT_THAT(Resumed(announced).value(), IsEmpty());
  // Nothing changes, and the server is stopped once more.
  const core::ResumePoint after_restart = Here();
  StopCleanly();
  files.Reopen();
  EXPECT_THAT(Resumed(here).value(), ElementsAre("created b", "updated a"));
  EXPECT_THAT(Resumed(after_restart).value(), IsEmpty());
}

TEST_P(ChangesByHand, AnAnnouncementAfterTheCheckpointIsSavedAtAStop) {
  WriteOriginal("a");
  News();
  ASSERT_OK(catalog().SaveCheckpoint());
  catalog().Announce(Project("a"));
  const core::ResumePoint announced = Here();
  StopCleanly();
  files.Reopen();
  EXPECT_THAT(Resumed(announced).value(), IsEmpty());
}

TEST_P(ChangesByHand, AfterACrashOnlyWhatTheCheckpointHasIsKnown) {
  WriteOriginal("a");
  News();
  ASSERT_OK(catalog().SaveCheckpoint());
  const core::ResumePoint saved = Here();
  WriteOriginal("b");
  News();
  const core::ResumePoint lost = Here();
  files.Close();
  files.Reopen();
  EXPECT_THAT(Resumed(saved).value(), ElementsAre("created b"));
  EXPECT_THAT(Resumed(lost), kExpired);
}

TEST_P(ChangesByHand, WithoutAGoodCheckpointPositionsExpire) {
  WriteOriginal("a");
  News();
  const core::ResumePoint here = Here();
  StopCleanly();
  const std::string checkpoint = base().ReadFile(".workspaced/checkpoint");
  for (size_t i = 0; i < checkpoint.size(); i += 7) {
    std::string damaged = checkpoint;
    damaged[i] ^= 1;
    base().WriteFile(".workspaced/checkpoint", damaged);
    files.Reopen();
    const auto resumed = Resumed(here);
    EXPECT_THAT(resumed, kExpired) << i;
    files.Close();
  }
  base().Remove(".workspaced/checkpoint");
  files.Reopen();
  EXPECT_THAT(Resumed(here), kExpired);
}

TEST_P(ChangesByHand, ACopyOfTheBaseDoesNotContinueItsHistory) {
  WriteOriginal("a");
  News();
  const core::ResumePoint here = Here();
  StopCleanly();
  const support::TempDir elsewhere;
  std::filesystem::copy(base().path(), elsewhere.Path("copy"),
                        std::filesystem::copy_options::recursive);
  files.ReopenAt(elsewhere.Path("copy"));
  EXPECT_THAT(Resumed(here), kExpired);
}

TEST_P(ChangesByHand, ACopyAtTheSamePathSharesOnlyWhatBothKnow) {
  WriteOriginal("a");
  News();
  const core::ResumePoint common = Here();
  StopCleanly();
  const support::TempDir elsewhere;
  std::filesystem::copy(base().path(), elsewhere.Path("copy"),
                        std::filesystem::copy_options::recursive);
  files.Reopen();
  cursor = files.changes().last();
  WriteOriginal("b");
  EXPECT_THAT(News(), ElementsAre("created b"));
  const core::ResumePoint original = Here();
  StopCleanly();
  for (const auto& entry : std::filesystem::directory_iterator(base().path()))
    std::filesystem::remove_all(entry);
  std::filesystem::copy(elsewhere.Path("copy"), base().path(),
                        std::filesystem::copy_options::recursive);
  WriteOriginal("c");
  files.Reopen();
  EXPECT_THAT(Resumed(common).value(), ElementsAre("created c"));
  EXPECT_THAT(Resumed(original), kExpired);
}

INSTANTIATE_TEST_SUITE_P(Calls, ChangesByHand, testing::Bool(), CallsName);

}  // namespace
}  // namespace mlops::catalog
