#include "service/artifacts/stage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "proto/cpp/base/error.h"
#include "tests/support/matchers.h"
#include "tests/support/observed_dir.h"
#include "tests/support/temp_dir.h"

namespace mlops::artifacts {
namespace {

using absl::StatusCode;
using support::IsError;
using testing::Contains;

// A Dir that says that it can sync everything, and does so by Sync().
class SyncingDir final : public support::ObservedDir {
 public:
  SyncingDir(std::unique_ptr<fs::Dir> target,
             std::shared_ptr<support::DirObserver> observer, bool can_sync_all,
             std::string place = "")
      : ObservedDir(std::move(target), observer, place),
        observer_(observer),
        can_sync_all_(can_sync_all),
        place_(std::move(place)) {}

  bool CanSyncAll() const override { return can_sync_all_; }
  absl::Status SyncAll() override { return observer_->Before("SyncAll"); }

 protected:
  std::unique_ptr<fs::Dir> WrapDir(std::unique_ptr<fs::Dir> dir,
                                   absl::string_view path) const override {
    return std::make_unique<SyncingDir>(
        std::move(dir), observer_, can_sync_all_,
        place_.empty() ? std::string(path) : absl::StrCat(place_, "/", path));
  }

 private:
  const std::shared_ptr<support::DirObserver> observer_;
  const bool can_sync_all_;
  const std::string place_;
};

class StageTest : public testing::Test {
 protected:
  Stage MakeStage(bool can_sync_all) {
    return Stage(
        std::make_shared<SyncingDir>(fs::OpenBaseDir(temp.path()).value(),
                                     observer, can_sync_all),
        health);
  }
  static void Fill(StagedTree& tree, int64_t count) {
    ASSERT_OK(tree.root().MakeDir("models"));
    ASSERT_OK(tree.root().MakeDir("models/sub"));
    for (int64_t i = 0; i < count; ++i) {
      auto file = tree.root().CreateFile(absl::StrCat("models/sub/", i));
      ASSERT_OK((*file)->Write("content"));
      ASSERT_OK(tree.Finish(*std::move(file)));
    }
  }
  bool StagingIsEmpty() const {
    return std::filesystem::is_empty(temp.Path(".staging"));
  }

  const support::TempDir temp;
  const std::shared_ptr<support::DirObserver> observer =
      std::make_shared<support::DirObserver>();
  const std::shared_ptr<core::DiskHealth> health =
      std::make_shared<core::DiskHealth>();
};

TEST_F(StageTest, AnAbandonedTreeIsRemoved) {
  Stage stage = MakeStage(false);
  auto tree = stage.Begin();
  ASSERT_OK(tree);
  Fill(**tree, 3);
  EXPECT_TRUE(
      temp.Exists(absl::StrCat(".staging/", (*tree)->name(), "/models/sub/2")));
  tree->reset();
  EXPECT_TRUE(StagingIsEmpty());
}

TEST_F(StageTest, APlacedTreeIsKept) {
  Stage stage = MakeStage(false);
  auto tree = stage.Begin().value();
  Fill(*tree, 1);
  ASSERT_OK(tree->Sync());
  temp.Move(absl::StrCat(".staging/", tree->name()), "fraud");
  tree.reset();
  EXPECT_TRUE(temp.Exists("fraud/models/sub/0"));
}

TEST_F(StageTest, OnlyTheServerCanEnterBeforeSync) {
  Stage stage = MakeStage(false);
  auto tree = stage.Begin().value();
  const auto mode = [&] { return tree->root().StatSelf().value().mode; };
  EXPECT_EQ(mode(), 0700u);
  ASSERT_OK(tree->Sync());
  temp.MakeDirs("plain");
  EXPECT_EQ(mode(),
            fs::OpenBaseDir(temp.path()).value()->Stat("plain").value().mode);
}

TEST_F(StageTest, SyncsEachDirectory) {
  Stage stage = MakeStage(false);
  auto tree = stage.Begin().value();
  Fill(*tree, 2 * StagedTree::kSyncEach);
  observer->Take();
  ASSERT_OK(tree->Sync());
  const auto calls = observer->Take();
  for (const char* dir : {"", "/models", "/models/sub"}) {
    EXPECT_THAT(calls,
                Contains(absl::StrCat("Sync .staging/", tree->name(), dir)));
  }
}

TEST_F(StageTest, SyncsTheFileSystemForManyFiles) {
  Stage stage = MakeStage(true);
  auto few = stage.Begin().value();
  Fill(*few, StagedTree::kSyncEach);
  ASSERT_OK(few->Sync());
  EXPECT_THAT(observer->Take(), Not(Contains("SyncAll")));
  auto many = stage.Begin().value();
  Fill(*many, StagedTree::kSyncEach + 1);
  ASSERT_OK(many->Sync());
  EXPECT_THAT(observer->Take(), Contains("SyncAll"));
}

TEST_F(StageTest, SyncEndsWhenCancelled) {
  Stage stage = MakeStage(false);
  auto tree = stage.Begin().value();
  EXPECT_EQ(tree->Sync([] { return true; }).code(), StatusCode::kCancelled);
}

TEST_F(StageTest, BeginsNothingOnAFailedDisk) {
  Stage stage = MakeStage(false);
  health
      ->Judge(base::MakeError(StatusCode::kInternal, "a fault",
                              {.reason = "IO_ERROR"}))
      .IgnoreError();
  EXPECT_THAT(stage.Begin(), IsError(StatusCode::kInternal, "IO_ERROR"));
  EXPECT_FALSE(temp.Exists(".staging"));
}

}  // namespace
}  // namespace mlops::artifacts
