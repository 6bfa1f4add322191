#include "service/rpc/caller_limits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "tests/support/matchers.h"

namespace mlops::rpc {
namespace {

using absl::StatusCode;
using support::IsError;

const auto kOverloaded = IsError(StatusCode::kUnavailable, "OVERLOADED");

class CallerLimitsTest : public testing::Test {
 protected:
  absl::Status Take(const std::string& caller, const CallerLimits::Use& use) {
    auto share = std::make_unique<CallerLimits::Share>();
    absl::Status status = limits.Take(caller, use, share.get());
    if (status.ok()) shares.push_back(std::move(share));
    return status;
  }

  CallerLimits limits{{.calls = 3, .streams = 1, .bytes = 100}};
  std::vector<std::unique_ptr<CallerLimits::Share>> shares;
};

TEST_F(CallerLimitsTest, EachKindOfUseHasItsLimit) {
  EXPECT_OK(Take("robot", {.calls = 1, .streams = 1}));
  EXPECT_THAT(Take("robot", {.calls = 1, .streams = 1}), kOverloaded);
  EXPECT_OK(Take("robot", {.calls = 1, .bytes = 60}));
  EXPECT_THAT(Take("robot", {.calls = 1, .bytes = 41}), kOverloaded);
  EXPECT_OK(Take("robot", {.calls = 1, .bytes = 40}));
  EXPECT_THAT(Take("robot", {.calls = 1}), kOverloaded);
}

TEST_F(CallerLimitsTest, CallersDoNotShareTheirLimits) {
  EXPECT_OK(Take("robot", {.calls = 3}));
  EXPECT_OK(Take("alice", {.calls = 3}));
  EXPECT_THAT(Take("robot", {.calls = 1}), kOverloaded);
}

TEST_F(CallerLimitsTest, WhatEndsMakesRoom) {
  for (int i = 0; i < 10; ++i) {
    EXPECT_OK(Take("robot", {.calls = 3, .streams = 1, .bytes = 100}));
    EXPECT_THAT(Take("robot", {.calls = 1}), kOverloaded);
    shares.clear();
  }
}

}  // namespace
}  // namespace mlops::rpc
