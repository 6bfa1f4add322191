// Cuts the power at each mutating call of the file system in turn. Any part of
// the unsynced changes may be lost.
#include <map>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <utility>
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
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr int kSeeds = 20;

// The operations that run before the power cut.
struct Sequence {
  std::string name;
  std::vector<Operation> operations;
};
std::ostream& operator<<(std::ostream& out, const Sequence& sequence) {
  return out << sequence.name;
}

// Returns each operation alone, and several in a row, each of which starts with
// the unsynced changes of the previous ones.
std::vector<Sequence> Sequences() {
  std::vector<Sequence> sequences;
  std::map<std::string, Operation> by_name;
  for (const Operation& operation : Operations()) {
    sequences.push_back({operation.name, {operation}});
    by_name[operation.name] = operation;
  }
  Sequence row{"Row", {}};
  for (const char* name :
       {"Create", "Replace", "Undelete", "Delete", "Adopt", "Sweep"}) {
    row.operations.push_back(by_name[name]);
  }
  sequences.push_back(std::move(row));
  return sequences;
}

// A disk in memory, filled.
class Disk {
 public:
  Disk() {
    Fill(OpenBase(), shifted_.clock());
    disk_.SyncAll();
  }

  // Runs the operations until the power is cut at mutating call number `call`,
  // or until they end. Returns how many were acknowledged.
  size_t RunUntilCut(const std::vector<Operation>& operations, int call) {
    const auto catalog = Open(OpenBase()(), shifted_.clock());
    faults_.Begin({.call = call, .all_after = true, .reads_too = true});
    size_t acknowledged = 0;
    for (const Operation& operation : operations) {
      if (!operation.run(*catalog, shifted_).ok()) break;
      ++acknowledged;
    }
    return acknowledged;
  }

  bool cut() const { return faults_.happened(); }

  // Restarts after a power cut and describes what users find. With seed 0,
  // nothing unsynced survives; other seeds choose at random.
  std::string Restart(int seed) {
    std::mt19937 random(seed);
    disk_.CutPower([&] { return seed > 0 && random() % 2 == 0; });
    faults_.End();
    catalog_ = Open(OpenBase()(), shifted_.clock());
    return Describe();
  }

  std::string Describe() {
    return crash::Describe(*catalog_, *disk_.OpenTop());
  }

  absl::Status Run(const Operation& operation) {
    return operation.run(*catalog_, shifted_);
  }

  std::vector<std::string> Names(absl::string_view dir) {
    return crash::Names(*disk_.OpenTop(), dir);
  }

 private:
  crash::OpenBase OpenBase() {
    return [this] {
      return std::make_unique<FaultDir>(disk_.OpenTop(), &faults_);
    };
  }

  MemoryDisk disk_;
  Faults faults_;
  ShiftedClock shifted_{disk_.clock()};
  std::unique_ptr<catalog::FileCatalog> catalog_;
};

class PowerCutTest : public testing::TestWithParam<Sequence> {
 protected:
  void SetUp() override {
    Disk disk;
    states_ = {disk.Restart(0)};
    for (const Operation& operation : operations()) {
      ASSERT_TRUE(disk.Run(operation).ok());
      states_.push_back(disk.Describe());
      ASSERT_NE(states_.back(), *(states_.end() - 2));
    }
    for (const std::string& state : states_)
      ASSERT_THAT(state, Not(HasSubstr("TORN")));
  }

  const std::vector<Operation>& operations() const {
    return GetParam().operations;
  }

  // Runs the operations with a power cut at mutating call number `call`.
  // Returns whether the operations came that far.
  bool CutAt(int call, int seed) {
    SCOPED_TRACE(testing::Message() << "call " << call << ", seed " << seed);
    Disk disk;
    size_t done = disk.RunUntilCut(operations(), call);
    const std::string found = disk.Restart(seed);
    // The interrupted operation may have taken effect nevertheless.
    if (done < operations().size() && found == states_[done + 1]) ++done;
    EXPECT_EQ(found, states_[done]);
    Finish(disk, done);
    return disk.cut();
  }

  // Checks that the remaining operations succeed now and leave no temporary
  // files.
  void Finish(Disk& disk, size_t done) {
    for (; done < operations().size(); ++done) {
      const absl::Status status = disk.Run(operations()[done]);
      EXPECT_TRUE(status.ok()) << status;
    }
    EXPECT_EQ(disk.Describe(), states_.back());
    EXPECT_THAT(disk.Names(".staging"), IsEmpty());
  }

  // The states before the first operation and after each operation.
  std::vector<std::string> states_;
};

TEST_P(PowerCutTest, LeavesTheOldStateOrTheNewOneWhenNothingUnsyncedSurvives) {
  for (int call = 1; CutAt(call, 0); ++call) ASSERT_LT(call, 1000);
}

TEST_P(PowerCutTest,
       LeavesTheOldStateOrTheNewOneWhicheverPartOfTheUnsyncedSurvives) {
  for (int seed = 1; seed <= kSeeds; ++seed) {
    for (int call = 1; CutAt(call, seed); ++call) ASSERT_LT(call, 1000);
  }
}

INSTANTIATE_TEST_SUITE_P(All, PowerCutTest, testing::ValuesIn(Sequences()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace mlops::crash
