#include "service/catalog/usage_scan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/support/fake_clock.h"
#include "tests/support/matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/workspaces.h"

namespace mlops::catalog {
namespace {

using absl::StatusCode;
using support::IsError;

bool Never() { return false; }

class UsageScanTest : public testing::Test {
 protected:
  core::Usage Scan(absl::string_view name = "fraud") {
    return scanner(support::NewWorkspace(name, temp.path()),
                   /*counts_only=*/false, Never)
        .value();
  }

  const support::TempDir temp;
  support::FakeClock clock;
  const core::UsageScanner scanner = MakeUsageScanner(
      fs::OpenBaseDir(temp.path()).value(), temp.path(), clock.clock());
};

TEST_F(UsageScanTest, CountsEachDirectory) {
  temp.WriteFile("fraud/models/a", "12345");
  temp.WriteFile("fraud/models/sub/b", "1");
  temp.MakeDirs("fraud/mlflow");
  const core::Usage usage = Scan();
  EXPECT_TRUE(usage.directories[0].exists);
  EXPECT_EQ(usage.directories[0].file_count, 0);
  EXPECT_FALSE(usage.directories[1].exists);
  EXPECT_EQ(usage.directories[3].file_count, 2);
  EXPECT_EQ(usage.directories[3].size_bytes, 6);
  EXPECT_EQ(usage.file_count(), 2);
  EXPECT_EQ(usage.scan_time, clock.Now());
  EXPECT_OK(usage.problem);
}

TEST_F(UsageScanTest, OtherFilesAreCountedApart) {
  temp.WriteFile("fraud/workspace.yaml", "{}");
  temp.WriteFile("fraud/notes/a.txt", "123");
  const core::Usage usage = Scan();
  EXPECT_EQ(usage.file_count(), 0);
  EXPECT_EQ(usage.others.file_count, 2);
  EXPECT_EQ(usage.others.size_bytes, 5);
}

TEST_F(UsageScanTest, ADirectoryThatIsALinkIsAProblemAndTheRestIsCounted) {
  temp.WriteFile("outside/secret", "123");
  temp.WriteFile("fraud/models/a", "12345");
  temp.Link("../outside", "fraud/outputs");
  const core::Usage usage = Scan();
  EXPECT_THAT(usage.problem,
              IsError(StatusCode::kFailedPrecondition, "PATH_UNSUITABLE"));
  EXPECT_EQ(usage.size_bytes(), 5);
}

TEST_F(UsageScanTest, CountsOnlyIsCheapAndRight) {
  // Advance the clock, so that the scan trusts all stamps.
  clock.Advance(absl::Now() + absl::Hours(1) - clock.Now());
  for (int files = 1; files < 4; ++files) {
    temp.WriteFile(absl::StrCat("fraud/models/", files), "12345");
    // Longer than a tick of the file system's clock, so that stamps differ.
    absl::SleepFor(absl::Milliseconds(25));
    const core::Usage usage =
        scanner(support::NewWorkspace("fraud", temp.path()), true, Never)
            .value();
    EXPECT_TRUE(usage.counts_only);
    EXPECT_EQ(usage.directories[3].file_count, files);
    EXPECT_EQ(usage.size_bytes(), 0);
  }
}

TEST_F(UsageScanTest, AWorkspaceThatIsNotThereIsNotFound) {
  EXPECT_THAT(
      scanner(support::NewWorkspace("missing", temp.path()), false, Never),
      IsError(StatusCode::kNotFound, ""));
}

TEST_F(UsageScanTest, StopsWhenCancelled) {
  temp.MakeDirs("fraud/models/sub");
  EXPECT_THAT(scanner(support::NewWorkspace("fraud", temp.path()), false,
                      [] { return true; }),
              IsError(StatusCode::kCancelled, ""));
}

}  // namespace
}  // namespace mlops::catalog
