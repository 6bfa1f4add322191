#include "service/fs/scan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "service/base/unique_fd.h"
#include "tests/support/matchers.h"
#include "tests/support/observed_dir.h"
#include "tests/unit/fs/fs_fixture.h"

namespace mlops::fs {
namespace {

using absl::StatusCode;
using support::DirObserver;
using support::IsError;
using support::ObservedDir;
using testing::IsEmpty;
using testing::SizeIs;

bool Never() { return false; }

class ScanTest : public FsTest {
 protected:
  TreeUsage Scan(absl::string_view path = "tree") { return ScanTree(*dir, path, Never).value(); }
  // The same directory, with hooks.
  ObservedDir Observed() { return ObservedDir(OpenBaseDir(temp.path(), {.portable = GetParam()}).value(), observer); }

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
  ASSERT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
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
  EXPECT_THAT(ScanTree(*dir, "missing", Never), IsError(StatusCode::kNotFound, ""));
  EXPECT_THAT(ScanTree(*dir, "file", Never), IsError(StatusCode::kFailedPrecondition, "PATH_UNSUITABLE"));
  EXPECT_THAT(ScanTree(*dir, "link", Never), IsError(StatusCode::kFailedPrecondition, "PATH_UNSUITABLE"));
}

TEST_P(ScanTest, ATreeMayBeDeeperThanAnyPathIsLong) {
  MakeDeepTree("tree", 1500);
  const TreeUsage usage = Scan();
  EXPECT_EQ(usage.file_count, 1);
  EXPECT_EQ(usage.size_bytes, 3);
  EXPECT_THAT(usage.problems, IsEmpty());
}

TEST_P(ScanTest, NamesNeedNotBeText) {
  temp.WriteFile("tree/\xff\xfe/\n", "12345");
  EXPECT_EQ(Scan().size_bytes, 5);
}

TEST_P(ScanTest, WhatVanishesMeanwhileIsNotCounted) {
  for (const char* name : {"a", "b", "c"}) temp.WriteFile(absl::StrCat("tree/", name, "/file"), "1");
  ObservedDir observed = Observed();
  observer->SetBefore([&](absl::string_view call) {
    if (call == "OpenDir tree/b") temp.Remove("tree/b");
    if (call == "Stat tree/a/file") temp.Remove("tree/a/file");
    return absl::OkStatus();
  });
  const TreeUsage usage = ScanTree(observed, "tree", Never).value();
  EXPECT_EQ(usage.file_count, 1);
  EXPECT_THAT(usage.problems, IsEmpty());
}

TEST_P(ScanTest, WhatCannotBeReadIsAProblemAndTheRestIsCounted) {
  for (const char* name : {"a", "b", "c"}) temp.WriteFile(absl::StrCat("tree/", name, "/file"), "1");
  ObservedDir observed = Observed();
  observer->SetBefore([](absl::string_view call) {
    return call == "OpenDir tree/b" || call == "Stat tree/c/file" ? absl::InternalError("denied") : absl::OkStatus();
  });
  const TreeUsage usage = ScanTree(observed, "tree", Never).value();
  EXPECT_EQ(usage.file_count, 1);
  EXPECT_THAT(usage.problems, testing::ElementsAre(absl::InternalError("denied"), absl::InternalError("denied")));
}

TEST_P(ScanTest, ProblemsAreBounded) {
  for (int i = 0; i < 30; ++i) temp.MakeDirs(absl::StrCat("tree/", i));
  ObservedDir observed = Observed();
  observer->SetBefore([](absl::string_view call) {
    return absl::StartsWith(call, "OpenDir tree/") ? absl::InternalError("denied") : absl::OkStatus();
  });
  EXPECT_THAT(ScanTree(observed, "tree", Never).value().problems, SizeIs(10));
}

TEST_P(ScanTest, StopsSoonWhenCancelled) {
  for (int i = 0; i < 30; ++i) temp.MakeDirs(absl::StrCat("tree/", i));
  int asked = 0;
  EXPECT_THAT(ScanTree(*dir, "tree", [&] { return ++asked == 3; }), IsError(StatusCode::kCancelled, ""));
  EXPECT_EQ(asked, 3);
}

TEST_P(ScanTest, OtherFileSystemsAreNotEntered) {
  // /proc is another file system than /, and one whose sizes would be seen.
  const auto root = OpenBaseDir("/", {.portable = GetParam()}).value();
  if (root->Stat("proc").value().device == root->StatSelf().value().device) GTEST_SKIP() << "no /proc here";
  int opened_below_proc = 0;
  ObservedDir observed(OpenBaseDir("/", {.portable = GetParam()}).value(), observer);
  observer->SetBefore([&](absl::string_view call) {
    opened_below_proc += absl::StartsWith(call, "OpenDir ./proc/") || absl::StartsWith(call, "OpenDir proc/") ? 1 : 0;
    // Of the others in the root only the names are needed.
    const bool other = absl::StartsWith(call, "OpenDir ") && !absl::StrContains(call, "proc") && call != "OpenDir .";
    return other ? absl::NotFoundError("") : absl::OkStatus();
  });
  EXPECT_OK(ScanTree(observed, ".", Never));
  EXPECT_EQ(opened_below_proc, 0);
}

INSTANTIATE_TEST_SUITE_P(Calls, ScanTest, testing::Bool(), CallsName);

}  // namespace
}  // namespace mlops::fs
