#include "service/fs/atomic_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/match.h"
#include "tests/support/matchers.h"
#include "tests/support/observed_dir.h"
#include "tests/unit/fs/fs_fixture.h"

namespace mlops::fs {
namespace {

using absl::StatusCode;
using support::IsError;
using testing::ElementsAre;

class AtomicFileTest : public FsTest {
 protected:
  void FailAt(const std::string& call_prefix) {
    observer->SetBefore([call_prefix](absl::string_view call) {
      return absl::StartsWith(call, call_prefix) ? absl::InternalError("broken")
                                                 : absl::OkStatus();
    });
  }

  const std::shared_ptr<support::DirObserver> observer =
      std::make_shared<support::DirObserver>();
  support::ObservedDir observed{
      OpenBaseDir(temp.path(), {.portable = GetParam()}).value(), observer};
};

TEST_P(AtomicFileTest, ANewFileHoldsTheData) {
  EXPECT_OK(WriteNewFile(*dir, "file", "data"));
  EXPECT_EQ(temp.ReadFile("file"), "data");
  EXPECT_THAT(WriteNewFile(*dir, "file", "other"),
              IsError(StatusCode::kAlreadyExists, ""));
  EXPECT_EQ(temp.ReadFile("file"), "data");
}

TEST_P(AtomicFileTest, AFailureIsToldAndLeavesWhatIsThere) {
  temp.WriteFile("file", "old");
  FailAt("CreateFile");
  EXPECT_THAT(WriteNewFile(observed, "new", "data"),
              IsError(StatusCode::kInternal, ""));
  EXPECT_EQ(temp.ReadFile("file"), "old");
  EXPECT_THAT(NamesIn(*dir), ElementsAre("file"));
}

INSTANTIATE_TEST_SUITE_P(Calls, AtomicFileTest, testing::Bool(), CallsName);

}  // namespace
}  // namespace mlops::fs
