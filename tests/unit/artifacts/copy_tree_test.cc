#include "service/artifacts/copy_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/support/matchers.h"
#include "tests/support/observed_dir.h"
#include "tests/support/temp_dir.h"
#include "tests/support/workspaces.h"

namespace mlops::artifacts {
namespace {

using absl::StatusCode;
using support::HasDetail;
using support::IsError;
using support::Project;
using testing::AllOf;

class CopyTreeTest : public testing::Test {
 protected:
  CopyTreeTest() {
    temp.WriteFile("fraud/models/a", "one");
    temp.WriteFile("fraud/models/sub/b", "two");
    temp.WriteFile("fraud/outputs/c", "three");
    temp.Link("a", "fraud/models/link");
    // Until the stamps are trusted.
    absl::SleepFor(absl::Milliseconds(30));
  }

  // Copies from `from`, or from the workspace itself if that is null.
  absl::StatusOr<CopyProgress> Copy(
      std::vector<std::string> directories, const fs::Dir* from = nullptr,
      core::Cancelled cancelled = core::NeverCancelled) {
    tree = stage.Begin().value();
    const auto workspace = base->OpenDir("fraud").value();
    return CopyTree({.project = Project("fraud"),
                     .from = from == nullptr ? *workspace : *from,
                     .to = *tree,
                     .directories = std::move(directories)},
                    cancelled,
                    [this](const CopyProgress& progress) { last = progress; });
  }
  std::string Staged(absl::string_view name) const {
    return absl::StrCat(".staging/", tree->name(), "/", name);
  }

  const support::TempDir temp;
  const std::shared_ptr<fs::Dir> base = fs::OpenBaseDir(temp.path()).value();
  Stage stage{base, std::make_shared<core::DiskHealth>()};
  std::unique_ptr<StagedTree> tree;
  CopyProgress last;
};

TEST_F(CopyTreeTest, CopiesTheSelectedDirectories) {
  const auto copied = Copy({"models", "dvc"});
  ASSERT_OK(copied);
  EXPECT_EQ(copied->file_count, 2);
  EXPECT_EQ(copied->size_bytes, 6);
  EXPECT_EQ(last.file_count, 2);
  EXPECT_EQ(temp.ReadFile(Staged("models/sub/b")), "two");
  EXPECT_EQ(std::filesystem::read_symlink(temp.Path(Staged("models/link"))),
            "a");
  EXPECT_FALSE(temp.Exists(Staged("outputs")));
  EXPECT_FALSE(temp.Exists(Staged("dvc")));
}

TEST_F(CopyTreeTest, KeepsPermissionsAndTimes) {
  using std::filesystem::perms;
  const auto time =
      std::filesystem::file_time_type::clock::now() - std::chrono::hours(24);
  std::filesystem::permissions(temp.Path("fraud/models/a"), perms::owner_read);
  std::filesystem::permissions(temp.Path("fraud/models/sub"), perms::owner_all);
  for (const char* name : {"fraud/models/a", "fraud/models/sub"})
    std::filesystem::last_write_time(temp.Path(name), time);
  ASSERT_OK(Copy({"models"}));
  for (const char* name : {"models/a", "models/sub"}) {
    EXPECT_EQ(std::filesystem::last_write_time(temp.Path(Staged(name))), time);
    EXPECT_EQ(std::filesystem::status(temp.Path(Staged(name))).permissions(),
              std::filesystem::status(temp.Path(absl::StrCat("fraud/", name)))
                  .permissions());
  }
}

TEST_F(CopyTreeTest, RefusesSpecialFiles) {
  temp.MakeFifo("fraud/models/sub/pipe");
  EXPECT_THAT(Copy({"models"}),
              AllOf(IsError(StatusCode::kFailedPrecondition, "PATH_UNSUITABLE"),
                    HasDetail("path", "models/sub/pipe")));
}

TEST_F(CopyTreeTest, EndsWhenCancelled) {
  EXPECT_EQ(Copy({"models"}, nullptr, [] { return true; }).status().code(),
            StatusCode::kCancelled);
}

// Runs `hook` once, right after the first call that begins with `call`.
class Hooked {
 public:
  Hooked(const support::TempDir& temp, std::string call,
         std::function<void()> hook)
      : observer_(std::make_shared<support::DirObserver>()),
        dir_(fs::OpenBaseDir(temp.Path("fraud")).value(), observer_) {
    observer_->SetAfter(
        [call, hook, done = false](absl::string_view seen) mutable {
          if (seen == call && !std::exchange(done, true)) hook();
        });
  }
  const fs::Dir& dir() const { return dir_; }

 private:
  const std::shared_ptr<support::DirObserver> observer_;
  support::ObservedDir dir_;
};

TEST_F(CopyTreeTest, OmitsWhatVanishesMeanwhile) {
  const Hooked file(temp, "ForEachEntry models",
                    [&] { temp.Remove("fraud/models/a"); });
  auto copied = Copy({"models"}, &file.dir());
  ASSERT_OK(copied);
  EXPECT_EQ(copied->file_count, 1);
  const Hooked directory(temp, "ForEachEntry models",
                         [&] { temp.Remove("fraud/models/sub"); });
  copied = Copy({"models"}, &directory.dir());
  ASSERT_OK(copied);
  EXPECT_EQ(copied->file_count, 0);
}

TEST_F(CopyTreeTest, AChangedFileIsCopiedAgainAndCountedOnce) {
  const Hooked changed(temp, "OpenFile models/sub/b",
                       [&] { temp.WriteFile("fraud/models/sub/b", "other"); });
  const auto copied = Copy({"models"}, &changed.dir());
  ASSERT_OK(copied);
  EXPECT_EQ(copied->file_count, 2);
  EXPECT_EQ(temp.ReadFile(Staged("models/sub/b")), "other");
}

TEST_F(CopyTreeTest, ADatabaseComesWithItsLogOnce) {
  const std::string header =
      absl::StrCat(absl::string_view("SQLite format 3\0\x10\0", 18), "\2\2");
  temp.WriteFile("fraud/models/x.db", header);
  temp.WriteFile("fraud/models/x.db-wal", "log");
  temp.WriteFile("fraud/models/x.db-shm", std::string(32768, '\0'));
  absl::SleepFor(absl::Milliseconds(30));
  const auto copied = Copy({"models"});
  ASSERT_OK(copied);
  EXPECT_EQ(copied->file_count, 4);
  EXPECT_EQ(temp.ReadFile(Staged("models/x.db-wal")), "log");
  EXPECT_FALSE(temp.Exists(Staged("models/x.db-shm")));
}

}  // namespace
}  // namespace mlops::artifacts
