#include "service/core/disk_health.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <vector>

#include "proto/cpp/base/error.h"
#include "service/core/errors.h"
#include "tests/support/matchers.h"

namespace mlops::core {
namespace {

using absl::StatusCode;
using support::HasDetail;
using support::IsError;
using testing::ElementsAre;
using testing::IsEmpty;

const absl::Status kFailure =
    base::MakeError(StatusCode::kInternal, "/base: could not be synced",
                    {.reason = "IO_ERROR", .metadata = {{"errno", "5"}}});

TEST(DiskHealth, OneFailureIsForEver) {
  DiskHealth health;
  EXPECT_OK(health.Check());
  EXPECT_OK(health.Judge(absl::OkStatus()));
  EXPECT_EQ(health.Judge(kFailure), kFailure);
  EXPECT_FALSE(health.ok());
  for (const absl::Status& later :
       {health.Judge(absl::OkStatus()), health.Check()}) {
    EXPECT_THAT(later, IsError(StatusCode::kInternal, "IO_ERROR"));
    EXPECT_THAT(later, HasDetail("errno", "5"));
  }
}

TEST(DiskHealth, TheListenerHearsOfTheFirstFailureBeforeItsCallerDoes) {
  DiskHealth health;
  std::vector<absl::Status> heard;
  health.SetListener(
      [&](const absl::Status& failure) { heard.push_back(failure); });
  EXPECT_OK(health.Judge(absl::OkStatus()));
  EXPECT_THAT(heard, IsEmpty());
  health.Judge(kFailure).IgnoreError();
  EXPECT_THAT(heard, ElementsAre(kFailure));
  health.Judge(absl::InternalError("another")).IgnoreError();
  EXPECT_THAT(heard, ElementsAre(kFailure));
}

TEST(DiskHealth, AListenerThatComesLateHearsOfItAtOnce) {
  DiskHealth health;
  health.Judge(kFailure).IgnoreError();
  int heard = 0;
  health.SetListener([&](const absl::Status& failure) {
    EXPECT_THAT(failure, IsError(StatusCode::kInternal, "IO_ERROR"));
    ++heard;
  });
  EXPECT_EQ(heard, 1);
}

TEST(DiskHealth, AListenerThatLeftHearsNothing) {
  DiskHealth health;
  int heard = 0;
  health.SetListener([&](const absl::Status&) { ++heard; });
  health.SetListener(nullptr);
  health.Judge(kFailure).IgnoreError();
  EXPECT_EQ(heard, 0);
}

TEST(DiskHealth, ThePermitForbidsChangesAndSaysNothingOfThoseThatWereMade) {
  bool lost = false;
  DiskHealth health([&] { return lost ? ShuttingDown() : absl::OkStatus(); });
  EXPECT_OK(health.Check());
  lost = true;
  EXPECT_THAT(health.Check(),
              IsError(StatusCode::kUnavailable, "SHUTTING_DOWN"));
  EXPECT_TRUE(health.ok());
  // The change is on disk, wherever the base is now.
  EXPECT_OK(health.Judge(absl::OkStatus()));
}

}  // namespace
}  // namespace mlops::core
