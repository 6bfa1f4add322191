// The power goes at each call of the file system that changes something, and nothing that was not synced need survive.
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/crash/scenario.h"
#include "tests/support/fault_dir.h"
#include "tests/support/memory_disk.h"

namespace mlops::crash {
namespace {

using support::FaultDir;
using support::Faults;
using support::MemoryDisk;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr int kSeeds = 20;

// A filled disk, on which one operation is begun.
class Disk {
 public:
  Disk() {
    Fill(OpenBase(), shifted_.clock());
    disk_.SyncAll();
  }

  // Runs the operation until the power goes at the `call`th call that changes something, or until it ends. Returns
  // whether it was acknowledged.
  bool RunUntilCut(const Operation& operation, int call) {
    const auto catalog = Open(OpenBase()(), shifted_.clock());
    faults_.Begin({.call = call, .all_after = true, .reads_too = true});
    return operation.run(*catalog, shifted_).ok();
  }

  bool cut() const { return faults_.happened(); }

  // What users find after the restart. Without a seed nothing that was not synced survives.
  std::string Restart(int seed) {
    std::mt19937 random(seed);
    disk_.CutPower([&] { return seed > 0 && random() % 2 == 0; });
    faults_.End();
    catalog_ = Open(OpenBase()(), shifted_.clock());
    return Describe();
  }

  std::string Describe() { return crash::Describe(*catalog_, *disk_.OpenTop()); }

  absl::Status Run(const Operation& operation) { return operation.run(*catalog_, shifted_); }

  std::vector<std::string> Names(absl::string_view dir) { return crash::Names(*disk_.OpenTop(), dir); }

 private:
  crash::OpenBase OpenBase() {
    return [this] { return std::make_unique<FaultDir>(disk_.OpenTop(), &faults_); };
  }

  MemoryDisk disk_;
  Faults faults_;
  ShiftedClock shifted_{disk_.clock()};
  std::unique_ptr<catalog::FileCatalog> catalog_;
};

class PowerCutTest : public testing::TestWithParam<Operation> {
 protected:
  void SetUp() override {
    Disk disk;
    before_ = disk.Restart(0);
    ASSERT_TRUE(disk.Run(GetParam()).ok());
    after_ = disk.Describe();
    ASSERT_NE(before_, after_);
    ASSERT_THAT(before_ + after_, Not(HasSubstr("TORN")));
  }

  // One run that is cut off; returns whether it was.
  bool CutAt(int call, int seed) {
    SCOPED_TRACE(testing::Message() << "call " << call << ", seed " << seed);
    Disk disk;
    const bool acknowledged = disk.RunUntilCut(GetParam(), call);
    const std::string found = disk.Restart(seed);
    if (acknowledged) {
      EXPECT_EQ(found, after_);
    } else {
      EXPECT_THAT(found, AnyOf(before_, after_));
    }
    CheckUsable(disk);
    return disk.cut();
  }

  // What was not done before can be done now, and nothing is left over.
  void CheckUsable(Disk& disk) {
    const absl::Status again = disk.Run(GetParam());
    EXPECT_TRUE(again.ok() || again.code() == GetParam().already_done) << again;
    EXPECT_EQ(disk.Describe(), after_);
    EXPECT_THAT(disk.Names(".staging"), IsEmpty());
  }

  std::string before_, after_;
};

TEST_P(PowerCutTest, LeavesTheOldStateOrTheNewOneWhenNothingUnsyncedSurvives) {
  for (int call = 1; CutAt(call, 0); ++call) ASSERT_LT(call, 1000);
}

TEST_P(PowerCutTest, LeavesTheOldStateOrTheNewOneWhicheverPartOfTheUnsyncedSurvives) {
  for (int seed = 1; seed <= kSeeds; ++seed) {
    for (int call = 1; CutAt(call, seed); ++call) ASSERT_LT(call, 1000);
  }
}

INSTANTIATE_TEST_SUITE_P(All, PowerCutTest, testing::ValuesIn(Operations()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace mlops::crash
