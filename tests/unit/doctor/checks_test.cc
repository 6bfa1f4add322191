#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/time.h>

#include "absl/strings/str_cat.h"
#include "service/catalog/checkpoint.h"
#include "service/core/layout.h"
#include "service/core/workspace_yaml.h"
#include "service/fs/base_lock.h"
#include "tests/support/workspaces.h"
#include "tests/unit/doctor/fixture.h"

namespace mlops::doctor {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr char kId[] = "0123456789abcdef0123456789abcdef";

class CheckTest : public DoctorTest {
 protected:
  // Sets the modification time of an entry to `age` ago.
  void SetAge(absl::string_view name, absl::Duration age) const {
    const timespec time = absl::ToTimespec(absl::Now() - age);
    const timespec times[] = {time, time};
    ASSERT_EQ(::utimensat(AT_FDCWD, temp.Path(name).c_str(), times, 0), 0);
  }

  std::string TrashName(absl::Duration purge_in,
                        absl::string_view project = "old") const {
    const absl::Time now = absl::Now();
    return core::layout::FormatTrashName(
        {.delete_time = now - absl::Hours(80),
         .purge_time = now + purge_in,
         .uid = kId,
         .project = support::Project(project)});
  }
};

TEST_F(CheckTest, ACleanBaseHasNoFindings) {
  MakeWorkspace("churn");
  temp.WriteFile("base/fraud/outputs/a/b.txt", "content");
  temp.Link("b.txt", "base/fraud/outputs/a/inside");
  temp.MakeDirs("base/.workspaced");
  temp.MakeDirs("base/.staging");
  temp.MakeDirs("base/.trash");
  EXPECT_THAT(Lines(), IsEmpty());
  EXPECT_EQ(Run().workspace_count, 2);
}

// --- Records ---

TEST_F(CheckTest, ACorruptRecordIsReportedWithItsLine) {
  temp.WriteFile("base/fraud/workspace.yaml", "project_name: fraud\na: [\n");
  const Finding finding = Only();
  EXPECT_EQ(finding.code, "record-corrupt");
  EXPECT_EQ(finding.severity, Severity::kError);
  EXPECT_EQ(finding.path, "fraud/workspace.yaml");
  EXPECT_THAT(finding.problem, HasSubstr("line "));
}

TEST_F(CheckTest, ALargeRecordIsCorrupt) {
  temp.WriteFile("base/fraud/workspace.yaml",
                 std::string(core::kMaxRecordBytes + 1, '#'));
  EXPECT_THAT(Lines(),
              ElementsAre("error record-corrupt fraud/workspace.yaml"));
}

TEST_F(CheckTest, ALinkInPlaceOfTheRecordIsUnsuitable) {
  temp.Move("base/fraud/workspace.yaml", "base/fraud/outputs/record");
  temp.Link("outputs/record", "base/fraud/workspace.yaml");
  EXPECT_THAT(Lines(),
              ElementsAre("error record-unsuitable fraud/workspace.yaml"));
}

TEST_F(CheckTest, ALostRecordDiffersFromAForeignDirectory) {
  temp.Remove("base/fraud/workspace.yaml");
  temp.MakeDirs("base/photos");
  EXPECT_THAT(Lines(), ElementsAre("warning record-missing fraud",
                                   "note foreign-directory photos"));
}

TEST_F(CheckTest, OrphanedTempRecordsAreCountedBeyondTheTenth) {
  for (int i = 10; i < 25; ++i)
    temp.WriteFile(absl::StrCat("base/fraud/.workspace.yaml.", i), "");
  const std::vector<Finding> findings = Run().findings;
  ASSERT_EQ(findings.size(), Findings::kMaxPerProject);
  int64_t count = 0;
  size_t repairs = 0;
  for (const Finding& finding : findings) {
    EXPECT_EQ(finding.code, "record-temp");
    count += 1 + finding.more;
    repairs += finding.repairs.size();
  }
  EXPECT_EQ(count, 15);
  EXPECT_EQ(repairs, 15u);
}

TEST_F(CheckTest, TwoRecordsWithOneUidAreReported) {
  MakeWorkspace("churn");
  core::Workspace churn = support::NewWorkspace("churn", base);
  churn.uid = support::NewWorkspace("fraud", base).uid;
  temp.WriteFile("base/churn/workspace.yaml", core::EncodeWorkspace(churn));
  const Finding finding = Only();
  EXPECT_EQ(finding.code, "uid-duplicate");
}

// --- Directories ---

TEST_F(CheckTest, MissingAndReplacedDirectoriesAreReported) {
  temp.Remove("base/fraud/dvc");
  temp.Remove("base/fraud/models");
  temp.Link("outputs", "base/fraud/models");
  temp.Remove("base/fraud/mlflow");
  temp.WriteFile("base/fraud/mlflow", "");
  EXPECT_THAT(Lines(), ElementsAre("warning directory-missing fraud/dvc",
                                   "error directory-unsuitable fraud/mlflow",
                                   "error directory-unsuitable fraud/models"));
}

TEST_F(CheckTest, AWorkspaceBehindALinkIsUnsuitable) {
  temp.Move("base/fraud", "elsewhere");
  temp.Link("../elsewhere", "base/fraud");
  EXPECT_THAT(Lines(), ElementsAre("error workspace-unsuitable fraud"));
}

// --- Names ---

TEST_F(CheckTest, NamesThatDifferByCaseCollide) {
  MakeWorkspace("Fraud");
  EXPECT_THAT(Lines(), ElementsAre("warning case-collision Fraud"));
}

TEST_F(CheckTest, NamesThatNoProjectCanHaveAreUnreachable) {
  temp.Copy("base/fraud", "base/fraud model");
  temp.MakeDirs("base/.git");
  temp.WriteFile("base/README", "");
  EXPECT_THAT(Lines(), ElementsAre("note foreign-file README",
                                   "note foreign-directory .git",
                                   "warning name-unreachable fraud model"));
}

// --- What the server keeps in the base ---

TEST_F(CheckTest, LeftoversOfTheServerAreNotes) {
  temp.MakeDirs("base/.staging/x");
  temp.MakeDirs(absl::StrCat("base/.trash/0.", kId, ".old"));
  temp.MakeDirs(absl::StrCat("base/.trash.0.", kId, ".old"));
  EXPECT_THAT(
      Lines(),
      ElementsAre("note staging-leftover .staging/x",
                  absl::StrCat("note trash-removing .trash.0.", kId, ".old"),
                  absl::StrCat("note trash-removing .trash/0.", kId, ".old")));
}

TEST_F(CheckTest, TheTrashIsRead) {
  const std::string expired = TrashName(-absl::Hours(1)),
                    corrupt = TrashName(absl::Hours(1), "corrupt");
  temp.MakeDirs("base/.trash");
  temp.Copy("base/fraud", absl::StrCat("base/.trash/", expired));
  temp.Copy("base/fraud", absl::StrCat("base/.trash/", corrupt));
  temp.WriteFile(absl::StrCat("base/.trash/", corrupt, "/workspace.yaml"), "[");
  temp.MakeDirs("base/.trash/mine");
  EXPECT_THAT(Lines(),
              ElementsAre("warning trash-foreign .trash/mine",
                          absl::StrCat("warning trash-record-corrupt .trash/",
                                       corrupt, "/workspace.yaml"),
                          absl::StrCat("note trash-expired .trash/", expired)));
}

TEST_F(CheckTest, ServerDirectoriesMustBeDirectories) {
  temp.WriteFile("base/.staging", "");
  temp.MakeDirs("elsewhere");
  temp.Link("../elsewhere", "base/.trash");
  EXPECT_THAT(Lines(), ElementsAre("error server-directory-unsuitable .staging",
                                   "error server-directory-unsuitable .trash"));
}

TEST_F(CheckTest, TheCheckpointIsDecoded) {
  const std::string path = "base/.workspaced/checkpoint";
  std::string bytes = catalog::EncodeCheckpoint(
      {{.workspace = std::make_shared<const core::Workspace>(
            support::NewWorkspace("fraud", base)),
        .stamp = {},
        .read_time = absl::Now()}},
      base);
  temp.WriteFile(path, bytes);
  EXPECT_THAT(Lines(), IsEmpty());
  temp.WriteFile(path, catalog::EncodeCheckpoint({}, base));
  EXPECT_THAT(Lines(), IsEmpty());
  temp.WriteFile(path, catalog::EncodeCheckpoint({}, "/other"));
  EXPECT_EQ(Only().code, "checkpoint-elsewhere");
  bytes.back() ^= 1;
  temp.WriteFile(path, bytes);
  EXPECT_EQ(Only().code, "checkpoint-damaged");
  EXPECT_EQ(Only().repairs.size(), 1u);
  temp.WriteFile(path, "mlops-workspace checkpoint 1\nabc");
  EXPECT_EQ(Only().code, "checkpoint-old");
}

TEST_F(CheckTest, TheLockFileTellsWhoServed) {
  temp.WriteFile("base/.workspaced/lock", "\n");
  EXPECT_THAT(Lines(), IsEmpty());
  temp.WriteFile("base/.workspaced/lock",
                 absl::StrCat(R"({"pid": 7, "host": ")", fs::HostName(),
                              R"(", "addresses": ["unix:/s"]})"));
  EXPECT_EQ(Only().code, "lock-left-over");
  EXPECT_THAT(Only().problem, HasSubstr("pid 7"));
  temp.WriteFile("base/.workspaced/lock",
                 R"({"pid": 7, "host": "elsewhere", "addresses": []})");
  EXPECT_EQ(Only().code, "lock-foreign-host");
  temp.Remove("base/.workspaced/lock");
  temp.MakeDirs("base/.workspaced/lock");
  EXPECT_EQ(Only().code, "lock-unsuitable");
}

TEST_F(CheckTest, WhatAServerLeavesInTransitIsNoFindingBesideOne) {
  temp.MakeDirs("base/.staging/x");
  temp.WriteFile("base/fraud/.workspace.yaml.1", "");
  temp.WriteFile("base/fraud/.uploads/1.part", "");
  const auto lock = fs::BaseLock::Acquire(base, LockNames()).value();
  ASSERT_TRUE(lock->MakeFile().ok());
  EXPECT_THAT(Lines(), ElementsAre("note server-running .workspaced/lock"));
  // The holder itself knows that nothing is in transit.
  EXPECT_EQ(Lines(/*is_ours=*/true).size(), 3u);
}

TEST_F(CheckTest, BesideAServerOnlyWhatASecondLookConfirmsIsAFinding) {
  temp.WriteFile("base/fraud/workspace.yaml", "[");
  MakeWorkspace("churn");
  temp.Remove("base/churn/dvc");
  temp.MakeDirs("base/.trash/mine");
  const auto lock = fs::BaseLock::Acquire(base, LockNames()).value();
  ASSERT_TRUE(lock->MakeFile().ok());
  const auto change = [this] {
    MakeWorkspace("fraud");
    temp.Remove("base/.trash/mine");
    temp.Remove("base/churn/models");
  };
  std::vector<std::string> found;
  for (const Finding& finding : Run(false, change).findings)
    found.push_back(finding.path);
  // What appeared only at the second look is not confirmed, either.
  EXPECT_THAT(found, ElementsAre(".workspaced/lock", "churn/dvc"));
}

TEST_F(CheckTest, ABaseThatEverybodyMayWriteToIsReported) {
  ::chmod(base.c_str(), 0777);
  EXPECT_EQ(Only().code, "base-world-writable");
}

// --- Uploads ---

TEST_F(CheckTest, UploadsAreExamined) {
  const std::string uploads = "base/fraud/.uploads/";
  for (const char* name : {"old.part", "torn.part", "torn.json", "w.tmp",
                           "a.trash", "strange", "done.json"})
    temp.WriteFile(uploads + name, "{}");
  temp.WriteFile(uploads + "good.part", "abc");
  temp.WriteFile(uploads + "good.json",
                 R"({"path": "outputs/a", "boot_id": "b", "inode": 1})");
  SetAge(uploads + "old.part", absl::Hours(25));
  SetAge(uploads + "done.json", absl::Hours(2));
  EXPECT_THAT(Lines(),
              ElementsAre("note artifact-removing fraud/.uploads/a.trash",
                          "note upload-expired fraud/.uploads/done.json",
                          "note upload-expired fraud/.uploads/old.part",
                          "warning upload-foreign fraud/.uploads/strange",
                          "note upload-damaged fraud/.uploads/torn.part",
                          "note upload-temp fraud/.uploads/w.tmp"));
}

TEST_F(CheckTest, ALinkInPlaceOfTheUploadsIsUnsuitable) {
  temp.Link("outputs", "base/fraud/.uploads");
  EXPECT_THAT(Lines(), ElementsAre("error uploads-unsuitable fraud/.uploads"));
}

// --- Files ---

TEST_F(CheckTest, LinksThatLeaveAndSpecialFilesAreReported) {
  temp.MakeDirs("base/fraud/outputs/a");
  temp.Link("../../../churn/outputs", "base/fraud/outputs/a/relative");
  temp.Link("/etc/passwd", "base/fraud/outputs/absolute");
  temp.Link(temp.Path("base/fraud/dvc"), "base/fraud/outputs/own");
  temp.Link("../dvc/nothing", "base/fraud/outputs/dangling");
  temp.MakeFifo("base/fraud/models/fifo");
  EXPECT_THAT(Lines(),
              ElementsAre("warning special-file fraud/models/fifo",
                          "warning link-leaves fraud/outputs/a/relative",
                          "warning link-leaves fraud/outputs/absolute"));
}

TEST_F(CheckTest, LinksAreNotFollowed) {
  temp.MakeDirs("elsewhere");
  temp.MakeFifo("elsewhere/fifo");
  temp.Link("../../../elsewhere", "base/fraud/outputs/link");
  EXPECT_EQ(Only().code, "link-leaves");
}

// --- DVC ---

TEST_F(CheckTest, RemotesOutsideOfTheWorkspaceAreReported) {
  temp.WriteFile("base/fraud/dvc/.dvc/config", R"([core]
    remote = workspace
['remote "workspace"']
    url = ../remote
['remote "other"']
    url = ../../../churn/dvc/remote
['remote "away"']
    url = s3://bucket/path  # shared
)");
  temp.WriteFile(
      "base/fraud/dvc/.dvc/config.local",
      absl::StrCat("[remote \"file\"]\nurl = \"file://", base, "/churn/x\"\n"));
  EXPECT_THAT(Lines(),
              ElementsAre("warning dvc-remote-elsewhere fraud/dvc/.dvc/config",
                          "note dvc-remote-outside fraud/dvc/.dvc/config",
                          "warning dvc-remote-elsewhere "
                          "fraud/dvc/.dvc/config.local"));
}

TEST_F(CheckTest, TheRemoteInTheRecordIsChecked) {
  core::Workspace fraud = support::NewWorkspace("fraud", base);
  fraud.settings.dvc_remote_path = "/srv/remote";
  temp.WriteFile("base/fraud/workspace.yaml", core::EncodeWorkspace(fraud));
  EXPECT_EQ(Only().code, "dvc-remote-outside");
}

}  // namespace
}  // namespace mlops::doctor
