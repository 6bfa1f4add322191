#include "service/fs/remove_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/support/matchers.h"
#include "tests/support/observed_dir.h"
#include "tests/unit/fs/fs_fixture.h"

namespace mlops::fs {
namespace {

using absl::StatusCode;
using support::IsError;
using testing::Each;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Le;

constexpr int64_t kUnlimited = 1'000'000'000;

class RemoveTreeTest : public FsTest {
 protected:
  // Removes "tree" in steps of `max_entries`. Returns the total, and the number
  // of calls in `*calls`.
  RemovedTree RemoveInSteps(int64_t max_entries, int* calls) {
    RemovedTree sum;
    for (*calls = 0; !sum.complete; ++*calls) {
      const RemovedTree removed = RemoveTree(*dir, "tree", max_entries).value();
      EXPECT_LE(removed.entry_count, max_entries + 1);
      sum.file_count += removed.file_count;
      sum.size_bytes += removed.size_bytes;
      sum.complete = removed.complete;
    }
    return sum;
  }
};

TEST_P(RemoveTreeTest, RemovesAllAndTellsHowMuch) {
  temp.WriteFile("tree/a", "1");
  temp.WriteFile("tree/sub/b", "22");
  temp.MakeDirs("tree/empty/empty");
  temp.MakeFifo("tree/fifo");
  temp.WriteFile("other", "stays");
  const RemovedTree removed = RemoveTree(*dir, "tree", kUnlimited).value();
  EXPECT_TRUE(removed.complete);
  EXPECT_EQ(removed.file_count, 2);
  EXPECT_EQ(removed.size_bytes, 3);
  EXPECT_THAT(NamesIn(*dir), ElementsAre("other"));
}

TEST_P(RemoveTreeTest, WhatIsNotThereIsComplete) {
  EXPECT_TRUE(RemoveTree(*dir, "tree", kUnlimited).value().complete);
  EXPECT_TRUE(RemoveTree(*dir, "no/tree", kUnlimited).value().complete);
}

TEST_P(RemoveTreeTest, ASingleFileIsATreeToo) {
  temp.WriteFile("file", "12345");
  temp.Link("nowhere", "link");
  EXPECT_EQ(RemoveTree(*dir, "file", kUnlimited).value().size_bytes, 5);
  EXPECT_EQ(RemoveTree(*dir, "link", kUnlimited).value().file_count, 0);
  EXPECT_THAT(NamesIn(*dir), IsEmpty());
}

TEST_P(RemoveTreeTest, LinksGoButNotWhatTheyStandFor) {
  const support::TempDir outside;
  outside.WriteFile("file", "mine");
  temp.MakeDirs("tree");
  temp.Link(outside.path(), "tree/link-to-dir");
  temp.Link(outside.Path("file"), "tree/link-to-file");
  const RemovedTree removed = RemoveTree(*dir, "tree", kUnlimited).value();
  EXPECT_EQ(removed.file_count, 0);
  EXPECT_THAT(NamesIn(*dir), IsEmpty());
  EXPECT_EQ(outside.ReadFile("file"), "mine");
}

TEST_P(RemoveTreeTest, ADeepTreeGoesWithFewDescriptors) {
  MakeDeepTree("tree", 1500);
  const auto observer = std::make_shared<support::DirObserver>();
  support::ObservedDir observed(
      OpenBaseDir(temp.path(), {.portable = GetParam()}).value(), observer);
  int deepest = 0;
  observer->SetBefore([&](absl::string_view call) {
    if (absl::StartsWith(call, "OpenDir")) {
      deepest = std::max(
          deepest, static_cast<int>(std::count(call.begin(), call.end(), '/')));
    }
    return absl::OkStatus();
  });
  EXPECT_TRUE(RemoveTree(observed, "tree", kUnlimited).value().complete);
  EXPECT_THAT(NamesIn(*dir), IsEmpty());
  EXPECT_LE(deepest, 20);
}

TEST_P(RemoveTreeTest, ADeepTreeGoesInSteps) {
  MakeDeepTree("tree", 200);
  int calls = 0;
  const RemovedTree removed = RemoveInSteps(7, &calls);
  EXPECT_EQ(removed.file_count, 1);
  EXPECT_GE(calls, 200 / 7);
  EXPECT_THAT(NamesIn(*dir), IsEmpty());
}

TEST_P(RemoveTreeTest, AWideTreeGoesInSteps) {
  for (int i = 0; i < 600; ++i)
    temp.WriteFile(absl::StrCat("tree/", i % 3, "/", i), "12");
  int calls = 0;
  const RemovedTree removed = RemoveInSteps(100, &calls);
  EXPECT_EQ(removed.file_count, 600);
  EXPECT_EQ(removed.size_bytes, 1200);
  EXPECT_GE(calls, 6);
  EXPECT_LE(calls, 8);
}

TEST_P(RemoveTreeTest, ABudgetOfOneGetsThere) {
  temp.WriteFile("tree/a/b/c", "1");
  temp.WriteFile("tree/d", "1");
  int calls = 0;
  EXPECT_EQ(RemoveInSteps(1, &calls).file_count, 2);
  EXPECT_THAT(NamesIn(*dir), IsEmpty());
}

TEST_P(RemoveTreeTest, WhatVanishesMeanwhileIsNoError) {
  for (const char* name : {"a", "b"})
    temp.WriteFile(absl::StrCat("tree/", name), "1");
  const auto observer = std::make_shared<support::DirObserver>();
  support::ObservedDir observed(
      OpenBaseDir(temp.path(), {.portable = GetParam()}).value(), observer);
  observer->SetBefore([&](absl::string_view call) {
    if (call == "RemoveFile tree/a") temp.Remove("tree/a");
    return absl::OkStatus();
  });
  const RemovedTree removed = RemoveTree(observed, "tree", kUnlimited).value();
  EXPECT_TRUE(removed.complete);
  EXPECT_EQ(removed.file_count, 1);
}

TEST_P(RemoveTreeTest, AnErrorIsReturned) {
  temp.WriteFile("tree/a", "1");
  const auto observer = std::make_shared<support::DirObserver>();
  support::ObservedDir observed(
      OpenBaseDir(temp.path(), {.portable = GetParam()}).value(), observer);
  observer->SetBefore([](absl::string_view call) {
    return call == "RemoveFile tree/a" ? absl::InternalError("stuck")
                                       : absl::OkStatus();
  });
  EXPECT_THAT(RemoveTree(observed, "tree", kUnlimited),
              IsError(StatusCode::kInternal, ""));
  EXPECT_TRUE(temp.Exists("tree/a"));
}

INSTANTIATE_TEST_SUITE_P(Calls, RemoveTreeTest, testing::Bool(), CallsName);

}  // namespace
}  // namespace mlops::fs
