// Tests paged lists: which directories they read, and that cached names do
// not change the result.
#include "service/artifacts/list.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "service/artifacts/dir_names.h"
#include "tests/support/fake_clock.h"
#include "tests/support/matchers.h"
#include "tests/support/observed_dir.h"
#include "tests/support/temp_dir.h"

namespace mlops::artifacts {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;

constexpr size_t kPageSize = 1000;

class ArtifactListTest : public testing::Test {
 protected:
  // Far enough in the future that the stamps of the files made here
  // are trusted.
  ArtifactListTest() { clock.Advance(absl::Hours(1)); }

  void MakeFiles(const std::string& directory, int count) {
    for (int i = 0; i < count; ++i)
      temp.WriteFile(absl::StrCat(directory, "/", Name(i)), "");
  }
  static std::string Name(int i) {
    return absl::StrCat("file-", absl::Dec(i, absl::kZeroPad5));
  }

  TreePage List(const std::string& top, const std::string& after,
                bool recursive = false) {
    const auto dir = root->OpenDir(top).value();
    auto page = ListTree(*dir, top, recursive, after, kPageSize, cache.get());
    EXPECT_OK(page);
    return *std::move(page);
  }
  // Returns all pages; calls `between` after each.
  std::vector<std::string> ListAll(const std::string& top, bool recursive,
                                   const std::function<void()>& between = {}) {
    std::vector<std::string> paths;
    TreePage page{.more = true};
    while (page.more) {
      page =
          List(top, page.last.empty() ? "" : page.last.substr(top.size() + 1),
               recursive);
      for (const Artifact& artifact : page.artifacts)
        paths.push_back(artifact.path);
      if (between) between();
    }
    return paths;
  }
  // Returns how often a directory was read since the last call.
  int64_t Reads() {
    const std::vector<std::string> calls = observer->Take();
    return std::count_if(calls.begin(), calls.end(), [](const auto& call) {
      return absl::StartsWith(call, "ForEach");
    });
  }

  const support::TempDir temp;
  support::JumpingClock clock;
  const std::shared_ptr<support::DirObserver> observer =
      std::make_shared<support::DirObserver>();
  const std::unique_ptr<fs::Dir> root = std::make_unique<support::ObservedDir>(
      fs::OpenBaseDir(temp.path()).value(), observer);
  std::unique_ptr<DirNamesCache> cache =
      std::make_unique<DirNamesCache>(1 << 20, clock.clock());
};

TEST_F(ArtifactListTest, ALargeDirectoryIsReadOnceForAllItsPages) {
  MakeFiles("models", 5 * kPageSize + 1);
  const std::vector<std::string> paths = ListAll("models", /*recursive=*/false);
  EXPECT_EQ(Reads(), 1);
  ASSERT_EQ(paths.size(), 5 * kPageSize + 1);
  for (size_t i = 0; i < paths.size(); ++i)
    EXPECT_EQ(paths[i], absl::StrCat("models/", Name(static_cast<int>(i))));
  // A new list reads the directory again at its beginning.
  EXPECT_EQ(ListAll("models", /*recursive=*/false), paths);
  EXPECT_EQ(Reads(), 1);
}

TEST_F(ArtifactListTest, SoIsOneThatIsMetOnTheWay) {
  MakeFiles("models/a/many", 3 * kPageSize);
  MakeFiles("models/b", 2);
  const std::vector<std::string> paths = ListAll("models", /*recursive=*/true);
  EXPECT_EQ(paths.size(), 3 * kPageSize + 5);
  cache = std::make_unique<DirNamesCache>(/*max_bytes=*/0, clock.clock());
  EXPECT_EQ(ListAll("models", /*recursive=*/true), paths);
}

TEST_F(ArtifactListTest, WithoutRoomItIsReadForEachPage) {
  cache = std::make_unique<DirNamesCache>(/*max_bytes=*/10'000, clock.clock());
  MakeFiles("models", 3 * kPageSize);
  EXPECT_EQ(ListAll("models", /*recursive=*/false).size(), 3 * kPageSize);
  EXPECT_EQ(Reads(), 3);
}

TEST_F(ArtifactListTest, AStampThatMayHideAChangeIsNotBelieved) {
  clock.Advance(-absl::Hours(1));
  MakeFiles("models", 3 * kPageSize);
  // Simulates a change in the same clock tick in which the directory is read.
  const auto touch = [&] {
    std::filesystem::last_write_time(
        temp.Path("models"), std::filesystem::file_time_type::clock::now());
  };
  touch();
  EXPECT_EQ(ListAll("models", /*recursive=*/false, touch).size(),
            3 * kPageSize);
  EXPECT_EQ(Reads(), 3);
}

TEST_F(ArtifactListTest, WhatChangesMeanwhileIsSeen) {
  MakeFiles("models", 4 * kPageSize);
  const TreePage first = List("models", "");
  ASSERT_EQ(first.last, "models/file-00999");
  temp.Remove("models/file-01000");
  temp.WriteFile("models/file-01001-and-a-half", "");
  temp.Remove("models/file-01002");
  temp.MakeDirs("models/file-01002");
  Reads();
  const TreePage second = List("models", Name(999));
  EXPECT_EQ(Reads(), 1);
  std::vector<std::string> begin;
  for (int i = 0; i < 4; ++i) begin.push_back(second.artifacts[i].path);
  EXPECT_THAT(begin,
              ElementsAre("models/file-01001", "models/file-01001-and-a-half",
                          "models/file-01002", "models/file-01003"));
  EXPECT_TRUE(second.artifacts[2].directory);
  // A growing file does not invalidate the cached names, but the list has
  // its new size.
  temp.WriteFile("models/file-02500", "abc");
  const TreePage third = List("models", Name(1999));
  EXPECT_EQ(Reads(), 0);
  EXPECT_EQ(third.artifacts[500].size_bytes, 3);
}

TEST_F(ArtifactListTest, ADirectoryInThePlaceOfAnotherIsReadItself) {
  MakeFiles("models/a", 2 * kPageSize);
  MakeFiles("models/b", 2 * kPageSize + 7);
  List("models/a", "");
  std::filesystem::remove_all(temp.Path("models/a"));
  std::filesystem::rename(temp.Path("models/b"), temp.Path("models/a"));
  TreePage page = List("models/a", Name(999));
  EXPECT_TRUE(page.more);
  page = List("models/a", Name(1999));
  EXPECT_EQ(page.artifacts.size(), 7);
}

TEST_F(ArtifactListTest,
       WhoBeginsInTheMiddleIsNotTakenForWhoBeginsAtTheBeginning) {
  MakeFiles("models", 4 * kPageSize);
  List("models", Name(1999));
  Reads();
  EXPECT_EQ(List("models", Name(999)).last, "models/file-01999");
  EXPECT_EQ(Reads(), 1);
  EXPECT_EQ(List("models", Name(2499)).last, "models/file-03499");
  EXPECT_EQ(Reads(), 0);
}

TEST(DirNames, AreInTheOrderOfTheirBytes) {
  DirNames names;
  const std::vector<std::string> sorted = {"",   "A", "a",       "a\x01",
                                           "aa", "b", "\xc3\xa9"};
  for (const char* name : {"b", "a", "\xc3\xa9", "", "aa", "a\x01", "A"})
    names.Add(name, fs::EntryType::kFile);
  names.Sort();
  std::vector<std::string> got;
  for (size_t i = 0; i < names.size(); ++i) got.emplace_back(names.name(i));
  EXPECT_THAT(got, ElementsAreArray(sorted));
  EXPECT_EQ(names.Behind("a"), 3);
  EXPECT_EQ(names.Behind("a\x02"), 4);
  EXPECT_EQ(names.Behind("\xff"), 7);
}

TEST_F(ArtifactListTest, NamesAreCollectedOfOneDirectoryAtATime) {
  const auto collect = [](DirNamesCache::Collector& collector) {
    for (int i = 0; i < 2000; ++i) collector.Add(Name(i), fs::EntryType::kFile);
  };
  DirNamesCache::Collector first(cache.get(), "");
  {
    DirNamesCache::Collector second(cache.get(), "");
    collect(first);
    collect(second);
    second.Keep(*root);
  }
  EXPECT_EQ(cache->Find(*root, ""), nullptr);
  first.Keep(*root);
  ASSERT_NE(cache->Find(*root, ""), nullptr);
  DirNamesCache::Collector third(cache.get(), "");
  collect(third);
  third.Keep(*root);
  EXPECT_EQ(cache->Find(*root, "")->size(), 2000);
}

}  // namespace
}  // namespace mlops::artifacts
