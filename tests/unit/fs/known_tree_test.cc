// Tests scans that use the results of earlier ones.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "service/fs/scan.h"
#include "tests/support/matchers.h"
#include "tests/support/observed_dir.h"
#include "tests/unit/fs/fs_fixture.h"

namespace mlops::fs {
namespace {

using support::DirObserver;
using support::ObservedDir;
using testing::Each;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::StartsWith;
using testing::UnorderedElementsAre;

bool Never() { return false; }

class KnownTreeTest : public FsTest {
 protected:
  // Counts files at a time so long after the last change that all stamps
  // are trusted, provided that a tick passes before the next change.
  int64_t Count(absl::Time now = absl::Now() + absl::Hours(1)) {
    const auto usages =
        ScanTree(observed, "tree",
                 {.counts_only = true, .known = &known, .now = now}, Never);
    return usages.value()[0].file_count;
  }
  // Returns the directories read since the last call.
  std::vector<std::string> TakeReads() {
    std::vector<std::string> reads;
    for (const std::string& call : observer->Take()) {
      absl::string_view place = call;
      if (absl::ConsumePrefix(&place, "ForEachEntry "))
        reads.emplace_back(place);
    }
    return reads;
  }
  static void PassATick() { absl::SleepFor(absl::Milliseconds(25)); }

  const std::shared_ptr<DirObserver> observer = std::make_shared<DirObserver>();
  const ObservedDir observed{
      OpenBaseDir(temp.path(), {.portable = GetParam()}).value(), observer};
  KnownTree known{1 << 20};
};

TEST_P(KnownTreeTest, WhatHasNotChangedIsOnlyLookedAt) {
  for (const char* path : {"tree/a/1", "tree/a/2", "tree/b/c/3"})
    temp.WriteFile(path, "");
  EXPECT_EQ(Count(), 3);
  observer->Take();
  EXPECT_EQ(Count(), 3);
  const auto calls = observer->Take();
  EXPECT_THAT(calls, Each(StartsWith("Stat tree")));
  // One call per directory, and one to check that the tree was not replaced.
  EXPECT_EQ(calls.size(), 5u);
}

TEST_P(KnownTreeTest, OnlyWhatHasChangedIsRead) {
  for (const char* path : {"tree/a/1", "tree/b/2", "tree/b/c/3"})
    temp.WriteFile(path, "");
  EXPECT_EQ(Count(), 3);
  PassATick();
  temp.WriteFile("tree/b/4", "");
  TakeReads();
  EXPECT_EQ(Count(), 4);
  EXPECT_THAT(TakeReads(), ElementsAre("tree/b"));
}

TEST_P(KnownTreeTest, WhatStaysIsStillKnownWhereOthersComeAndGo) {
  for (const char* path : {"tree/a/1", "tree/b/2", "tree/c/3"})
    temp.WriteFile(path, "");
  EXPECT_EQ(Count(), 3);
  PassATick();
  temp.Remove("tree/b");
  temp.WriteFile("tree/d/4", "");
  TakeReads();
  EXPECT_EQ(Count(), 3);
  EXPECT_THAT(TakeReads(), UnorderedElementsAre("tree", "tree/d"));
}

TEST_P(KnownTreeTest, AStampOfTheSameTickAsTheScanIsNotBelieved) {
  temp.WriteFile("tree/1", "");
  EXPECT_EQ(Count(absl::Now()), 1);
  // May leave the same stamp.
  temp.WriteFile("tree/2", "");
  EXPECT_EQ(Count(absl::Now()), 2);
}

TEST_P(KnownTreeTest, ADirectoryInThePlaceOfAnotherIsRead) {
  temp.WriteFile("tree/a/1", "");
  temp.WriteFile("other/1", "");
  temp.WriteFile("other/2", "");
  EXPECT_EQ(Count(), 1);
  temp.Remove("tree/a");
  std::filesystem::rename(temp.Path("other"), temp.Path("tree/a"));
  EXPECT_EQ(Count(), 2);
}

TEST_P(KnownTreeTest, AScanOfSizesBringsItUpToDate) {
  temp.WriteFile("tree/a/1", "123");
  const ScanOptions options{.known = &known,
                            .now = absl::Now() + absl::Hours(1)};
  EXPECT_EQ(ScanTree(observed, "tree", options, Never).value()[0].size_bytes,
            3);
  TakeReads();
  EXPECT_EQ(Count(), 1);
  EXPECT_THAT(TakeReads(), IsEmpty());
}

TEST_P(KnownTreeTest, ForSizesOnlyWhatHasFilesIsReadAgain) {
  temp.WriteFile("tree/a/b/1", "123");
  temp.MakeDirs("tree/c");
  const ScanOptions options{.known = &known,
                            .now = absl::Now() + absl::Hours(1)};
  const TreeUsage first = ScanTree(observed, "tree", options, Never).value()[0];
  TakeReads();
  PassATick();
  {
    std::ofstream(temp.Path("tree/a/b/1")) << "12345";
  }  // No directory changes.
  const TreeUsage second =
      ScanTree(observed, "tree", options, Never).value()[0];
  EXPECT_THAT(TakeReads(), ElementsAre("tree/a/b"));
  EXPECT_EQ(second.file_count, 1);
  EXPECT_EQ(second.size_bytes, 5);
  EXPECT_GT(second.modify_time, first.modify_time);
  PassATick();
  temp.MakeDirs("tree/c/d");
  EXPECT_GT(ScanTree(observed, "tree", options, Never).value()[0].modify_time,
            second.modify_time);
}

TEST_P(KnownTreeTest, WhatCouldNotBeReadIsReadAgain) {
  temp.WriteFile("tree/a/1", "");
  observer->SetBefore([](absl::string_view call) {
    return call == "OpenDir tree/a" ? absl::InternalError("denied")
                                    : absl::OkStatus();
  });
  EXPECT_EQ(Count(), 0);
  observer->SetBefore(nullptr);
  EXPECT_EQ(Count(), 1);
}

TEST_P(KnownTreeTest, MemoryIsBoundedAndTheCountIsRightAllTheSame) {
  for (int i = 0; i < 100; ++i)
    temp.WriteFile(absl::StrCat("tree/", i % 10, "/", i, "/file"), "");
  KnownTree small(2000);
  for (int round = 0; round < 3; ++round) {
    const ScanOptions options{.counts_only = true,
                              .known = &small,
                              .now = absl::Now() + absl::Hours(1)};
    EXPECT_EQ(ScanTree(*dir, "tree", options, Never).value()[0].file_count,
              100);
    EXPECT_GT(small.bytes, 1000u);
    EXPECT_LE(small.bytes, 2000u);
  }
}

TEST_P(KnownTreeTest, ADeepTreeMayBeKnownInPart) {
  MakeDeepTree("tree", 300);
  EXPECT_EQ(Count(), 1);
  EXPECT_EQ(Count(), 1);
}

// Makes random changes, and regularly compares a count that uses earlier
// results with one that does not.
TEST_P(KnownTreeTest, IsNeverWrong) {
  std::minstd_rand random(1);
  base::ThreadPool helpers(2, 10);
  temp.MakeDirs("tree");
  const auto place = [&] {
    return absl::StrCat("tree/", random() % 4, "/", random() % 4, "/",
                        random() % 6);
  };
  for (int round = 0; round < 40; ++round) {
    for (int i = 0; i < 10; ++i) {
      const std::string path = place();
      if (random() % 3 == 0) {
        temp.Remove(random() % 2 == 0 ? path : path.substr(0, 8));
      } else if (random() % 4 == 0) {
        std::error_code ignored;
        std::filesystem::rename(temp.Path(path.substr(0, 8)),
                                temp.Path(place().substr(0, 8)), ignored);
      } else {
        temp.WriteFile(absl::StrCat(path, "/", random() % 3),
                       std::string(random() % 9, 'x'));
      }
    }
    PassATick();
    const bool counts_only = random() % 2 == 0;
    const ScanOptions options{
        .counts_only = counts_only, .helpers = &helpers, .known = &known};
    const TreeUsage with = ScanTree(*dir, "tree", options, Never).value()[0];
    const TreeUsage without = ScanTree(*dir, "tree", {}, Never).value()[0];
    ASSERT_EQ(with.file_count, without.file_count);
    if (counts_only) continue;
    ASSERT_EQ(with.size_bytes, without.size_bytes);
    ASSERT_EQ(with.modify_time, without.modify_time);
  }
  temp.Remove("tree");
  temp.MakeDirs("tree");
  EXPECT_EQ(Count(), 0);
  EXPECT_EQ(known.bytes, 0u);
}

INSTANTIATE_TEST_SUITE_P(Calls, KnownTreeTest, testing::Bool(), CallsName);

}  // namespace
}  // namespace mlops::fs
