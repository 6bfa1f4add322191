// Tests the server's own directories: deleted workspaces, leftovers,
// and the checkpoint.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <optional>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "proto/cpp/base/error.h"
#include "service/core/iso_time.h"
#include "service/core/layout.h"
#include "service/core/workspace_yaml.h"
#include "tests/catalog/harness.h"
#include "tests/support/matchers.h"
#include "tests/support/workspaces.h"

namespace mlops::catalog {
namespace {

using absl::StatusCode;
using core::DeleteChange;
using core::PurgeChange;
using core::UndeleteChange;
using core::WorkspacePtr;
using support::HasMessage;
using support::IsError;
using support::OriginalRecord;
using support::Project;
using testing::AllOf;
using testing::Contains;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Le;
using testing::Not;
using testing::SizeIs;
using testing::StartsWith;

constexpr char kCheckpoint[] = ".workspaced/checkpoint";

class ServerDirs : public FileCatalogTest {
 protected:
  // Creates and deletes a workspace with `file_count` files of 10
  // bytes in models/.
  WorkspacePtr MakeDeleted(absl::string_view name, int file_count = 3) {
    Create(name);
    for (int i = 0; i < file_count; ++i)
      base().WriteFile(absl::StrCat(name, "/models/", i), "0123456789");
    return catalog()
        .Commit(DeleteChange{.project = Project(name)})
        .value()
        .workspace;
  }
  std::vector<std::string> NamesIn(absl::string_view directory) {
    std::vector<std::string> names;
    for (const auto& entry :
         std::filesystem::directory_iterator(base().Path(directory))) {
      names.push_back(entry.path().filename());
    }
    return names;
  }
  // Returns the name of the project's only entry in the trash.
  std::string TrashNameOf(absl::string_view project) {
    for (const std::string& name : NamesIn(".trash")) {
      if (absl::EndsWith(name, absl::StrCat(".", project))) return name;
    }
    return "";
  }
  // Sweeps in steps of `max_entries` until nothing is left to do.
  // Returns the number of entries that each step removed.
  std::vector<int> SweepInSteps(int64_t max_entries) {
    std::vector<int> removed;
    for (bool more = true; more;) {
      files.observer().Take();
      more = catalog().SweepTrash(max_entries).value();
      int count = 0;
      for (const std::string& call : files.observer().Take())
        count += absl::StartsWith(call, "Remove") ? 1 : 0;
      removed.push_back(count);
    }
    return removed;
  }
  int CountReads() {
    int reads = 0;
    for (const std::string& call : files.observer().Take())
      reads += absl::EndsWith(call, "/workspace.yaml") &&
                       absl::StartsWith(call, "ReadFile")
                   ? 1
                   : 0;
    return reads;
  }
  // Saves a checkpoint of five workspaces whose stamps are trusted.
  void MakeCheckpoint() {
    for (const char* name : {"a", "b", "c", "d", "e"}) Create(name);
    files.clock.Advance(absl::Seconds(5));
    files.Reopen();
    ASSERT_OK(catalog().SaveCheckpoint());
  }
};

// --- Staging ---

TEST_P(ServerDirs, LeftoversOfStagingGoAtOpen) {
  base().WriteFile(".staging/0123/workspace.yaml",
                   OriginalRecord("fraud", "/x"));
  base().MakeDirs(".staging/0123/models/deep/er");
  base().WriteFile(".staging/file", "");
  files.Reopen();
  EXPECT_THAT(NamesIn(".staging"), IsEmpty());
  EXPECT_THAT(Listed(true), IsEmpty());
}

TEST_P(ServerDirs, LeftoversOfARecordGoWithTheNextReplace) {
  core::Workspace next = *Create("fraud");
  base().WriteFile("fraud/.workspace.yaml.0123", "half a rec");
  next.metadata["owner"] = "bob";
  ASSERT_OK(catalog().Commit(
      core::ReplaceChange{.workspace = next, .expected_etag = next.etag}));
  EXPECT_THAT(NamesIn("fraud"), Not(Contains(StartsWith("."))));
}

// --- Trash ---

TEST_P(ServerDirs, FilesComeBackWithAnUndelete) {
  MakeDeleted("fraud");
  ASSERT_OK(catalog().Commit(UndeleteChange{.project = Project("fraud")}));
  EXPECT_EQ(base().ReadFile("fraud/models/2"), "0123456789");
  EXPECT_THAT(NamesIn(".trash"), IsEmpty());
}

TEST_P(ServerDirs, UndeletePutsNothingIntoADirectoryOfThatName) {
  MakeDeleted("fraud");
  base().WriteFile("fraud/notes.txt", "mine");
  EXPECT_THAT(catalog().Commit(UndeleteChange{.project = Project("fraud")}),
              IsError(StatusCode::kAlreadyExists, "WORKSPACE_EXISTS"));
  EXPECT_THAT(NamesIn("fraud"), ElementsAre("notes.txt"));
  base().Remove("fraud");
  EXPECT_OK(catalog().Commit(UndeleteChange{.project = Project("fraud")}));
}

TEST_P(ServerDirs, PurgeTellsWhatItFreed) {
  const WorkspacePtr deleted = MakeDeleted("fraud", 7);
  const int64_t record_bytes = static_cast<int64_t>(std::filesystem::file_size(
      base().Path(".trash/" + NamesIn(".trash")[0] + "/workspace.yaml")));
  const auto purged =
      catalog()
          .Commit(PurgeChange{.project = Project("fraud"), .uid = deleted->uid})
          .value();
  EXPECT_EQ(purged.file_count, 8);
  EXPECT_EQ(purged.size_bytes, 70 + record_bytes);
  EXPECT_THAT(NamesIn(".trash"), IsEmpty());
}

TEST_P(ServerDirs, APurgeThatFailsHalfwayIsFinishedByTheSweeper) {
  const WorkspacePtr deleted = MakeDeleted("fraud");
  files.observer().SetBefore([](absl::string_view call) {
    return absl::EndsWith(call, "/models/1") ? absl::InternalError("stuck")
                                             : absl::OkStatus();
  });
  EXPECT_FALSE(
      catalog()
          .Commit(PurgeChange{.project = Project("fraud"), .uid = deleted->uid})
          .ok());
  EXPECT_THAT(Listed(true), IsEmpty());
  files.observer().SetBefore(nullptr);
  SweepInSteps(100);
  EXPECT_THAT(NamesIn(".trash"), IsEmpty());
}

TEST_P(ServerDirs, NothingIsSweptBeforeItsTime) {
  MakeDeleted("fraud");
  files.clock.Advance(absl::Hours(72) - absl::Minutes(1));
  EXPECT_THAT(SweepInSteps(100), ElementsAre(0));
  EXPECT_OK(catalog().Commit(UndeleteChange{.project = Project("fraud")}));
}

TEST_P(ServerDirs, TheOldestCanBePurgedEarly) {
  MakeDeleted("b");
  MakeDeleted("a");
  MakeDeleted("c");
  EXPECT_EQ(catalog().PurgeOldest().value()->project.str(), "b");
  EXPECT_EQ(catalog().counts().removing, 1);
  EXPECT_THAT(catalog().Commit(UndeleteChange{.project = Project("b")}),
              IsError(StatusCode::kNotFound, "WORKSPACE_NOT_FOUND"));
  EXPECT_FALSE(catalog().SweepTrash(1000).value());
  EXPECT_THAT(NamesIn(".trash"), SizeIs(2));
  EXPECT_EQ(catalog().PurgeOldest().value()->project.str(), "a");
  EXPECT_EQ(catalog().PurgeOldest().value()->project.str(), "c");
  EXPECT_EQ(catalog().PurgeOldest().value(), nullptr);
}

TEST_P(ServerDirs, TheTrashIsSweptInBoundedSteps) {
  for (const char* name : {"a", "b", "c"}) MakeDeleted(name, 10);
  files.clock.Advance(absl::Hours(73));
  MakeDeleted("fresh");
  const std::vector<int> steps = SweepInSteps(4);
  // 17 entries each, at most 4 per step.
  EXPECT_THAT(steps, AllOf(Each(Le(4)), SizeIs(testing::Ge(12))));
  EXPECT_THAT(Listed(true), ElementsAre("fresh"));
  EXPECT_THAT(NamesIn(".trash"), SizeIs(1));
}

TEST_P(ServerDirs, WhatIsBeingSweptCannotBeRestored) {
  const WorkspacePtr deleted = MakeDeleted("fraud", 10);
  files.clock.Advance(absl::Hours(73));
  EXPECT_TRUE(catalog().SweepTrash(4).value());
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(catalog().Commit(UndeleteChange{.project = Project("fraud"),
                                                .uid = deleted->uid}),
                IsError(StatusCode::kNotFound, "WORKSPACE_NOT_FOUND"));
    EXPECT_THAT(Listed(true), IsEmpty());
    files.Reopen();
  }
}

TEST_P(ServerDirs, ASweepMakesItsClaimDurableBeforeItRemovesAnything) {
  MakeDeleted("fraud");
  files.clock.Advance(absl::Hours(73));
  files.observer().Take();
  ASSERT_OK(catalog().SweepTrash(100));
  const std::vector<std::string> calls = files.observer().Take();
  ASSERT_GE(calls.size(), 3);
  EXPECT_THAT(calls[0], StartsWith("Rename .trash/"));
  EXPECT_EQ(calls[1], "Sync .trash");
}

TEST_P(ServerDirs, ASweepGoesOnAfterARestart) {
  for (const char* name : {"a", "b"}) MakeDeleted(name, 10);
  files.clock.Advance(absl::Hours(73));
  EXPECT_TRUE(catalog().SweepTrash(4).value());
  files.Reopen();
  SweepInSteps(100);
  EXPECT_THAT(NamesIn(".trash"), IsEmpty());
}

TEST_P(ServerDirs, APurgeDelayOfZeroSweepsAtOnce) {
  files.purge_delay = absl::ZeroDuration();
  files.Reopen();
  const WorkspacePtr deleted = MakeDeleted("fraud");
  EXPECT_EQ(deleted->purge_time, deleted->delete_time);
  SweepInSteps(100);
  EXPECT_THAT(NamesIn(".trash"), IsEmpty());
  EXPECT_THAT(Listed(true), IsEmpty());
}

TEST_P(ServerDirs, APromisedPurgeTimeHoldsWhateverTheDelayOfALaterRun) {
  const WorkspacePtr deleted = MakeDeleted("fraud");
  MakeDeleted("corrupt");
  base().WriteFile(".trash/" + TrashNameOf("corrupt") + "/workspace.yaml",
                   "- no map");
  files.purge_delay = absl::Hours(1);
  files.Reopen();
  const auto listed = catalog().List({.show_deleted = true}).value().workspaces;
  ASSERT_THAT(listed, SizeIs(2));
  for (const WorkspacePtr& workspace : listed) {
    EXPECT_EQ(*workspace->purge_time - *workspace->delete_time,
              absl::Hours(72));
  }
  files.clock.Advance(absl::Hours(71));
  SweepInSteps(100);
  EXPECT_THAT(Listed(true), ElementsAre("corrupt", "fraud"));
  files.clock.Advance(absl::Hours(2));
  SweepInSteps(100);
  EXPECT_THAT(Listed(true), IsEmpty());
}

TEST_P(ServerDirs, NamesWithoutAPurgeTimeAreOfTheDelayOfThisRun) {
  const absl::Time time = core::WholeMicros(files.clock.Now());
  const std::string name =
      absl::StrCat(absl::ToUnixMicros(time), ".uid-1.fraud");
  base().WriteFile(absl::StrCat(".trash/", name, "/workspace.yaml"),
                   OriginalRecord("fraud", base().Path("fraud")));
  files.Reopen();
  const auto listed = catalog().List({.show_deleted = true}).value().workspaces;
  ASSERT_THAT(listed, SizeIs(1));
  EXPECT_EQ(listed[0]->delete_time, time);
  EXPECT_EQ(listed[0]->purge_time, time + absl::Hours(72));
  EXPECT_EQ(listed[0]->root_path, base().Path(absl::StrCat(".trash/", name)));
  EXPECT_OK(catalog().Commit(
      UndeleteChange{.project = Project("fraud"), .uid = "uid-1"}));
}

TEST_P(ServerDirs, AClockThatIsAheadForAMomentPurgesNothing) {
  MakeDeleted("old");
  files.Reopen();
  MakeDeleted("new");
  files.clock.Advance(absl::Minutes(5));
  SweepInSteps(100);
  files.clock.StepWallClock(absl::Hours(80));
  for (int i = 0; i < 8; ++i) {
    SweepInSteps(100);
    files.clock.Advance(absl::Milliseconds(200));
  }
  files.clock.StepWallClock(-absl::Hours(80));
  files.clock.Advance(absl::Minutes(5));
  SweepInSteps(100);
  EXPECT_THAT(Listed(true), ElementsAre("new", "old"));
}

TEST_P(ServerDirs,
       WhatThisRunDeletedStaysForTheWholeDelayWhateverTheClockSays) {
  MakeDeleted("fraud");
  files.clock.StepWallClock(absl::Hours(24 * 365));
  files.clock.Advance(absl::Hours(71));
  SweepInSteps(100);
  EXPECT_THAT(Listed(true), ElementsAre("fraud"));
  files.clock.Advance(absl::Hours(2));
  SweepInSteps(100);
  EXPECT_THAT(Listed(true), IsEmpty());
}

TEST_P(ServerDirs, ARestartDoesNotMakeTheTrashLiveLonger) {
  MakeDeleted("fraud");
  files.clock.Advance(absl::Hours(73));
  files.Reopen();
  SweepInSteps(100);
  EXPECT_THAT(Listed(true), ElementsAre("fraud"));
  files.clock.Advance(PurgeGate::kConfirmation);
  SweepInSteps(100);
  EXPECT_THAT(Listed(true), IsEmpty());
}

TEST_P(ServerDirs, UndeleteRestoresTheLastDeletionThoughTheClockWasSetBack) {
  const WorkspacePtr first = MakeDeleted("fraud");
  files.clock.StepWallClock(-absl::Hours(1));
  base().MakeDirs("fraud");
  MakeDeleted("fraud");
  files.Reopen();
  ASSERT_OK(catalog().Commit(UndeleteChange{.project = Project("fraud")}));
  std::vector<std::optional<absl::Time>> left;
  const core::ListPage page =
      catalog().List({.page_size = 10, .show_deleted = true}).value();
  for (const WorkspacePtr& workspace : page.workspaces) {
    if (workspace->delete_time) left.push_back(workspace->delete_time);
  }
  EXPECT_THAT(left, ElementsAre(first->delete_time));
}

TEST_P(ServerDirs, APurgeThatNobodyWaitsForIsFinishedByTheSweeper) {
  const WorkspacePtr deleted = MakeDeleted("fraud");
  const auto cancelled = [] { return true; };
  EXPECT_THAT(catalog().Commit(PurgeChange{.project = Project("fraud"),
                                           .uid = deleted->uid,
                                           .cancelled = cancelled}),
              IsError(StatusCode::kCancelled, ""));
  EXPECT_THAT(Listed(true), IsEmpty());
  EXPECT_THAT(NamesIn(".trash"), SizeIs(1));
  SweepInSteps(100);
  EXPECT_THAT(NamesIn(".trash"), IsEmpty());
}

TEST_P(ServerDirs, WhatIsNotInTheTrashIsToldWithItsDelay) {
  const auto result = catalog().Commit(
      UndeleteChange{.project = Project("fraud"), .uid = "abc"});
  EXPECT_THAT(result, IsError(StatusCode::kNotFound, "WORKSPACE_NOT_FOUND"));
  EXPECT_THAT(std::string(result.status().message()),
              AllOf(HasSubstr("trash"), HasSubstr("72h"), HasSubstr("abc")));
}

TEST_P(ServerDirs, OneThatCannotBeSweptDoesNotHoldUpTheOthers) {
  MakeDeleted("a");
  MakeDeleted("b");
  files.clock.Advance(absl::Hours(73));
  files.observer().SetBefore([](absl::string_view call) {
    return absl::StartsWith(call, "Remove") && absl::StrContains(call, ".a/")
               ? absl::InternalError("stuck")
               : absl::OkStatus();
  });
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(catalog().SweepTrash(100).ok());
  EXPECT_THAT(NamesIn(".trash"), ElementsAre(testing::EndsWith(".a")));
  files.observer().SetBefore(nullptr);
  SweepInSteps(100);
  EXPECT_THAT(NamesIn(".trash"), IsEmpty());
}

TEST_P(ServerDirs, ATrashEmptiedByHandIsNotFound) {
  const WorkspacePtr deleted = MakeDeleted("fraud");
  base().Remove(".trash/" + NamesIn(".trash")[0]);
  EXPECT_THAT(catalog().Commit(UndeleteChange{.project = Project("fraud")}),
              IsError(StatusCode::kNotFound, "WORKSPACE_NOT_FOUND"));
  EXPECT_THAT(Listed(true), IsEmpty());
}

TEST_P(ServerDirs, ADirectoryWithoutItsRecordStaysInTheTrash) {
  MakeDeleted("fraud");
  const std::string trash_name = TrashNameOf("fraud");
  const std::string record =
      absl::StrCat(".trash/", trash_name, "/workspace.yaml");
  const std::string text = base().ReadFile(record);
  base().Remove(record);
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(catalog().Commit(UndeleteChange{.project = Project("fraud")}),
                AllOf(IsError(StatusCode::kDataLoss, "WORKSPACE_CORRUPT"),
                      HasMessage(HasSubstr(record))));
    EXPECT_THAT(NamesIn(".trash"), ElementsAre(trash_name));
    files.Reopen();
  }
  base().WriteFile(record, text);
  EXPECT_TRUE(
      catalog().Commit(UndeleteChange{.project = Project("fraud")}).ok());
}

TEST_P(ServerDirs, StrangeThingsInTheTrashAreLeftAlone) {
  for (const char* name : {"notes.txt", "1.2", "x.uid.fraud", "-5.uid.fraud",
                           "5..fraud", "5.uid..hidden", "5-.uid.fraud",
                           "5-x.uid.fraud", "9999999999999999999.uid.fraud"}) {
    base().WriteFile(absl::StrCat(".trash/", name), "mine");
  }
  files.Reopen();
  files.clock.Advance(absl::Hours(1000));
  SweepInSteps(100);
  EXPECT_THAT(NamesIn(".trash"), SizeIs(9));
  EXPECT_THAT(Listed(true), IsEmpty());
}

// --- Checkpoint ---

TEST_P(ServerDirs, ASecondOpenReadsNoUnchangedRecord) {
  MakeCheckpoint();
  const auto before = catalog().List({}).value().workspaces;
  files.observer().Take();
  files.Reopen();
  EXPECT_EQ(CountReads(), 0);
  const auto after = catalog().List({}).value().workspaces;
  ASSERT_THAT(after, SizeIs(5));
  for (size_t i = 0; i < after.size(); ++i) {
    EXPECT_EQ(core::EncodeWorkspace(*after[i]),
              core::EncodeWorkspace(*before[i]));
    EXPECT_EQ(after[i]->etag, before[i]->etag);
  }
}

TEST_P(ServerDirs, AnOpenWithACheckpointReadsWhatChangedSince) {
  MakeCheckpoint();
  files.Close();
  base().WriteFile("b/workspace.yaml",
                   OriginalRecord("b", base().Path("b"), "edited"));
  base().WriteFile("new/workspace.yaml",
                   OriginalRecord("new", base().Path("new")));
  base().Remove("c");
  base().Remove("d/workspace.yaml");
  files.observer().Take();
  files.Reopen();
  // The records of b, d and new.
  EXPECT_EQ(CountReads(), 3);
  EXPECT_THAT(Listed(), ElementsAre("a", "b", "e", "new"));
  EXPECT_EQ(catalog().List({}).value().workspaces[1]->metadata["note"],
            "edited");
}

TEST_P(ServerDirs, AnEditRightAfterTheCheckpointIsSeenByTheNextOpen) {
  Create("fraud");
  base().WriteFile("fraud/workspace.yaml",
                   OriginalRecord("fraud", base().Path("fraud"), "edit-1"));
  ASSERT_OK(Get("fraud"));
  ASSERT_OK(catalog().SaveCheckpoint());
  files.Close();
  base().WriteFile("fraud/workspace.yaml",
                   OriginalRecord("fraud", base().Path("fraud"), "edit-2"));
  files.Reopen();
  EXPECT_EQ(catalog().List({}).value().workspaces[0]->metadata["note"],
            "edit-2");
}

TEST_P(ServerDirs, ADamagedCheckpointIsIgnored) {
  MakeCheckpoint();
  const std::string good = base().ReadFile(kCheckpoint);
  std::vector<std::string> damaged = {"",
                                      "x",
                                      good.substr(0, good.size() / 2),
                                      good.substr(0, good.size() - 1),
                                      good + "x",
                                      std::string(good.size(), '\0')};
  for (size_t i = 0; i < good.size(); i += good.size() / 20) {
    damaged.push_back(good);
    damaged.back()[i] ^= 0x10;
  }
  for (const std::string& bytes : damaged) {
    base().WriteFile(kCheckpoint, bytes);
    files.observer().Take();
    files.Reopen();
    EXPECT_EQ(CountReads(), 5);
    EXPECT_THAT(Listed(), ElementsAre("a", "b", "c", "d", "e"));
  }
}

TEST_P(ServerDirs, ACheckpointOfAnotherKindOfFileIsIgnored) {
  MakeCheckpoint();
  base().Remove(kCheckpoint);
  base().MakeDirs(kCheckpoint);
  files.Reopen();
  EXPECT_THAT(Listed(), SizeIs(5));
}

TEST_P(ServerDirs, ACheckpointIsWrittenOnlyIfSomethingChanged) {
  MakeCheckpoint();
  files.observer().Take();
  ASSERT_OK(catalog().SaveCheckpoint());
  EXPECT_THAT(files.observer().Take(), IsEmpty());
  ASSERT_OK(catalog().Commit(DeleteChange{.project = Project("a")}));
  files.observer().Take();
  ASSERT_OK(catalog().SaveCheckpoint());
  EXPECT_THAT(files.observer().Take(), Not(IsEmpty()));
}

// --- Deleting without room ---

// Refuses, for lack of space, the calls that begin with one of `calls`.
support::DirObserver::BeforeHook Full(std::vector<std::string> calls) {
  return [calls = std::move(calls)](absl::string_view call) {
    for (const std::string& prefix : calls) {
      if (absl::StartsWith(call, prefix)) {
        return base::MakeError(StatusCode::kResourceExhausted, "full",
                               {.reason = "NO_SPACE"});
      }
    }
    return absl::OkStatus();
  };
}

// A catalog whose disk has no room for the trash.
class FullDisk : public ServerDirs {
 protected:
  void SetUp() override {
    Create("churn");
    uid_ = Create("fraud")->uid;
    base().WriteFile("fraud/models/m", "0123456789");
  }
  // Fills the disk while the directory `name` of the server does not exist.
  void ReopenWithout(const std::string& name) {
    files.Close();
    std::filesystem::remove_all(base().Path(name));
    files.observer().SetBefore(Full({"MakeDir " + name}));
    files.Reopen();
  }
  absl::Status Delete(bool permanent) {
    return catalog()
        .Commit(
            DeleteChange{.project = Project("fraud"), .permanent = permanent})
        .status();
  }
  absl::StatusOr<core::CommitResult> Purge() {
    return catalog().Commit(
        PurgeChange{.project = Project("fraud"), .uid = uid_});
  }
  std::vector<std::string> HiddenNames() {
    std::vector<std::string> names;
    for (std::string& name : NamesIn("")) {
      if (core::layout::IsHiddenName(name)) names.push_back(std::move(name));
    }
    return names;
  }

  std::string uid_;
};

TEST_P(FullDisk, WithoutATrashOnlyAPermanentDeletionSucceeds) {
  ReopenWithout(".trash");
  const absl::Status refused = Delete(/*permanent=*/false);
  EXPECT_THAT(refused, IsError(StatusCode::kResourceExhausted, "NO_SPACE"));
  EXPECT_THAT(refused, HasMessage(HasSubstr("permanent")));
  EXPECT_OK(Get("fraud"));
  ASSERT_OK(Delete(/*permanent=*/true));
  EXPECT_THAT(Get("fraud"),
              IsError(StatusCode::kNotFound, "WORKSPACE_NOT_FOUND"));
  EXPECT_EQ(Purge().value().file_count, 2);
  EXPECT_THAT(HiddenNames(), IsEmpty());
  EXPECT_THAT(Listed(true), ElementsAre("churn"));
}

TEST_P(FullDisk, ATrashThatCannotGrowIsBypassed) {
  files.observer().SetBefore(Full({"Rename fraud .trash/"}));
  EXPECT_THAT(Delete(/*permanent=*/false), HasMessage(HasSubstr("permanent")));
  ASSERT_OK(Delete(/*permanent=*/true));
  EXPECT_EQ(Purge().value().file_count, 2);
  EXPECT_THAT(HiddenNames(), IsEmpty());
}

TEST_P(FullDisk, ADeletionThatACrashCutsOffIsFinishedAfterARestart) {
  base().MakeDirs(".trash.mine");
  ReopenWithout(".trash");
  ASSERT_OK(Delete(/*permanent=*/true));
  EXPECT_THAT(HiddenNames(), SizeIs(1));
  files.Reopen();
  EXPECT_THAT(Listed(true), ElementsAre("churn"));
  EXPECT_THAT(Purge(), IsError(StatusCode::kNotFound, "WORKSPACE_NOT_FOUND"));
  SweepInSteps(3);
  EXPECT_THAT(HiddenNames(), IsEmpty());
  EXPECT_THAT(NamesIn(""), Contains(".trash.mine"));
}

TEST_P(FullDisk, WhatIsDeletedPermanentlyCannotBeRestored) {
  ReopenWithout(".trash");
  ASSERT_OK(Delete(/*permanent=*/true));
  EXPECT_THAT(catalog().Commit(UndeleteChange{.project = Project("fraud")}),
              IsError(StatusCode::kNotFound, "WORKSPACE_NOT_FOUND"));
  EXPECT_OK(Purge());
}

TEST_P(FullDisk, WhereNoRenameSucceedsFilesGoTheRecordFirst) {
  files.observer().SetBefore([&](absl::string_view call) {
    const bool full = absl::StartsWith(call, "Rename fraud ") &&
                      base().Exists("fraud/models/m");
    return full ? base::MakeError(StatusCode::kResourceExhausted, "full",
                                  {.reason = "NO_SPACE"})
                : absl::OkStatus();
  });
  EXPECT_THAT(Delete(/*permanent=*/false),
              IsError(StatusCode::kResourceExhausted, "NO_SPACE"));
  EXPECT_OK(Get("fraud"));
  files.observer().Take();
  ASSERT_OK(Delete(/*permanent=*/true));
  std::vector<std::string> calls = files.observer().Take();
  std::erase_if(calls, [](const std::string& call) {
    return !absl::StartsWith(call, "Remove") && !absl::StartsWith(call, "Sync");
  });
  ASSERT_GE(calls.size(), 3);
  EXPECT_EQ(calls[0], "RemoveFile fraud/workspace.yaml");
  EXPECT_EQ(calls[1], "Sync fraud");
  EXPECT_EQ(Purge().value().file_count, 2);
  EXPECT_THAT(HiddenNames(), IsEmpty());
  EXPECT_THAT(Listed(true), ElementsAre("churn"));
}

TEST_P(FullDisk, APurgeNeedsNoStagingDirectory) {
  ASSERT_OK(Delete(/*permanent=*/false));
  ReopenWithout(".staging");
  EXPECT_OK(Purge());
  EXPECT_THAT(NamesIn(".trash"), IsEmpty());
}

TEST_P(FullDisk, ADeletionWaitsForItsPurgeTime) {
  ReopenWithout(".trash");
  ASSERT_OK(Delete(/*permanent=*/true));
  SweepInSteps(100);
  EXPECT_THAT(HiddenNames(), SizeIs(1));
  files.clock.Advance(absl::Hours(73));
  SweepInSteps(100);
  EXPECT_THAT(HiddenNames(), IsEmpty());
  EXPECT_THAT(Listed(true), ElementsAre("churn"));
}

INSTANTIATE_TEST_SUITE_P(Calls, ServerDirs, testing::Bool(), CallsName);
INSTANTIATE_TEST_SUITE_P(Calls, FullDisk, testing::Bool(), CallsName);

}  // namespace
}  // namespace mlops::catalog
