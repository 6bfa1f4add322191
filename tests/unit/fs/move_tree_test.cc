#include "service/fs/move_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <functional>

#include "absl/strings/str_cat.h"
#include "tests/support/matchers.h"
#include "tests/support/observed_dir.h"
#include "tests/support/temp_dir.h"

namespace mlops::fs {
namespace {

using absl::StatusCode;
using support::IsError;

// Moves `from/tree` to `to/moved` through `staging/id`, on a real file system
// on which a test can make any call fail.
class MoveTreeTest : public testing::Test {
 protected:
  void SetUp() override {
    temp.WriteFile("from/tree/record", "r");
    temp.WriteFile("from/tree/a/b/file", "f");
    temp.MakeDirs("from/tree/empty");
    temp.Link("file", "from/tree/a/b/link");
    temp.MakeDirs("to");
    temp.MakeDirs("staging");
  }

  absl::Status Move(
      const std::function<absl::Status()>& sync = absl::OkStatus) {
    support::ObservedDir base(OpenBaseDir(temp.path()).value(), observer);
    const auto from = base.OpenDir("from").value(),
               to = base.OpenDir("to").value();
    const auto staging = base.OpenDir("staging").value();
    return MoveTree({.from = *from,
                     .name = "tree",
                     .to = *to,
                     .to_name = "moved",
                     .staging = *staging,
                     .staging_name = "id",
                     .first = "record"},
                    [&] { return sync(); });
  }

  bool IsWhole(const std::string& tree) {
    return temp.Exists(tree + "/record") && temp.Exists(tree + "/empty") &&
           temp.Exists(tree + "/a/b/link") && temp.Exists(tree + "/a/b/file") &&
           temp.ReadFile(tree + "/a/b/file") == "f";
  }

  const support::TempDir temp;
  const std::shared_ptr<support::DirObserver> observer =
      std::make_shared<support::DirObserver>();
};

TEST_F(MoveTreeTest, EverythingIsThereAndNowhereElse) {
  ASSERT_EQ(::chmod(temp.Path("from/tree/empty").c_str(), 0700), 0);
  ASSERT_OK(Move());
  EXPECT_TRUE(IsWhole("to/moved"));
  EXPECT_FALSE(temp.Exists("from/tree") || temp.Exists("staging/id"));
  struct stat info;
  ASSERT_EQ(::stat(temp.Path("to/moved/empty").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
}

TEST_F(MoveTreeTest, NothingIsRemovedBeforeTheNewNameIsDurable) {
  EXPECT_FALSE(Move([&] {
                 EXPECT_TRUE(IsWhole("from/tree") && IsWhole("to/moved"));
                 return absl::InternalError("lost");
               }).ok());
  EXPECT_TRUE(IsWhole("from/tree") && IsWhole("to/moved"));
}

TEST_F(MoveTreeTest, WhatComesMeanwhileIsMovedOver) {
  ASSERT_OK(Move([&] {
    temp.WriteFile("from/tree/a/new", "n");
    temp.WriteFile("from/tree/later/new", "n");
    temp.Remove("from/tree/a/b/file");
    temp.WriteFile("from/tree/a/b/file", "newer");
    return absl::OkStatus();
  }));
  EXPECT_FALSE(temp.Exists("from/tree"));
  EXPECT_EQ(
      temp.ReadFile("to/moved/a/new") + temp.ReadFile("to/moved/later/new"),
      "nn");
  EXPECT_EQ(temp.ReadFile("to/moved/a/b/file"), "newer");
}

TEST_F(MoveTreeTest, ATakenNameIsLeftAlone) {
  temp.WriteFile("to/moved/other", "o");
  EXPECT_THAT(Move(), IsError(StatusCode::kAlreadyExists, ""));
  EXPECT_TRUE(IsWhole("from/tree"));
  EXPECT_FALSE(temp.Exists("staging/id") || temp.Exists("to/moved/record"));
}

TEST_F(MoveTreeTest, ATreeTooDeepIsLeftAlone) {
  std::string path = "from/tree";
  for (int i = 0; i < 250; ++i) absl::StrAppend(&path, "/d");
  temp.MakeDirs(path);
  EXPECT_THAT(Move(),
              IsError(StatusCode::kFailedPrecondition, "PATH_UNSUITABLE"));
  EXPECT_TRUE(IsWhole("from/tree"));
  EXPECT_FALSE(temp.Exists("to/moved"));
}

// Interrupts the move at every call. Either the old tree or the new one must be
// complete, and the record never stays behind alone.
TEST_F(MoveTreeTest, AFailureAnywhereLosesNothing) {
  for (int n = 1;; ++n) {
    int calls = -3;  // Three calls open the directories.
    observer->SetBefore([&](absl::string_view) {
      return ++calls >= n ? absl::InternalError("lost") : absl::OkStatus();
    });
    const absl::Status moved = Move();
    observer->SetBefore(nullptr);
    if (calls < n) {
      EXPECT_OK(moved);
      EXPECT_GT(n, 20);
      break;
    }
    EXPECT_TRUE(IsWhole("from/tree") || IsWhole("to/moved")) << n;
    EXPECT_TRUE(IsWhole("from/tree") || !temp.Exists("from/tree/record")) << n;
    for (const char* name : {"from/tree", "to/moved", "staging/id"})
      temp.Remove(name);
    SetUp();
  }
}

}  // namespace
}  // namespace mlops::fs
