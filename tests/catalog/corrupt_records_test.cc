// Tests records that cannot be read: each makes one project unreachable,
// is reported with its problem, and hides no other project.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "service/core/workspace_yaml.h"
#include "tests/catalog/harness.h"
#include "tests/support/matchers.h"
#include "tests/support/workspaces.h"

namespace mlops::catalog {
namespace {

using absl::StatusCode;
using core::DeleteChange;
using core::ReplaceChange;
using core::UndeleteChange;
using support::HasDetail;
using support::IsError;
using support::NewWorkspace;
using support::OriginalRecord;
using support::Project;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

struct Corruption {
  std::string name;
  std::string text;
  int line;
  std::string problem;  // Part of the reported problem.
};

std::string Repeated(absl::string_view piece, int times) {
  std::string text;
  for (int i = 0; i < times; ++i) text.append(piece.data(), piece.size());
  return text;
}

std::vector<Corruption> Corruptions() {
  const std::string good = OriginalRecord("x", "/x");  // 10 lines.
  return {
      {"empty", "", 0, "empty"},
      {"comment-only", "# nothing\n", 0, "empty"},
      {"no-map", "just text\n", 1, "must be a map"},
      {"list", "- a\n- b\n", 1, "must be a map"},
      {"unclosed-quote", good + "team: \"ana\n", 12, ""},
      {"unclosed-at-the-end", "project_name: 'fraud", 2, ""},
      {"unclosed-escape", "project_name: \"fraud\\\"\n", 2, ""},
      {"unclosed-bracket", good + "tags: [a, b\n", 12, ""},
      {"tab-indent", good + "team:\n\tlead: ana\n", 12, ""},
      {"bad-indent", "metadata:\n    a: 1\n  b: 2\n", 3, ""},
      {"brackets", Repeated("[", 10'000), 1, "nested deeper"},
      {"nested-lists",
       "metadata: {a: " + Repeated("[", 10'000) + Repeated("]", 10'000) + "}\n",
       1, "nested deeper"},
      {"nested-maps",
       "metadata: " + Repeated("{a: ", 100) + "1" + Repeated("}", 100) + "\n",
       1, "nested deeper"},
      {"nul", good + std::string("team: a\0b\n", 10), 0, "NUL"},
      {"not-utf8", good + "team: \xff\xfe\n", 0, "UTF-8"},
      {"surrogate", good + "team: \xed\xa0\x80\n", 0, "UTF-8"},
      {"duplicate-key", good + "root_path: /y\n", 11, "twice"},
      {"duplicate-nested", "metadata:\n  a: 1\n  a: 2\n", 3, "twice"},
      {"anchor", "metadata: &m {a: 1}\n", 1, "anchors"},
      {"alias", "a: 1\nmetadata: *m\n", 2, ""},
      {"merge-key", "metadata:\n  <<: {a: 1}\n", 2, "merge"},
      {"tag", "metadata: !!python/object:os.system {}\n", 1, "tags"},
      {"two-documents", good + "---\n" + good, 0, "first document"},
      {"metadata-list", "metadata: [1]\n", 1, "must be a map"},
      {"setting-map", "\ndvc_remote_path: {a: b}\n", 2, "must be text"},
      {"bad-time", "created_at: yesterday\n", 1, "ISO 8601"},
      {"bad-month", "created_at: 2024-13-01T00:00:00\n", 1, "ISO 8601"},
      {"bad-uid", "uid: a/b\n", 1, "1 to 64 letters"},
      {"big-integer", "metadata:\n  n: 9007199254740992\n", 2, "2^53"},
      {"nan", "metadata:\n  n: .nan\n", 2, "not finite"},
      {"deep-metadata",
       "metadata: " + Repeated("{a: ", 17) + "1" + Repeated("}", 17) + "\n", 1,
       "nested deeper"},
      {"big-metadata", "metadata: {a: " + std::string(70'000, 'x') + "}\n", 1,
       "larger than"},
      {"surrogate-escape", "metadata:\n  a: \"\\ud800\"\n", 2, ""},
      {"year-zero", "created_at: 0000-01-01T00:00:00Z\n", 1, "years 1 to 9999"},
      {"cut-off",
       std::string(core::kRecordHeader) +
           "\nproject_name: cut-off\nroot_path: /x\n",
       0, "was cut off"},
      {"big-record", "# " + std::string(1024 * 1024, 'x') + "\n", 0,
       "larger than"},
  };
}

class CorruptRecords : public FileCatalogTest {
 protected:
  void WriteRecord(absl::string_view name, absl::string_view text) {
    base().WriteFile(absl::StrCat(name, "/workspace.yaml"), text);
  }
  // Expects that Get reports the problem with file and line.
  void ExpectCorrupt(const Corruption& corruption) {
    const auto got = Get(corruption.name);
    EXPECT_THAT(got, IsError(StatusCode::kDataLoss, "WORKSPACE_CORRUPT"));
    EXPECT_THAT(got, HasDetail("project", corruption.name));
    EXPECT_THAT(
        got, HasDetail("file", base().Path(absl::StrCat(corruption.name,
                                                        "/workspace.yaml"))));
    EXPECT_THAT(got, HasDetail("line", absl::StrCat(corruption.line)));
    EXPECT_THAT(got, HasDetail("problem", HasSubstr(corruption.problem)));
  }
};

TEST_P(CorruptRecords, AreToldWithFileAndLine) {
  for (const Corruption& corruption : Corruptions()) {
    SCOPED_TRACE(corruption.name);
    WriteRecord(corruption.name, corruption.text);
    ExpectCorrupt(corruption);
  }
  files.Reopen();
  for (const Corruption& corruption : Corruptions()) {
    SCOPED_TRACE(corruption.name);
    ExpectCorrupt(corruption);
  }
}

TEST_P(CorruptRecords, AreUnreachableAndHideNoOther) {
  std::vector<std::string> names;
  for (const Corruption& corruption : Corruptions()) {
    WriteRecord(corruption.name, corruption.text);
    names.push_back(corruption.name);
  }
  Create("good");
  std::sort(names.begin(), names.end());
  ASSERT_OK(catalog().RefreshNames());
  EXPECT_EQ(Unreachable(), names);
  EXPECT_THAT(Listed(), ElementsAre("good"));
  EXPECT_EQ(catalog().List({}).value().total_size, 1);
  files.Reopen();
  EXPECT_EQ(Unreachable(), names);
  EXPECT_THAT(Listed(), ElementsAre("good"));
}

TEST_P(CorruptRecords, AreNamedOnTheFirstPageAlone) {
  WriteRecord("bad", "");
  for (const char* name : {"a", "c"}) Create(name);
  EXPECT_THAT(Get("bad"), IsError(StatusCode::kDataLoss, "WORKSPACE_CORRUPT"));
  const auto first = catalog().List({.page_size = 1}).value();
  EXPECT_THAT(first.unreachable, ElementsAre("bad"));
  EXPECT_THAT(catalog()
                  .List({.after = core::OrderKey{.project = "a"}})
                  .value()
                  .unreachable,
              IsEmpty());
}

TEST_P(CorruptRecords, AHugeSparseFileIsRefusedUnread) {
  base().MakeDirs("fraud");
  base().WriteFile("fraud/workspace.yaml", "");
  std::filesystem::resize_file(base().Path("fraud/workspace.yaml"),
                               1'000'000'000);
  EXPECT_THAT(Get("fraud"),
              IsError(StatusCode::kDataLoss, "WORKSPACE_CORRUPT"));
  EXPECT_THAT(Get("fraud"),
              HasDetail("problem", HasSubstr("larger than 1048576 bytes")));
}

TEST_P(CorruptRecords, WhatIsNoFileIsUnsuitable) {
  base().MakeDirs("directory/workspace.yaml");
  base().MakeDirs("fifo");
  base().MakeFifo("fifo/workspace.yaml");
  base().MakeDirs("link");
  base().WriteFile("target.yaml", OriginalRecord("link", "/x"));
  base().Link(base().Path("target.yaml"), "link/workspace.yaml");
  base().MakeDirs("dangling");
  base().Link("/does/not/exist", "dangling/workspace.yaml");
  base().MakeDirs("device");
  base().Link("/dev/zero", "device/workspace.yaml");
  const std::vector<std::string> names = {"dangling", "device", "directory",
                                          "fifo", "link"};
  for (const std::string& name : names) {
    EXPECT_THAT(Get(name),
                IsError(StatusCode::kFailedPrecondition, "PATH_UNSUITABLE"))
        << name;
    EXPECT_THAT(Get(name),
                HasDetail("path", base().Path(name + "/workspace.yaml")));
  }
  EXPECT_THAT(Get("link"), HasDetail("problem", "is a symbolic link"));
  EXPECT_THAT(Get("dangling"),
              HasDetail("problem", HasSubstr("broken symbolic link")));
  files.Reopen();
  EXPECT_EQ(Unreachable(), names);
}

TEST_P(CorruptRecords, AreReadOnceUntilTheyChange) {
  WriteRecord("fraud", "- no map\n");
  files.clock.Advance(absl::Seconds(5));
  ASSERT_FALSE(Get("fraud").ok());
  files.observer().Take();
  EXPECT_THAT(Get("fraud"),
              IsError(StatusCode::kDataLoss, "WORKSPACE_CORRUPT"));
  EXPECT_THAT(files.observer().Take(),
              ElementsAre("Stat fraud/workspace.yaml"));
  WriteRecord("fraud", OriginalRecord("fraud", base().Path("fraud")));
  EXPECT_OK(Get("fraud"));
  EXPECT_THAT(Unreachable(), IsEmpty());
}

TEST_P(CorruptRecords, AreNeverReplacedOrCreatedOver) {
  WriteRecord("fraud", "- no map\n");
  const auto corrupt = IsError(StatusCode::kDataLoss, "WORKSPACE_CORRUPT");
  EXPECT_THAT(catalog().Commit(
                  core::CreateChange{NewWorkspace("fraud", base().path())}),
              corrupt);
  EXPECT_THAT(catalog().Commit(ReplaceChange{
                  NewWorkspace("fraud", base().path()), "0123456789abcdef"}),
              corrupt);
  EXPECT_EQ(base().ReadFile("fraud/workspace.yaml"), "- no map\n");
}

TEST_P(CorruptRecords, CanBeDeletedListedAndRestored) {
  WriteRecord("fraud", "- no map\n");
  const auto deleted = catalog()
                           .Commit(DeleteChange{.project = Project("fraud")})
                           .value()
                           .workspace;
  EXPECT_FALSE(deleted->uid.empty());
  EXPECT_THAT(Unreachable(), IsEmpty());
  files.Reopen();
  const auto listed = catalog().List({.show_deleted = true}).value().workspaces;
  ASSERT_EQ(listed.size(), 1);
  EXPECT_EQ(listed[0]->uid, deleted->uid);
  EXPECT_EQ(listed[0]->delete_time, deleted->delete_time);
  EXPECT_THAT(catalog().Commit(UndeleteChange{.project = Project("fraud"),
                                              .uid = deleted->uid}),
              IsError(StatusCode::kDataLoss, "WORKSPACE_CORRUPT"));
  EXPECT_EQ(base().ReadFile("fraud/workspace.yaml"), "- no map\n");
}

TEST_P(CorruptRecords, UnreadableOnesAreCorruptToo) {
  Create("fraud");
  files.observer().SetBefore([](absl::string_view call) {
    if (call != "ReadFile fraud/workspace.yaml") return absl::OkStatus();
    return base::MakeError(
        StatusCode::kInternal, "denied",
        {.reason = "IO_ERROR", .metadata = {{"errno", "13"}}});
  });
  // Change the record, so that Get must read it.
  WriteRecord("fraud", OriginalRecord("fraud", base().Path("fraud")));
  EXPECT_THAT(Get("fraud"),
              IsError(StatusCode::kDataLoss, "WORKSPACE_CORRUPT"));
  EXPECT_THAT(Get("fraud"), HasDetail("problem", "permission denied"));
  files.observer().SetBefore(nullptr);
  EXPECT_OK(Get("fraud"));
}

// Errors that say nothing about the file are not remembered.
TEST_P(CorruptRecords, APassingErrorIsNotKept) {
  for (const char* number : {"24", "12", "5"}) {  // EMFILE, ENOMEM, EIO.
    SCOPED_TRACE(number);
    const std::string name = absl::StrCat("e", number);
    Create(name);
    // Change the record, so that Get must read it.
    WriteRecord(name, OriginalRecord(name, base().Path(name)));
    files.clock.Advance(absl::Seconds(5));
    files.observer().SetBefore([&](absl::string_view call) {
      if (call != absl::StrCat("ReadFile ", name, "/workspace.yaml"))
        return absl::OkStatus();
      return base::MakeError(
          StatusCode::kInternal, "for now",
          {.reason = "IO_ERROR", .metadata = {{"errno", number}}});
    });
    EXPECT_THAT(Get(name), IsError(StatusCode::kInternal, "IO_ERROR"));
    EXPECT_THAT(Listed(), testing::Contains(name));
    EXPECT_THAT(Unreachable(), IsEmpty());
    files.observer().SetBefore(nullptr);
    EXPECT_OK(Get(name));
  }
}

TEST_P(CorruptRecords, APassingErrorAtTheFirstReadIsNotKeptEither) {
  WriteRecord("fraud", OriginalRecord("fraud", base().Path("fraud")));
  files.clock.Advance(absl::Seconds(5));
  files.observer().SetBefore([](absl::string_view call) {
    return call == "ReadFile fraud/workspace.yaml"
               ? absl::InternalError("for now")
               : absl::OkStatus();
  });
  files.Reopen();
  EXPECT_THAT(Unreachable(), ElementsAre("fraud"));
  files.observer().SetBefore(nullptr);
  EXPECT_OK(Get("fraud"));
  EXPECT_THAT(Unreachable(), IsEmpty());
}

TEST_P(CorruptRecords, AreLoggedOnceAndSoAreEdits) {
  Create("fraud");
  EXPECT_THAT(files.log_lines, IsEmpty());
  WriteRecord("fraud", OriginalRecord("fraud", base().Path("fraud")));
  ASSERT_OK(Get("fraud"));
  EXPECT_THAT(files.log_lines,
              ElementsAre(HasSubstr(
                  "workspace fraud: another program changed its record")));
  files.log_lines.clear();
  WriteRecord("fraud", "- no map\n");
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(Get("fraud").ok());
  EXPECT_THAT(files.log_lines,
              ElementsAre(AllOf(HasSubstr("workspace fraud cannot be read"),
                                HasSubstr("a map"))));
  files.log_lines.clear();
  files.Reopen();
  EXPECT_THAT(files.log_lines,
              ElementsAre(HasSubstr("workspace fraud cannot be read")));
}

TEST_P(CorruptRecords, FillNoLog) {
  for (int i = 0; i < 100; ++i)
    WriteRecord(absl::StrCat("bad", i), "- no map\n");
  files.Reopen();
  EXPECT_EQ(files.log_lines.size(), RecordLog::kBurst);
  files.log_lines.clear();
  files.clock.Advance(absl::Seconds(10));
  WriteRecord("last", "- no map\n");
  EXPECT_FALSE(Get("last").ok());
  EXPECT_THAT(files.log_lines,
              ElementsAre(HasSubstr("80 such lines before it were dropped")));
}

INSTANTIATE_TEST_SUITE_P(Calls, CorruptRecords, testing::Bool(), CallsName);

}  // namespace
}  // namespace mlops::catalog
