// The directory is the database: tests workspaces created, edited
// and removed by hand.
#include "service/catalog/file_catalog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "service/core/authority.h"
#include "service/core/workspace_yaml.h"
#include "tests/catalog/harness.h"
#include "tests/support/matchers.h"
#include "tests/support/workspaces.h"

namespace mlops::catalog {
namespace {

using absl::StatusCode;
using core::CreateChange;
using core::DeleteChange;
using core::ReplaceChange;
using core::Workspace;
using core::WorkspacePtr;
using support::HasDetail;
using support::IsError;
using support::NewWorkspace;
using support::OriginalRecord;
using support::Project;
using testing::AllOf;
using testing::Contains;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

constexpr char kRecord[] = "fraud/workspace.yaml";

class HandMade : public FileCatalogTest {
 protected:
  void WriteOriginal(absl::string_view name, absl::string_view note = "hello") {
    base().WriteFile(
        absl::StrCat(name, "/workspace.yaml"),
        OriginalRecord(name, absl::StrCat(base().path(), "/", name), note));
  }
  // Waits until stamps are trusted.
  void Settle(absl::string_view name) {
    files.clock.Advance(absl::Seconds(5));
    ASSERT_OK(Get(name));
  }
};

// --- Made and edited by hand ---

TEST_P(HandMade, AWorkspaceIsInGetAtOnceAndInListAfterARefresh) {
  WriteOriginal("fraud");
  EXPECT_EQ(Get("fraud").value()->metadata["note"], "hello");
  WriteOriginal("churn");
  ASSERT_OK(catalog().RefreshNames());
  EXPECT_THAT(Listed(), ElementsAre("churn", "fraud"));
  files.Reopen();
  EXPECT_THAT(Listed(), ElementsAre("churn", "fraud"));
}

TEST_P(HandMade, ARecordOfTheOriginalIsReadWithAllItsFields) {
  WriteOriginal("fraud");
  const WorkspacePtr read = Get("fraud").value();
  EXPECT_EQ(read->root_path, base().Path("fraud"));
  EXPECT_EQ(read->settings.mlflow_experiment_id, std::nullopt);
  EXPECT_EQ(read->settings.mlflow_tracking_uri, base().Path("fraud/mlflow"));
  EXPECT_EQ(read->settings.bentoml_tag_prefix, "fraud:");
  EXPECT_EQ(read->create_time, absl::FromUnixMicros(1709634030123456));
  EXPECT_EQ(read->update_time, absl::FromUnixMicros(1709724091654321));
  EXPECT_EQ(Get("fraud").value()->uid, read->uid);
}

TEST_P(HandMade, AnEditIsSeenByTheNextGetHoweverFastItFollows) {
  WriteOriginal("fraud", "note-0");
  for (int i = 1; i < 50; ++i) {
    const std::string etag = Get("fraud").value()->etag;
    // The edit has the same size and mostly falls within one tick of the clock.
    WriteOriginal("fraud", absl::StrCat("note-", i % 10));
    EXPECT_EQ(Get("fraud").value()->metadata["note"],
              absl::StrCat("note-", i % 10));
    EXPECT_NE(Get("fraud").value()->etag, etag);
  }
}

TEST_P(HandMade, AnEditIsSeenByListAfterARefresh) {
  Create("fraud");
  Settle("fraud");
  WriteOriginal("fraud", "edited");
  catalog().RefreshRecord(Project("fraud"));
  EXPECT_EQ(catalog().List({}).value().workspaces[0]->metadata["note"],
            "edited");
}

TEST_P(HandMade, ARemovedWorkspaceIsGone) {
  Create("fraud");
  Create("churn");
  Settle("fraud");
  base().Remove("fraud");
  EXPECT_THAT(Get("fraud"),
              IsError(StatusCode::kNotFound, "WORKSPACE_NOT_FOUND"));
  EXPECT_THAT(Listed(), ElementsAre("churn"));
  base().Remove("churn");
  ASSERT_OK(catalog().RefreshNames());
  EXPECT_THAT(Listed(), IsEmpty());
}

TEST_P(HandMade, ARemovedRecordMakesItNoWorkspace) {
  Create("fraud");
  Settle("fraud");
  base().Remove(kRecord);
  EXPECT_THAT(Get("fraud"),
              IsError(StatusCode::kNotFound, "WORKSPACE_NOT_FOUND"));
  EXPECT_THAT(Listed(), IsEmpty());
  EXPECT_THAT(Unreachable(), IsEmpty());
}

TEST_P(HandMade, ACopyIsAWorkspaceOfItsOwn) {
  const WorkspacePtr fraud = Create("fraud");
  base().Copy("fraud", "copy");
  const WorkspacePtr copy = Get("copy").value();
  EXPECT_NE(copy->uid, fraud->uid);
  EXPECT_EQ(copy->root_path, base().Path("copy"));
  EXPECT_EQ(copy->settings,
            core::DefaultSettings(Project("copy"), base().Path("copy")));
  EXPECT_EQ(copy->metadata, fraud->metadata);
  EXPECT_EQ(Get("fraud").value()->uid, fraud->uid);
  files.Reopen();
  EXPECT_EQ(Get("copy").value()->uid, copy->uid);
}

TEST_P(HandMade, ACopyKeepsItsUidWhenItIsUpdated) {
  Create("fraud");
  base().Copy("fraud", "copy");
  Workspace copy = *Get("copy").value();
  const std::string uid = copy.uid;
  copy.metadata["owner"] = "bob";
  ASSERT_OK(catalog().Commit(
      ReplaceChange{.workspace = copy, .expected_etag = copy.etag}));
  files.Reopen();
  EXPECT_EQ(Get("copy").value()->uid, uid);
  EXPECT_THAT(base().ReadFile("copy/workspace.yaml"),
              HasSubstr("project_name: copy\n"));
}

TEST_P(HandMade, AMovedBaseWorksAndItsRealPathWins) {
  Create("fraud");
  ASSERT_OK(catalog().SaveCheckpoint());
  const support::TempDir other;
  files.Close();
  std::filesystem::rename(base().path(), other.Path("moved"));
  files.ReopenAt(other.Path("moved"));
  const WorkspacePtr read = Get("fraud").value();
  EXPECT_EQ(read->root_path, other.Path("moved/fraud"));
  EXPECT_EQ(read->settings,
            core::DefaultSettings(Project("fraud"), other.Path("moved/fraud")));
}

TEST_P(HandMade, UnknownKeysSurviveAReplace) {
  WriteOriginal("fraud");
  base().WriteFile(kRecord,
                   absl::StrCat(base().ReadFile(kRecord),
                                "team:\n  lead: 'ana'\n  since: 2024-01-31\n"));
  Workspace next = *Get("fraud").value();
  next.metadata["owner"] = "bob";
  ASSERT_OK(catalog().Commit(
      ReplaceChange{.workspace = next, .expected_etag = next.etag}));
  EXPECT_THAT(base().ReadFile(kRecord),
              AllOf(HasSubstr("team:\n  lead: \"ana\"\n  since: 2024-01-31\n"),
                    HasSubstr("  owner: bob\n")));
}

// --- Entries that are not workspaces ---

TEST_P(HandMade, ADirectoryWithoutARecordIsNoWorkspace) {
  base().MakeDirs("notes/mlflow");
  EXPECT_THAT(Get("notes"),
              IsError(StatusCode::kNotFound, "WORKSPACE_NOT_FOUND"));
  ASSERT_OK(catalog().RefreshNames());
  files.Reopen();
  EXPECT_THAT(Listed(), IsEmpty());
  EXPECT_THAT(Unreachable(), IsEmpty());
  EXPECT_THAT(catalog().Commit(DeleteChange{.project = Project("notes")}),
              IsError(StatusCode::kNotFound, "WORKSPACE_NOT_FOUND"));
}

TEST_P(HandMade, CreateAdoptsADirectoryWithAllItsFiles) {
  base().WriteFile("fraud/models/old.bin", "weights");
  base().WriteFile("fraud/notes.txt", "mine");
  Create("fraud");
  EXPECT_EQ(base().ReadFile("fraud/models/old.bin"), "weights");
  EXPECT_EQ(base().ReadFile("fraud/notes.txt"), "mine");
  for (const absl::string_view name : core::kDirectories)
    EXPECT_TRUE(base().Exists(absl::StrCat("fraud/", name)));
  EXPECT_TRUE(std::filesystem::is_empty(base().Path(".staging")));
  files.Reopen();
  EXPECT_THAT(Listed(), ElementsAre("fraud"));
}

TEST_P(HandMade, CreateOfAStagedDirectoryKeepsItsFiles) {
  ASSERT_OK(catalog().Commit(
      CreateChange{.workspace = NewWorkspace("fraud", base().path()),
                   .staged = files.Stage()}));
  EXPECT_EQ(base().ReadFile("fraud/models/model.bin"), "weights");
  for (absl::string_view name : core::kDirectories)
    EXPECT_TRUE(base().Exists(absl::StrCat("fraud/", name)));
  EXPECT_TRUE(std::filesystem::is_empty(base().Path(".staging")));
}

TEST_P(HandMade, CreateOfAStagedDirectoryIsNotMixedWithOther) {
  base().WriteFile("fraud/notes.txt", "mine");
  const std::string staged = files.Stage();
  EXPECT_THAT(
      catalog().Commit(CreateChange{
          .workspace = NewWorkspace("fraud", base().path()), .staged = staged}),
      IsError(StatusCode::kFailedPrecondition, "PATH_UNSUITABLE"));
  EXPECT_THAT(Get("fraud"),
              IsError(StatusCode::kNotFound, "WORKSPACE_NOT_FOUND"));
  EXPECT_FALSE(base().Exists("fraud/models"));
  // It belongs to the caller, and to the sweep at the next start.
  EXPECT_TRUE(base().Exists(absl::StrCat(".staging/", staged)));
  files.Reopen();
  EXPECT_FALSE(base().Exists(absl::StrCat(".staging/", staged)));
}

TEST_P(HandMade, CreateOverwritesNoRecordThatAppearsWhileItAdopts) {
  base().MakeDirs("fraud");
  files.observer().SetBefore([this](absl::string_view call) {
    if (absl::StartsWith(call, "Rename fraud/.workspace.yaml"))
      WriteOriginal("fraud", "by hand");
    return absl::OkStatus();
  });
  EXPECT_THAT(
      catalog().Commit(CreateChange{NewWorkspace("fraud", base().path())}),
      IsError(StatusCode::kAborted, "WORKSPACE_BUSY"));
  EXPECT_EQ(Get("fraud").value()->metadata["note"], "by hand");
}

TEST_P(HandMade, APlainFileIsNoWorkspaceAndNotUnreachable) {
  base().WriteFile("README.md", "about this directory");
  const auto unsuitable =
      IsError(StatusCode::kFailedPrecondition, "PATH_UNSUITABLE");
  EXPECT_THAT(Get("README.md"),
              AllOf(unsuitable, HasDetail("project", "README.md")));
  EXPECT_THAT(
      catalog().Commit(CreateChange{NewWorkspace("README.md", base().path())}),
      unsuitable);
  EXPECT_THAT(catalog().Commit(DeleteChange{.project = Project("README.md")}),
              unsuitable);
  ASSERT_OK(catalog().RefreshNames());
  EXPECT_THAT(Unreachable(), IsEmpty());
  files.Reopen();
  EXPECT_THAT(Unreachable(), IsEmpty());
  EXPECT_EQ(base().ReadFile("README.md"), "about this directory");
  EXPECT_TRUE(std::filesystem::is_empty(base().Path(".staging")));
}

TEST_P(HandMade, ASymbolicLinkIsUnsuitableAndItsTargetUntouched) {
  const support::TempDir elsewhere;
  elsewhere.WriteFile("workspace.yaml",
                      OriginalRecord("fraud", elsewhere.path()));
  base().Link(elsewhere.path(), "fraud");
  const auto unsuitable =
      IsError(StatusCode::kFailedPrecondition, "PATH_UNSUITABLE");
  EXPECT_THAT(
      Get("fraud"),
      AllOf(unsuitable, HasDetail("problem", HasSubstr("is a symbolic link"))));
  EXPECT_THAT(
      catalog().Commit(CreateChange{NewWorkspace("fraud", base().path())}),
      unsuitable);
  EXPECT_THAT(catalog().Commit(ReplaceChange{
                  NewWorkspace("fraud", base().path()), "0123456789abcdef"}),
              unsuitable);
  EXPECT_THAT(catalog().Commit(DeleteChange{.project = Project("fraud")}),
              unsuitable);
  ASSERT_OK(catalog().RefreshNames());
  EXPECT_THAT(Unreachable(), ElementsAre("fraud"));
  EXPECT_EQ(elsewhere.ReadFile("workspace.yaml"),
            OriginalRecord("fraud", elsewhere.path()));
}

TEST_P(HandMade, NamesThatAreNoProjectsAreNotListed) {
  for (const char* name :
       {".hidden", "with space", "-dash", "ends.", "\xff\xfe", "näme"}) {
    base().WriteFile(absl::StrCat(name, "/workspace.yaml"),
                     OriginalRecord("x", "/x"));
  }
  files.Reopen();
  ASSERT_OK(catalog().RefreshNames());
  EXPECT_THAT(Listed(), IsEmpty());
  EXPECT_THAT(Unreachable(), IsEmpty());
}

TEST_P(HandMade, VanishedDirectoriesWithoutARecordAreForgotten) {
  base().MakeDirs("notes");
  ASSERT_OK(catalog().RefreshNames());
  base().Remove("notes");
  ASSERT_OK(catalog().RefreshNames());
  EXPECT_THAT(catalog().NextProjects(10), IsEmpty());
}

// --- Edits at the worst moment ---

// Commits a replacement and makes an edit by hand before its `n`-th call.
// Returns false if it makes fewer calls.
class EditDuringReplace : public HandMade {
 protected:
  bool ReplaceWithEditBefore(int n, bool in_place) {
    base().Remove("fraud");
    WriteOriginal("fraud", "before");
    Workspace next = *Get("fraud").value();
    next.metadata["note"] = "replaced";
    int calls = 0;
    files.observer().SetBefore([&](absl::string_view call) {
      // Without an exchange, an edit between the last check and the rename
      // is lost, as documented in ReplaceRecord().
      if (portable() && absl::StartsWith(call, "Rename"))
        return absl::OkStatus();
      if (++calls == n) Edit(in_place);
      return absl::OkStatus();
    });
    result = catalog()
                 .Commit(ReplaceChange{.workspace = next,
                                       .expected_etag = next.etag})
                 .status();
    files.observer().SetBefore(nullptr);
    return calls >= n;
  }
  // Edits in place like `echo >`, or by a rename like most editors.
  void Edit(bool in_place) {
    if (in_place) return WriteOriginal("fraud", "by hand");
    base().WriteFile("fraud/.swp",
                     OriginalRecord("fraud", base().Path("fraud"), "by hand"));
    base().Move("fraud/.swp", kRecord);
  }

  absl::Status result;
};

TEST_P(EditDuringReplace, IsNeverOverwritten) {
  for (const bool in_place : {false, true}) {
    int refused = 0, n = 1;
    for (; ReplaceWithEditBefore(n, in_place); ++n) {
      SCOPED_TRACE(
          absl::StrCat("edit before call ", n, in_place ? " in place" : ""));
      EXPECT_EQ(Get("fraud").value()->metadata["note"], "by hand");
      if (!result.ok()) {
        EXPECT_THAT(result, IsError(StatusCode::kAborted, "ETAG_MISMATCH"));
        ++refused;
      }
    }
    EXPECT_OK(result);
    EXPECT_EQ(Get("fraud").value()->metadata["note"], "replaced");
    EXPECT_GE(refused, 3);
    EXPECT_GT(n, refused);
  }
}

TEST_P(EditDuringReplace, LeavesNoTemporaryFile) {
  for (int n = 1; ReplaceWithEditBefore(n, /*in_place=*/true); ++n) {
    std::vector<std::string> names;
    for (const auto& entry :
         std::filesystem::directory_iterator(base().Path("fraud"))) {
      names.push_back(entry.path().filename());
    }
    EXPECT_THAT(names, ElementsAre("workspace.yaml"));
  }
}

TEST_P(EditDuringReplace, IsKeptByAnUpdateThatGaveNoEtag) {
  WriteOriginal("fraud", "before");
  core::Authority authority(&catalog(), nullptr, base().path(),
                            files.clock.clock());
  bool edited = false;
  files.observer().SetBefore([&](absl::string_view call) {
    if (absl::StartsWith(call, "CreateFileLike fraud/") &&
        !std::exchange(edited, true))
      Edit(/*in_place=*/false);
    return absl::OkStatus();
  });
  const auto updated = authority.Update(
      {.project = Project("fraud"), .spec = {.metadata = {{"owner", "bob"}}}});
  EXPECT_EQ(updated.value().workspace->metadata,
            core::Metadata({{"note", "by hand"}, {"owner", "bob"}}));
}

TEST_P(HandMade, ARemovalDuringAReplaceOrDeleteIsNotFound) {
  for (const char* call_prefix : {"OpenDir fraud", "Rename fraud"}) {
    const WorkspacePtr fraud = Create("fraud");
    files.observer().SetBefore([&](absl::string_view call) {
      if (absl::StartsWith(call, call_prefix)) base().Remove("fraud");
      return absl::OkStatus();
    });
    EXPECT_THAT(catalog().Commit(ReplaceChange{.workspace = *fraud,
                                               .expected_etag = fraud->etag}),
                IsError(StatusCode::kNotFound, "WORKSPACE_NOT_FOUND"));
    files.observer().SetBefore(nullptr);
  }
  Create("fraud");
  files.observer().SetBefore([&](absl::string_view call) {
    if (absl::StartsWith(call, "Rename fraud")) base().Remove("fraud");
    return absl::OkStatus();
  });
  EXPECT_THAT(catalog().Commit(DeleteChange{.project = Project("fraud")}),
              IsError(StatusCode::kNotFound, "WORKSPACE_NOT_FOUND"));
}

TEST_P(HandMade, AnUndeleteIsListedWhateverIsForgottenMeanwhile) {
  Create("fraud");
  Create("churn");
  catalog().Commit(DeleteChange{.project = Project("fraud")}).value();
  files.observer().SetBefore([this,
                              done = false](absl::string_view call) mutable {
    if (call != "ReadFile fraud/workspace.yaml" || std::exchange(done, true))
      return absl::OkStatus();
    base().Remove("churn");
    EXPECT_TRUE(absl::IsNotFound(catalog().Get(Project("churn")).status()));
    return absl::OkStatus();
  });
  catalog().Commit(core::UndeleteChange{.project = Project("fraud")}).value();
  EXPECT_THAT(Listed(), ElementsAre("fraud"));
}

TEST_P(HandMade, AGetOfNothingDoesNotHideTheCreateThatOvertakesIt) {
  bool created = false;
  files.observer().SetAfter([&](absl::string_view call) {
    if (call == "Stat fraud" && !std::exchange(created, true)) Create("fraud");
  });
  // Get finds a changed file by its stamp, but the file is gone
  // when it is read.
  WriteOriginal("fraud");
  files.observer().SetBefore([&](absl::string_view call) {
    if (absl::StartsWith(call, "ReadFile") && !created) base().Remove("fraud");
    return absl::OkStatus();
  });
  Get("fraud").status().IgnoreError();
  ASSERT_TRUE(created);
  EXPECT_THAT(Listed(), ElementsAre("fraud"));
}

TEST_P(HandMade, AGetDoesNotBringBackWhatIsDeletedBeforeItEnds) {
  WriteOriginal("fraud");
  bool deleted = false;
  files.observer().SetAfter([&](absl::string_view call) {
    if (call != "ReadFile fraud/workspace.yaml" || std::exchange(deleted, true))
      return;
    ASSERT_OK(catalog().Commit(DeleteChange{.project = Project("fraud")}));
  });
  Get("fraud").status().IgnoreError();
  ASSERT_TRUE(deleted);
  EXPECT_THAT(Listed(), IsEmpty());
}

// --- Number of file accesses ---

TEST_P(HandMade, ListTouchesNoFile) {
  for (const char* name : {"a", "b", "c"}) Create(name);
  files.observer().Take();
  EXPECT_THAT(Listed(/*show_deleted=*/true), ElementsAre("a", "b", "c"));
  EXPECT_THAT(files.observer().Take(), IsEmpty());
}

TEST_P(HandMade, GetOfAnUnchangedRecordIsOneStat) {
  Create("fraud");
  Settle("fraud");
  files.observer().Take();
  EXPECT_OK(Get("fraud"));
  EXPECT_OK(Get("fraud"));
  EXPECT_THAT(
      files.observer().Take(),
      ElementsAre("Stat fraud/workspace.yaml", "Stat fraud/workspace.yaml"));
}

TEST_P(HandMade, GetOfNothingIsOneStat) {
  files.observer().Take();
  EXPECT_THAT(Get("fraud"),
              IsError(StatusCode::kNotFound, "WORKSPACE_NOT_FOUND"));
  EXPECT_THAT(files.observer().Take(),
              ElementsAre("Stat fraud/workspace.yaml"));
}

TEST_P(HandMade, RefreshOfUnchangedNamesIsOneStat) {
  Create("fraud");
  files.clock.Advance(absl::Seconds(5));
  ASSERT_OK(catalog().RefreshNames());
  files.observer().Take();
  ASSERT_OK(catalog().RefreshNames());
  EXPECT_THAT(files.observer().Take(), ElementsAre("StatSelf ."));
}

TEST_P(HandMade, RefreshReadsOnlyNewNames) {
  for (const char* name : {"a", "b", "c"}) Create(name);
  files.clock.Advance(absl::Seconds(5));
  ASSERT_OK(catalog().RefreshNames());
  WriteOriginal("fraud");
  files.observer().Take();
  ASSERT_OK(catalog().RefreshNames());
  EXPECT_THAT(files.observer().Take(),
              ElementsAre("StatSelf .", "ForEachEntry .",
                          "ReadFile fraud/workspace.yaml"));
}

TEST_P(HandMade, RecordsAreRefreshedInBoundedStepsRoundAndRound) {
  for (const char* name : {"a", "b", "c", "d", "e"}) Create(name);
  const auto names = [this](size_t count) {
    std::vector<std::string> names;
    for (const auto& project : catalog().NextProjects(count))
      names.push_back(project.str());
    return names;
  };
  EXPECT_THAT(names(2), ElementsAre("a", "b"));
  ASSERT_OK(catalog().Commit(DeleteChange{.project = Project("b")}));
  EXPECT_THAT(names(2), ElementsAre("c", "d"));
  EXPECT_THAT(names(2), ElementsAre("e"));
  EXPECT_THAT(names(9), ElementsAre("a", "c", "d", "e"));
}

// --- Failures of the file system ---

TEST_P(HandMade, ACreateThatFailsLeavesNothing) {
  for (const char* call_prefix :
       {"MakeDir .staging", "CreateFile .staging", "Rename .staging"}) {
    files.observer().SetBefore([&](absl::string_view call) {
      if (!absl::StartsWith(call, call_prefix)) return absl::OkStatus();
      return base::MakeError(StatusCode::kResourceExhausted, "full",
                             {.reason = "NO_SPACE"});
    });
    EXPECT_THAT(
        catalog().Commit(CreateChange{NewWorkspace("fraud", base().path())}),
        IsError(StatusCode::kResourceExhausted, "NO_SPACE"))
        << call_prefix;
    EXPECT_TRUE(std::filesystem::is_empty(base().Path(".staging")))
        << call_prefix;
    EXPECT_THAT(Get("fraud"),
                IsError(StatusCode::kNotFound, "WORKSPACE_NOT_FOUND"));
  }
  EXPECT_TRUE(catalog().healthy());
}

TEST_P(HandMade, AfterASyncThatFailedItOnlyReads) {
  Create("churn");
  files.observer().SetBefore([](absl::string_view call) {
    return call == "Sync ." ? absl::InternalError("lost") : absl::OkStatus();
  });
  EXPECT_FALSE(catalog()
                   .Commit(CreateChange{NewWorkspace("fraud", base().path())})
                   .ok());
  files.observer().SetBefore(nullptr);
  EXPECT_FALSE(catalog().healthy());
  EXPECT_THAT(
      catalog().Commit(CreateChange{NewWorkspace("other", base().path())}),
      IsError(StatusCode::kInternal, "IO_ERROR"));
  EXPECT_OK(Get("churn"));
  files.Reopen();
  EXPECT_TRUE(catalog().healthy());
  Create("other");
}

TEST_P(HandMade, AReplacedRecordKeepsItsModeAndIsNeverOpenToMore) {
  namespace files_of = std::filesystem;
  const auto mode = [this](absl::string_view name) {
    return files_of::status(base().Path(name)).permissions();
  };
  Create("fraud");
  for (const int wanted : {0600, 0640, 0660, 0444}) {
    Workspace next = *Get("fraud").value();
    files_of::permissions(base().Path(kRecord),
                          static_cast<files_of::perms>(wanted));
    files_of::perms draft = files_of::perms::none;
    files.observer().SetAfter([&](absl::string_view call) {
      if (absl::StartsWith(call, "CreateFileLike "))
        draft = mode(call.substr(call.find(' ') + 1));
    });
    next.metadata["mode"] = wanted;
    ASSERT_OK(catalog().Commit(
        ReplaceChange{.workspace = next, .expected_etag = next.etag}));
    files.observer().SetAfter(nullptr);
    EXPECT_EQ(draft, static_cast<files_of::perms>(wanted));
    EXPECT_EQ(mode(kRecord), static_cast<files_of::perms>(wanted));
  }
}

INSTANTIATE_TEST_SUITE_P(Calls, HandMade, testing::Bool(), CallsName);
INSTANTIATE_TEST_SUITE_P(Calls, EditDuringReplace, testing::Bool(), CallsName);

}  // namespace
}  // namespace mlops::catalog
