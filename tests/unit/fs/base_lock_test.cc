#include "service/fs/base_lock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "proto/cpp/base/status_macros.h"
#include "tests/support/matchers.h"
#include "tests/support/temp_dir.h"

namespace mlops::fs {
namespace {

using absl::StatusCode;
using support::IsError;

class BaseLockTest : public testing::Test {
 protected:
  void SetUp() override { temp.MakeDirs("base"); }
  absl::StatusOr<std::unique_ptr<BaseLock>> Acquire(const std::string& path) {
    ASSIGN_OR_RETURN(auto lock, BaseLock::Acquire(path, names));
    RETURN_IF_ERROR(lock->MakeFile());
    return lock;
  }
  absl::StatusOr<std::unique_ptr<BaseLock>> Acquire() { return Acquire(base); }
  std::string Content() { return BaseLock::ReadContent(base, names); }

  const support::TempDir temp;
  const std::string base = temp.Path("base");
  const BaseLock::Names names = {.dir = ".server", .file = "lock"};
};

const auto kHeld = IsError(StatusCode::kFailedPrecondition, "");

TEST_F(BaseLockTest, IsHeldByOneAtATime) {
  auto first = Acquire();
  ASSERT_OK(first);
  EXPECT_THAT(Acquire(), kHeld);
  first->reset();
  EXPECT_OK(Acquire());
}

TEST_F(BaseLockTest, CannotBeHadByRemovingTheFileOrItsDirectory) {
  for (const char* removed : {"base/.server/lock", "base/.server"}) {
    const auto first = Acquire().value();
    EXPECT_TRUE(first->IsStillNamed());
    temp.Remove(removed);
    EXPECT_THAT(Acquire(), kHeld) << removed;
    EXPECT_FALSE(first->IsStillNamed());
    EXPECT_FALSE(temp.Exists(removed))
        << "somebody who may not serve must not write either";
  }
}

TEST_F(BaseLockTest, WhoAsksWhetherItIsHeldTakesNoLock) {
  EXPECT_FALSE(BaseLock::IsHeld(base, names));
  EXPECT_FALSE(temp.Exists("base/.server"));
  const auto lock = BaseLock::Acquire(base, names).value();
  EXPECT_TRUE(BaseLock::IsHeld(base, names)) << "the directory alone";
  ASSERT_OK(lock->MakeFile());
  EXPECT_TRUE(BaseLock::IsHeld(base, names));
  // Neither answer has released the lock.
  EXPECT_THAT(Acquire(), kHeld);
}

TEST_F(BaseLockTest, TheDirectoryIsLockedBeforeThereIsAFile) {
  const auto first = BaseLock::Acquire(base, names).value();
  EXPECT_THAT(Acquire(), kHeld);
  EXPECT_FALSE(first->has_file() || temp.Exists("base/.server"));
  EXPECT_THAT(first->WriteContent("x"), IsError(StatusCode::kUnavailable, ""));
  EXPECT_OK(first->MakeFile());
  EXPECT_OK(first->MakeFile());
  EXPECT_OK(first->WriteContent("x"));
}

TEST_F(BaseLockTest, FollowsTheDirectoryWhereverItIsMoved) {
  const auto first = Acquire().value();
  temp.Move("base", "moved");
  EXPECT_FALSE(first->IsStillNamed());
  EXPECT_THAT(Acquire(temp.Path("moved")), kHeld);
  // A new directory at the old path is not locked, and does not make the old
  // lock valid again.
  temp.MakeDirs("base");
  EXPECT_OK(Acquire());
  EXPECT_FALSE(first->IsStillNamed());
}

TEST_F(BaseLockTest, ACopyIsFree) {
  const auto first = Acquire().value();
  temp.Copy("base", "copy");
  EXPECT_OK(Acquire(temp.Path("copy")));
  EXPECT_TRUE(first->IsStillNamed());
}

TEST_F(BaseLockTest, AWatchLocksAndWritesNothing) {
  const auto watch = BaseLock::Watch(base).value();
  EXPECT_FALSE(temp.Exists("base/.server"));
  EXPECT_OK(Acquire());
  EXPECT_TRUE(watch->IsStillNamed());
  temp.Remove("base");
  EXPECT_FALSE(watch->IsStillNamed());
}

TEST_F(BaseLockTest, ReadingTheFileDoesNotLoseIt) {
  const auto lock = Acquire().value();
  ASSERT_OK(lock->WriteContent("pid 1"));
  EXPECT_EQ(Content(), "pid 1");
  EXPECT_THAT(Acquire(), kHeld);
}

TEST_F(BaseLockTest, ContentIsReplacedWholeAndOutlivesTheHolder) {
  {
    const auto lock = Acquire().value();
    ASSERT_OK(lock->WriteContent("a long text"));
    ASSERT_OK(lock->WriteContent("short"));
  }
  EXPECT_EQ(Content(), "short");
}

TEST_F(BaseLockTest, ContentOfNothingIsEmpty) { EXPECT_EQ(Content(), ""); }

TEST_F(BaseLockTest, EndsWithItsProcess) {
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const auto lock = Acquire();
    [[maybe_unused]] const auto written =
        ::write(ready[1], lock.ok() ? "y" : "n", 1);
    ::pause();
    ::_exit(0);
  }
  char answer = 0;
  ASSERT_EQ(::read(ready[0], &answer, 1), 1);
  ASSERT_EQ(answer, 'y');
  EXPECT_THAT(Acquire(), kHeld);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_OK(Acquire());
}

TEST_F(BaseLockTest, FollowsNoLinks) {
  const auto kLink = IsError(StatusCode::kInvalidArgument, "");
  temp.MakeDirs("elsewhere");
  temp.Link(temp.Path("elsewhere"), "base/.server");
  EXPECT_THAT(Acquire(), kLink);
  EXPECT_FALSE(temp.Exists("elsewhere/lock"));
  temp.Remove("base/.server");
  temp.MakeDirs("base/.server");
  temp.Link(temp.Path("elsewhere/target"), "base/.server/lock");
  EXPECT_THAT(Acquire(), kLink);
  EXPECT_FALSE(temp.Exists("elsewhere/target"));
}

TEST_F(BaseLockTest, NeedsADirectoryAndARegularFile) {
  temp.WriteFile("base/.server", "");
  EXPECT_THAT(Acquire(), IsError(StatusCode::kInvalidArgument, ""));
  temp.Remove("base/.server");
  temp.MakeDirs("base/.server");
  temp.MakeFifo("base/.server/lock");
  EXPECT_THAT(Acquire(), IsError(StatusCode::kInvalidArgument, ""));
  EXPECT_FALSE(Acquire(temp.Path("missing")).ok());
}

}  // namespace
}  // namespace mlops::fs
