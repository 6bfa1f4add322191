#include "service/fs/watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temp_dir.h"

namespace mlops::fs {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

class WatchTest : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"a", "b", "c"}) temp.MakeDirs(name);
    if (!watcher->Add("a")) GTEST_SKIP() << "this system has no way to watch";
    ASSERT_TRUE(watcher->Add("b"));
  }

  const support::TempDir temp;
  const std::unique_ptr<Watcher> watcher = MakeWatcher(temp.path(), "record");
};

TEST_F(WatchTest, HearsOfTheEntryInWatchedDirectoriesOnceEach) {
  temp.WriteFile("a/record", "1");
  temp.WriteFile("a/record", "2");
  temp.WriteFile("b/record~", "3");
  temp.Move("b/record~", "b/record");
  temp.WriteFile("c/record", "not watched");
  EXPECT_THAT(watcher->TakeChanged(), UnorderedElementsAre("a", "b"));
  EXPECT_THAT(watcher->TakeChanged(), IsEmpty());
  temp.Remove("a/record");
  EXPECT_THAT(watcher->TakeChanged(), ElementsAre("a"));
}

TEST_F(WatchTest, OtherEntriesAreNotTold) {
  temp.WriteFile("a/model.bin", "1");
  temp.WriteFile("a/sub/record", "1");
  EXPECT_THAT(watcher->TakeChanged(), IsEmpty());
}

TEST_F(WatchTest, ARemovedOrMovedDirectoryIsToldAndCanBeWatchedAgain) {
  temp.Remove("a");
  temp.Move("b", "d");
  EXPECT_THAT(watcher->TakeChanged(), UnorderedElementsAre("a", "b"));
  temp.MakeDirs("a");
  EXPECT_TRUE(watcher->Add("a"));
  EXPECT_TRUE(watcher->Add("d"));
  temp.WriteFile("a/record", "1");
  temp.WriteFile("d/record", "1");
  EXPECT_THAT(watcher->TakeChanged(), UnorderedElementsAre("a", "d"));
}

TEST_F(WatchTest, OnlyDirectoriesCanBeWatched) {
  temp.WriteFile("file", "");
  temp.Link("c", "link");
  for (const char* name : {"missing", "file", "link"})
    EXPECT_FALSE(watcher->Add(name)) << name;
}

TEST(PortableWatch, WatchesNothing) {
  const support::TempDir temp;
  temp.MakeDirs("a");
  const auto watcher = MakeWatcher(temp.path(), "record", {.portable = true});
  EXPECT_FALSE(watcher->Add("a"));
  EXPECT_THAT(watcher->TakeChanged(), IsEmpty());
}

}  // namespace
}  // namespace mlops::fs
