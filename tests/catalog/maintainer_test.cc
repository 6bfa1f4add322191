// The thread that keeps a FileCatalog fresh, at its own pace: these tests wait until it has done its work.
#include "service/catalog/maintainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "absl/time/clock.h"
#include "service/core/layout.h"
#include "tests/catalog/harness.h"
#include "tests/support/matchers.h"
#include "tests/support/workspaces.h"

namespace mlops::catalog {
namespace {

using support::OriginalRecord;
using testing::ElementsAre;
using testing::IsEmpty;

class MaintainerTest : public FileCatalogTest {
 protected:
  std::unique_ptr<Maintainer> Start(Maintainer::Options options = {}) {
    auto watcher = fs::MakeWatcher(base().path(), core::layout::kRecord, {.portable = portable()});
    return std::make_unique<Maintainer>(&catalog(), std::move(watcher), std::move(options));
  }
  // Until List, which is never refreshed by these tests, says so; for ever, if it never does.
  void WaitUntilListed(const std::vector<std::string>& names) {
    while (Listed() != names) absl::SleepFor(absl::Milliseconds(5));
  }
};

TEST_P(MaintainerTest, WhatComesGoesAndChangesByHandIsListed) {
  Create("a");
  const auto maintainer = Start();
  base().WriteFile("b/workspace.yaml", OriginalRecord("b", base().Path("b")));
  WaitUntilListed({"a", "b"});
  base().Remove("a");
  WaitUntilListed({"b"});
  base().WriteFile("b/workspace.yaml", OriginalRecord("b", base().Path("b"), "edited"));
  while (catalog().List({}).value().workspaces[0]->metadata["note"] != "edited") {
    absl::SleepFor(absl::Milliseconds(5));
  }
  base().Remove("b/workspace.yaml");
  WaitUntilListed({});
}

TEST_P(MaintainerTest, TheTrashIsEmptiedInTime) {
  Create("a");
  ASSERT_OK(catalog().Commit(core::DeleteChange{.project = support::Project("a")}));
  const auto maintainer = Start();
  files.clock.Advance(absl::Hours(73));
  while (!std::filesystem::is_empty(base().Path(".trash"))) absl::SleepFor(absl::Milliseconds(5));
  EXPECT_THAT(Listed(/*show_deleted=*/true), IsEmpty());
}

TEST_P(MaintainerTest, ALastCheckpointIsLeft) {
  Create("a");
  Start().reset();
  EXPECT_TRUE(base().Exists(".workspaced/checkpoint"));
}

INSTANTIATE_TEST_SUITE_P(Calls, MaintainerTest, testing::Bool(), CallsName);

}  // namespace
}  // namespace mlops::catalog
