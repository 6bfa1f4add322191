#include "service/server/maintainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "tests/support/fake_clock.h"

namespace mlops::server {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// Lines that chores and reports write, on any thread.
class Lines {
 public:
  void Add(absl::string_view line) {
    absl::MutexLock lock(&mutex_);
    lines_.emplace_back(line);
    added_.Signal();
  }
  // Waits for `count` lines and removes them.
  std::vector<std::string> Take(size_t count) {
    absl::MutexLock lock(&mutex_);
    while (lines_.size() < count) added_.Wait(&mutex_);
    return std::exchange(lines_, {});
  }

 private:
  absl::Mutex mutex_;
  absl::CondVar added_;
  std::vector<std::string> lines_ ABSL_GUARDED_BY(mutex_);
};

class MaintainerTest : public testing::Test {
 protected:
  // A chore that writes its name.
  Maintainer::Chore Named(absl::string_view name, absl::Duration interval) {
    return {.failure = std::string(name),
            .run =
                [this, name = std::string(name)] {
                  lines.Add(name);
                  return absl::OkStatus();
                },
            .interval = interval};
  }
  // Runs each round of `chores` when Round() is called.
  std::unique_ptr<Maintainer> Start(std::vector<Maintainer::Chore> chores) {
    chores.push_back({.failure = "the round",
                      .run =
                          [this] {
                            rounds.Add("end");
                            absl::MutexLock lock(&mutex);
                            mutex.Await(absl::Condition(&may_continue));
                            may_continue = stopping;
                            return absl::OkStatus();
                          },
                      .interval = absl::ZeroDuration()});
    auto maintainer = std::make_unique<Maintainer>(
        std::move(chores),
        Maintainer::Options{
            .report =
                [this](absl::string_view failure, const absl::Status& why) {
                  lines.Add(absl::StrCat(failure, ": ", why.message()));
                },
            .tick = absl::Milliseconds(1),
            .clock = clock.steady_clock()});
    rounds.Take(1);
    return maintainer;
  }
  // Lets the clock advance and then a round run.
  void Round(absl::Duration advance) {
    clock.Advance(advance);
    {
      absl::MutexLock lock(&mutex);
      may_continue = true;
    }
    rounds.Take(1);
  }
  std::vector<std::string> Done() { return lines.Take(0); }
  void Stop(std::unique_ptr<Maintainer> maintainer) {
    {
      absl::MutexLock lock(&mutex);
      stopping = true;
      may_continue = true;
    }
    maintainer.reset();
  }

  support::FakeClock clock;
  Lines lines;
  Lines rounds;
  absl::Mutex mutex;
  bool may_continue ABSL_GUARDED_BY(mutex) = false;
  bool stopping ABSL_GUARDED_BY(mutex) = false;
};

TEST_F(MaintainerTest, ChoresRunInOrderEachAfterItsInterval) {
  auto maintainer = Start(
      {Named("often", absl::Seconds(1)), Named("seldom", absl::Seconds(3))});
  EXPECT_THAT(Done(), ElementsAre("often", "seldom"));
  Round(absl::Milliseconds(900));
  EXPECT_THAT(Done(), IsEmpty());
  Round(absl::Milliseconds(100));
  EXPECT_THAT(Done(), ElementsAre("often"));
  Round(absl::Seconds(2));
  EXPECT_THAT(Done(), ElementsAre("often", "seldom"));
  Stop(std::move(maintainer));
}

TEST_F(MaintainerTest, AFailureIsReportedAndTheChoreRunsAgain) {
  auto maintainer =
      Start({{.failure = "cannot work",
              .run = [] { return absl::InternalError("no tools"); }},
             Named("another", absl::Hours(1))});
  EXPECT_THAT(Done(), ElementsAre("cannot work: no tools", "another"));
  Round(Maintainer::kTick);
  EXPECT_THAT(Done(), ElementsAre("cannot work: no tools"));
  Stop(std::move(maintainer));
}

TEST_F(MaintainerTest, AfterALongRunAChoreRestsForItsShare) {
  auto maintainer = Start({{.failure = "long",
                            .run =
                                [this] {
                                  lines.Add("long");
                                  clock.Advance(absl::Seconds(2));
                                  return absl::OkStatus();
                                },
                            .max_share = 0.1}});
  EXPECT_THAT(Done(), ElementsAre("long"));
  Round(absl::Seconds(17));
  EXPECT_THAT(Done(), IsEmpty());
  Round(absl::Seconds(2));
  EXPECT_THAT(Done(), ElementsAre("long"));
  Stop(std::move(maintainer));
}

}  // namespace
}  // namespace mlops::server
