#include "service/server/space_guard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/support/matchers.h"
#include "tests/support/workspaces.h"

namespace mlops::server {
namespace {

using support::IsError;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class SpaceGuardTest : public testing::Test {
 protected:
  SpaceGuardTest() {
    for (const char* name : {"c", "b", "a"}) Trash(name);
  }
  void Trash(const char* name) {
    core::Workspace workspace = support::NewWorkspace(name);
    workspace.purge_time = support::TimeAt(60);
    trash.push_back(
        std::make_shared<const core::Workspace>(std::move(workspace)));
  }
  SpaceGuard Make(int64_t min_free_bytes, bool purge_early) {
    return SpaceGuard(
        {.min_free_bytes = min_free_bytes,
         .purge_early = purge_early,
         .free_bytes = [this] { return free_bytes; },
         .is_removing = [this] { return removing; },
         .purge_oldest = [this] { return Purge(); },
         .log = [this](absl::string_view line) { lines.emplace_back(line); }});
  }
  absl::StatusOr<core::WorkspacePtr> Purge() {
    if (trash.empty()) return nullptr;
    core::WorkspacePtr oldest = trash.back();
    trash.pop_back();
    return oldest;
  }

  std::vector<core::WorkspacePtr> trash;
  int64_t free_bytes = 50;
  bool removing = false;
  std::vector<std::string> lines;
};

const auto kTooLittle = IsError(absl::StatusCode::kResourceExhausted, "");

TEST_F(SpaceGuardTest, WithoutAMinimumNothingIsChecked) {
  SpaceGuard guard = Make(0, true);
  free_bytes = 0;
  EXPECT_OK(guard.Check());
  EXPECT_FALSE(guard.is_low());
  EXPECT_EQ(trash.size(), 3);
}

TEST_F(SpaceGuardTest, WithoutPermissionItOnlyWarns) {
  SpaceGuard guard = Make(100, false);
  const absl::Status low = guard.Check();
  EXPECT_THAT(low, kTooLittle);
  EXPECT_THAT(std::string(low.message()),
              AllOf(HasSubstr("50 bytes are free"), HasSubstr("100")));
  EXPECT_TRUE(guard.is_low());
  EXPECT_EQ(guard.purged_early(), 0);
  EXPECT_EQ(trash.size(), 3);
  free_bytes = 100;
  EXPECT_OK(guard.Check());
  EXPECT_FALSE(guard.is_low());
}

TEST_F(SpaceGuardTest, WithPermissionItPurgesOneAfterTheOther) {
  SpaceGuard guard = Make(100, true);
  EXPECT_OK(guard.Check());
  EXPECT_THAT(lines, ElementsAre(AllOf(HasSubstr("workspace a with uid"),
                                       HasSubstr("until 2023-11-14T"))));
  // What is purged is not gone yet.
  removing = true;
  EXPECT_OK(guard.Check());
  EXPECT_EQ(trash.size(), 2);
  removing = false;
  free_bytes = 99;
  EXPECT_OK(guard.Check());
  free_bytes = 100;
  EXPECT_OK(guard.Check());
  EXPECT_EQ(trash.size(), 1);
  EXPECT_EQ(guard.purged_early(), 2);
}

TEST_F(SpaceGuardTest, AnEmptyTrashIsReported) {
  trash.clear();
  SpaceGuard guard = Make(100, true);
  EXPECT_THAT(guard.Check(), kTooLittle);
  EXPECT_THAT(lines, IsEmpty());
}

TEST(FreeBytes, OfThisDiskAreKnown) {
  EXPECT_GT(FreeBytes("/").value(), 0);
  EXPECT_FALSE(FreeBytes("/none").ok());
}

}  // namespace
}  // namespace mlops::server
