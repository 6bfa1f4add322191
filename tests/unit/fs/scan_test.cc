#include "service/fs/scan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "proto/cpp/base/status_macros.h"
#include "proto/cpp/base/unique_fd.h"
#include "tests/support/matchers.h"
#include "tests/support/observed_dir.h"
#include "tests/unit/fs/fs_fixture.h"

namespace mlops::fs {
namespace {

using absl::StatusCode;
using support::DirObserver;
using support::IsError;
using support::ObservedDir;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

bool Never() { return false; }

class ScanTest : public FsTest {
 protected:
  // Returns the single usage of a scan without groups.
  static absl::StatusOr<TreeUsage> ScanWhole(
      const Dir& dir, absl::string_view path,
      absl::FunctionRef<bool()> cancelled, const ScanOptions& options = {}) {
    ASSIGN_OR_RETURN(const auto usages,
                     ScanTree(dir, path, options, cancelled));
    EXPECT_THAT(usages, SizeIs(1));
    return usages[0];
  }
  TreeUsage Scan(const ScanOptions& options = {}) {
    return ScanWhole(*dir, "tree", Never, options).value();
  }
  // Ten directories with 20 subdirectories of two 2-byte files each:
  // enough work to ask for help.
  void MakeLargeTree() {
    for (int i = 0; i < 400; ++i)
      temp.WriteFile(absl::StrCat("tree/", i % 10, "/", i / 20, "/", i), "12");
  }
  // The same directory, observed.
  ObservedDir Observed() {
    return ObservedDir(
        OpenBaseDir(temp.path(), {.portable = GetParam()}).value(), observer);
  }

  const std::shared_ptr<DirObserver> observer = std::make_shared<DirObserver>();
};

TEST_P(ScanTest, CountsFilesAtEveryLevel) {
  temp.WriteFile("tree/a", "1");
  temp.WriteFile("tree/.hidden", "22");
  temp.WriteFile("tree/sub/b", "333");
  temp.WriteFile("tree/sub/sub/c", "4444");
  temp.MakeDirs("tree/empty/empty");
  temp.WriteFile("other", "not in the tree");
  const TreeUsage usage = Scan();
  EXPECT_EQ(usage.file_count, 4);
  EXPECT_EQ(usage.size_bytes, 10);
  EXPECT_THAT(usage.problems, IsEmpty());
}

TEST_P(ScanTest, AnEmptyTreeHasItsOwnTime) {
  temp.MakeDirs("tree");
  const TreeUsage usage = Scan();
  EXPECT_EQ(usage.file_count, 0);
  EXPECT_EQ(usage.size_bytes, 0);
  EXPECT_EQ(usage.modify_time, dir->Stat("tree").value().modify_time);
}

TEST_P(ScanTest, TellsTheNewestTime) {
  temp.WriteFile("tree/sub/old", "");
  temp.WriteFile("tree/sub/new", "");
  const timeval future[2] = {{4'000'000'000, 0}, {4'000'000'000, 0}};
  ASSERT_EQ(::utimes(temp.Path("tree/sub/new").c_str(), future), 0);
  EXPECT_EQ(Scan().modify_time, absl::FromUnixSeconds(4'000'000'000));
}

TEST_P(ScanTest, FollowsNoLinkAndCountsOnlyRegularFiles) {
  const support::TempDir outside;
  outside.WriteFile("big", std::string(1000, 'x'));
  temp.WriteFile("tree/file", "12345");
  temp.Link(outside.path(), "tree/link-to-dir");
  temp.Link(outside.Path("big"), "tree/link-to-file");
  temp.Link("tree", "tree/loop");
  temp.MakeFifo("tree/fifo");
  const base::UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address = {.sun_family = AF_UNIX};
  temp.Path("tree/socket").copy(address.sun_path, sizeof(address.sun_path) - 1);
  ASSERT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address),
                   sizeof(address)),
            0);
  const TreeUsage usage = Scan();
  EXPECT_EQ(usage.file_count, 1);
  EXPECT_EQ(usage.size_bytes, 5);
  EXPECT_THAT(usage.problems, IsEmpty());
}

TEST_P(ScanTest, HardLinksCountAtEachName) {
  temp.WriteFile("tree/a", "12345");
  std::filesystem::create_hard_link(temp.Path("tree/a"), temp.Path("tree/b"));
  EXPECT_EQ(Scan().file_count, 2);
  EXPECT_EQ(Scan().size_bytes, 10);
}

TEST_P(ScanTest, TheTopMustBeADirectory) {
  temp.WriteFile("file", "");
  temp.Link(temp.path(), "link");
  EXPECT_THAT(ScanWhole(*dir, "missing", Never),
              IsError(StatusCode::kNotFound, ""));
  EXPECT_THAT(ScanWhole(*dir, "file", Never),
              IsError(StatusCode::kFailedPrecondition, "PATH_UNSUITABLE"));
  EXPECT_THAT(ScanWhole(*dir, "link", Never),
              IsError(StatusCode::kFailedPrecondition, "PATH_UNSUITABLE"));
}

TEST_P(ScanTest, ATreeMayBeDeeperThanAnyPathIsLongAndThereAreDescriptors) {
  MakeDeepTree("tree", 1500);
  rlimit before;
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit few = {.rlim_cur = 40, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
  const TreeUsage usage = Scan();
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(usage.file_count, 1);
  EXPECT_EQ(usage.size_bytes, 3);
  EXPECT_THAT(usage.problems, IsEmpty());
}

TEST_P(ScanTest, NamesNeedNotBeText) {
  temp.WriteFile("tree/\xff\xfe/\n", "12345");
  EXPECT_EQ(Scan().size_bytes, 5);
}

TEST_P(ScanTest, WhatVanishesMeanwhileIsNotCounted) {
  for (const char* name : {"a", "b", "c"})
    temp.WriteFile(absl::StrCat("tree/", name, "/file"), "1");
  ObservedDir observed = Observed();
  observer->SetBefore([&](absl::string_view call) {
    if (call == "OpenDir tree/b") temp.Remove("tree/b");
    if (call == "Stat tree/a/file") temp.Remove("tree/a/file");
    return absl::OkStatus();
  });
  const TreeUsage usage = ScanWhole(observed, "tree", Never).value();
  EXPECT_EQ(usage.file_count, 1);
  EXPECT_THAT(usage.problems, IsEmpty());
}

TEST_P(ScanTest, WhatCannotBeReadIsAProblemAndTheRestIsCounted) {
  for (const char* name : {"a", "b", "c"})
    temp.WriteFile(absl::StrCat("tree/", name, "/file"), "1");
  ObservedDir observed = Observed();
  observer->SetBefore([](absl::string_view call) {
    return call == "OpenDir tree/b" || call == "Stat tree/c/file"
               ? absl::InternalError("denied")
               : absl::OkStatus();
  });
  const TreeUsage usage = ScanWhole(observed, "tree", Never).value();
  EXPECT_EQ(usage.file_count, 1);
  EXPECT_THAT(usage.problems, ElementsAre(absl::InternalError("denied"),
                                          absl::InternalError("denied")));
}

TEST_P(ScanTest, ProblemsAreBounded) {
  for (int i = 0; i < 30; ++i) temp.MakeDirs(absl::StrCat("tree/", i));
  ObservedDir observed = Observed();
  observer->SetBefore([](absl::string_view call) {
    return absl::StartsWith(call, "OpenDir tree/")
               ? absl::InternalError("denied")
               : absl::OkStatus();
  });
  EXPECT_THAT(ScanWhole(observed, "tree", Never).value().problems, SizeIs(10));
}

TEST_P(ScanTest, StopsSoonWhenCancelled) {
  for (int i = 0; i < 30; ++i) temp.MakeDirs(absl::StrCat("tree/", i));
  int asked = 0;
  EXPECT_THAT(ScanWhole(*dir, "tree", [&] { return ++asked == 3; }),
              IsError(StatusCode::kCancelled, ""));
  EXPECT_EQ(asked, 3);
}

TEST_P(ScanTest, OtherFileSystemsAreNotEntered) {
  // /proc is a file system other than /, and its sizes would show.
  const auto root = OpenBaseDir("/", {.portable = GetParam()}).value();
  if (root->Stat("proc").value().device == root->StatSelf().value().device)
    GTEST_SKIP() << "no /proc here";
  int opened_below_proc = 0;
  ObservedDir observed(OpenBaseDir("/", {.portable = GetParam()}).value(),
                       observer);
  observer->SetBefore([&](absl::string_view call) {
    opened_below_proc += absl::StartsWith(call, "OpenDir ./proc/") ||
                                 absl::StartsWith(call, "OpenDir proc/")
                             ? 1
                             : 0;
    // Hide all other directories in the root to keep the test fast.
    const bool other = absl::StartsWith(call, "OpenDir ") &&
                       !absl::StrContains(call, "proc") && call != "OpenDir .";
    return other ? absl::NotFoundError("") : absl::OkStatus();
  });
  EXPECT_OK(ScanWhole(observed, ".", Never));
  EXPECT_EQ(opened_below_proc, 0);
}

TEST_P(ScanTest, ATreeThatIsRemovedOrReplacedMeanwhileIsNotFound) {
  for (const bool replaced : {false, true}) {
    temp.WriteFile("tree/a/file", "1");
    ObservedDir observed = Observed();
    observer->SetBefore([&](absl::string_view call) {
      if (call != "OpenDir tree/a") return absl::OkStatus();
      std::filesystem::rename(temp.Path("tree"),
                              temp.Path(absl::StrCat("away", replaced)));
      if (replaced) temp.MakeDirs("tree");
      return absl::OkStatus();
    });
    EXPECT_THAT(ScanWhole(observed, "tree", Never),
                IsError(StatusCode::kNotFound, ""));
  }
}

TEST_P(ScanTest, OnlyCountsAreToldWhereNoMoreIsAskedFor) {
  temp.WriteFile("tree/sub/file", "12345");
  const TreeUsage usage = Scan({.counts_only = true});
  EXPECT_EQ(usage.file_count, 1);
  EXPECT_EQ(usage.size_bytes, 0);
  EXPECT_EQ(usage.modify_time, absl::InfinitePast());
}

TEST_P(ScanTest, GroupsAreCountedApart) {
  temp.WriteFile("tree/file", "1");
  temp.WriteFile("tree/rest/a/file", "22");
  temp.WriteFile("tree/models/a/file", "333");
  temp.MakeDirs("tree/empty");
  temp.Link("models", "tree/link");
  const std::vector<absl::string_view> groups = {"models", "missing", "empty",
                                                 "link"};
  const auto usages = ScanTree(*dir, "tree", {.groups = groups}, Never).value();
  std::vector<int64_t> sizes, exist;
  for (const TreeUsage& usage : usages) {
    sizes.push_back(usage.size_bytes);
    exist.push_back(usage.exists);
  }
  EXPECT_THAT(sizes, ElementsAre(3, 0, 0, 0, 3));
  EXPECT_THAT(exist, ElementsAre(1, 0, 1, 0, 1));
  EXPECT_THAT(usages[1].problems, IsEmpty());
  EXPECT_THAT(
      usages[3].problems,
      ElementsAre(IsError(StatusCode::kFailedPrecondition, "PATH_UNSUITABLE")));
}

TEST_P(ScanTest, GroupsAreCountedWhereTheirParentCannotBeRead) {
  temp.WriteFile("tree/models/file", "333");
  ObservedDir observed = Observed();
  observer->SetBefore([](absl::string_view call) {
    return call == "OpenDir tree" ? absl::InternalError("denied")
                                  : absl::OkStatus();
  });
  const std::vector<absl::string_view> groups = {"models"};
  const auto usages =
      ScanTree(observed, "tree", {.groups = groups}, Never).value();
  EXPECT_EQ(usages[0].size_bytes, 3);
  EXPECT_THAT(usages[1].problems, ElementsAre(absl::InternalError("denied")));
}

TEST_P(ScanTest, AWideDirectoryIsCounted) {
  temp.MakeDirs("tree");
  for (int i = 0; i < 1500; ++i)
    temp.WriteFile(absl::StrCat("tree/a-name-of-some-length-", i), "12");
  EXPECT_EQ(Scan().file_count, 1500);
  EXPECT_EQ(Scan().size_bytes, 3000);
}

// --- Helper threads ---

TEST_P(ScanTest, HelpersChangeNoSum) {
  MakeLargeTree();
  base::ThreadPool helpers(3, 10);
  for (int i = 0; i < 20; ++i) {
    const TreeUsage usage = Scan({.helpers = &helpers});
    ASSERT_EQ(usage.file_count, 400);
    ASSERT_EQ(usage.size_bytes, 800);
    ASSERT_EQ(usage.modify_time, Scan().modify_time);
  }
}

TEST_P(ScanTest, HelpersThatComeTooLateFindNothingToDo) {
  MakeLargeTree();
  absl::Notification go_on;
  base::ThreadPool helpers(1, 10);
  ASSERT_TRUE(helpers.TrySchedule([&] { go_on.WaitForNotification(); }));
  EXPECT_EQ(Scan({.helpers = &helpers}).file_count, 400);
  go_on.Notify();
}

TEST_P(ScanTest, HelpersStopWhenTheScanIsCancelled) {
  MakeLargeTree();
  base::ThreadPool helpers(3, 10);
  int asked = 0;
  EXPECT_THAT(ScanWhole(*dir, "tree", [&] { return ++asked > 57; },
                        {.helpers = &helpers}),
              IsError(StatusCode::kCancelled, ""));
}

TEST_P(ScanTest, ProblemsAreToldAndBoundedWhoeverMeetsThem) {
  MakeLargeTree();
  ObservedDir observed = Observed();
  observer->SetBefore([](absl::string_view call) {
    return absl::StartsWith(call, "OpenDir tree/9/")
               ? absl::InternalError("denied")
               : absl::OkStatus();
  });
  base::ThreadPool helpers(3, 10);
  const TreeUsage usage =
      ScanWhole(observed, "tree", Never, {.helpers = &helpers}).value();
  EXPECT_EQ(usage.file_count, 360);
  EXPECT_THAT(usage.problems, SizeIs(10));
}

INSTANTIATE_TEST_SUITE_P(Calls, ScanTest, testing::Bool(), CallsName);

}  // namespace
}  // namespace mlops::fs
