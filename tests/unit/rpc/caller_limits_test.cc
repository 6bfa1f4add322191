#include "service/rpc/caller_limits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
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
    absl::Status status = limits.Take(caller, use, now, share.get());
    if (status.ok()) shares.push_back(std::move(share));
    return status;
  }

  SteadyClock::time_point now = SteadyClock::now();
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

class PacedCallsTest : public testing::Test {
 protected:
  // Returns whether a new call of `caller` is paced.
  bool IsPaced(const std::string& caller) {
    shares.push_back(std::make_unique<CallerLimits::Share>());
    EXPECT_OK(limits.Take(caller, {.calls = 1}, now, shares.back().get()));
    return shares.back()->is_paced();
  }
  int CountPaced(const std::string& caller, int calls) {
    int paced = 0;
    for (int i = 0; i < calls; ++i) paced += IsPaced(caller);
    return paced;
  }

  CallerLimits limits;
  SteadyClock::time_point now = SteadyClock::now();
  std::vector<std::unique_ptr<CallerLimits::Share>> shares;
};

TEST_F(PacedCallsTest, OnlyThoseOfACallerWithManyInFlight) {
  EXPECT_FALSE(IsPaced("alice"));
  EXPECT_EQ(CountPaced("robot", CallerLimits::kPromptCalls), 0);
  EXPECT_TRUE(IsPaced("robot"));
  EXPECT_FALSE(IsPaced("alice"));
  EXPECT_TRUE(IsPaced("robot"));
  shares.clear();
  EXPECT_FALSE(IsPaced("robot"));
}

TEST_F(PacedCallsTest, OnlyWhileOthersCall) {
  EXPECT_EQ(CountPaced("robot", 2 * CallerLimits::kPromptCalls), 0);
  EXPECT_FALSE(IsPaced("alice"));
  now += CallerLimits::kRecently - std::chrono::milliseconds(1);
  EXPECT_TRUE(IsPaced("robot"));
  now += std::chrono::milliseconds(1);
  EXPECT_FALSE(IsPaced("robot"));
  // Two callers with many calls are paced both.
  EXPECT_EQ(CountPaced("carol", 2 * CallerLimits::kPromptCalls),
            CallerLimits::kPromptCalls);
  EXPECT_TRUE(IsPaced("robot"));
}

class PacedStreamsTest : public PacedCallsTest {
 protected:
  // Returns the share of a new stream.
  const CallerLimits::Share& Open(const std::string& caller) {
    shares.push_back(std::make_unique<CallerLimits::Share>());
    EXPECT_OK(limits.Take(caller, {.calls = 1, .streams = 1}, now,
                          shares.back().get()));
    return *shares.back();
  }
};

TEST_F(PacedStreamsTest, AllThoseOfACallerWithManyWhileOthersCall) {
  const CallerLimits::Share& first = Open("robot");
  for (int i = 1; i < CallerLimits::kPromptStreams; ++i) Open("robot");
  EXPECT_FALSE(IsPaced("alice"));
  EXPECT_FALSE(first.PacesStream(now));
  const CallerLimits::Share& last = Open("robot");
  EXPECT_TRUE(first.PacesStream(now));
  EXPECT_TRUE(last.PacesStream(now));
  EXPECT_FALSE(Open("alice").PacesStream(now));
  // A stream is asked for as long as it runs.
  now += CallerLimits::kRecently;
  EXPECT_FALSE(first.PacesStream(now));
  EXPECT_FALSE(IsPaced("alice"));
  EXPECT_TRUE(first.PacesStream(now));
}

TEST_F(PacedStreamsTest, NotThoseOfCallersWithoutLimits) {
  EXPECT_FALSE(CallerLimits::Share().PacesStream(now));
}

}  // namespace
}  // namespace mlops::rpc
