#include "service/fs/fs_lock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/matchers.h"
#include "tests/support/temp_dir.h"

namespace mlops::fs {
namespace {

using absl::StatusCode;
using support::IsError;

class LockFileTest : public testing::Test {
 protected:
  const support::TempDir temp;
  const std::string path = temp.Path("lock");
};

const auto kHeld = IsError(StatusCode::kFailedPrecondition, "");

TEST_F(LockFileTest, IsHeldByOneAtATime) {
  auto first = LockFile::Acquire(path);
  ASSERT_OK(first);
  EXPECT_THAT(LockFile::Acquire(path), kHeld);
  first->reset();
  EXPECT_OK(LockFile::Acquire(path));
}

TEST_F(LockFileTest, ReadingItDoesNotLoseIt) {
  const auto lock = LockFile::Acquire(path).value();
  ASSERT_OK(lock->WriteContent("pid 1"));
  EXPECT_EQ(LockFile::ReadContent(path), "pid 1");
  EXPECT_THAT(LockFile::Acquire(path), kHeld);
}

TEST_F(LockFileTest, ContentIsReplacedWholeAndOutlivesTheHolder) {
  {
    const auto lock = LockFile::Acquire(path).value();
    ASSERT_OK(lock->WriteContent("a long text"));
    ASSERT_OK(lock->WriteContent("short"));
  }
  EXPECT_EQ(LockFile::ReadContent(path), "short");
}

TEST_F(LockFileTest, ContentOfNothingIsEmpty) { EXPECT_EQ(LockFile::ReadContent(temp.Path("missing")), ""); }

TEST_F(LockFileTest, EndsWithItsProcess) {
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const auto lock = LockFile::Acquire(path);
    [[maybe_unused]] const auto written = ::write(ready[1], lock.ok() ? "y" : "n", 1);
    ::pause();
    ::_exit(0);
  }
  char answer = 0;
  ASSERT_EQ(::read(ready[0], &answer, 1), 1);
  ASSERT_EQ(answer, 'y');
  EXPECT_THAT(LockFile::Acquire(path), kHeld);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_OK(LockFile::Acquire(path));
}

TEST_F(LockFileTest, AnUnlinkedFileLocksNobodyOut) {
  const auto first = LockFile::Acquire(path).value();
  temp.Remove("lock");
  // The name is free; whoever locks it now holds the file that stands there.
  const auto second = LockFile::Acquire(path);
  ASSERT_OK(second);
  EXPECT_THAT(LockFile::Acquire(path), kHeld);
  EXPECT_FALSE(first->IsStillNamed());
  EXPECT_TRUE((*second)->IsStillNamed());
}

TEST_F(LockFileTest, WhatCannotBeOpenedIsAnIoError) {
  temp.Link(temp.Path("target"), "link");
  for (const std::string& bad : {temp.Path("no/such/dir"), temp.Path("link"), temp.path()}) {
    EXPECT_THAT(LockFile::Acquire(bad), IsError(StatusCode::kInternal, "IO_ERROR")) << bad;
  }
  EXPECT_FALSE(temp.Exists("target"));
}

}  // namespace
}  // namespace mlops::fs
