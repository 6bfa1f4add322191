#include "service/doctor/repair.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "absl/strings/str_cat.h"
#include "service/fs/atomic_file.h"
#include "tests/support/fault_dir.h"
#include "tests/support/memory_disk.h"

namespace mlops::doctor {
namespace {

using support::FaultDir;
using support::Faults;
using support::MemoryDisk;
using testing::SizeIs;

constexpr char kTemp[] = "fraud/.workspace.yaml.1";
constexpr char kStaged[] = ".staging/x";
constexpr char kAside[] = ".workspaced/doctor-20231114T221320.000000Z/";

// A base in memory with two leftovers and a missing directory.
class RepairTest : public testing::Test {
 protected:
  void SetUp() override { Fill(disk); }

  static void Fill(MemoryDisk& disk) {
    const auto top = disk.OpenTop();
    for (const char* dir : {"fraud", ".workspaced", ".staging", kStaged})
      ASSERT_TRUE(top->MakeDir(dir).ok());
    for (const std::string& file :
         {std::string(kTemp), absl::StrCat(kStaged, "/workspace.yaml")})
      ASSERT_TRUE(fs::WriteNewFile(*top, file, "content").ok());
    disk.SyncAll();
  }

  static std::vector<Repaired> Repair(fs::Dir& base) {
    using Kind = doctor::Repair::Kind;
    const std::vector<Finding> findings = {
        {.repairs = {{Kind::kSetAside, kTemp}, {Kind::kSetAside, kStaged}}},
        {.repairs = {{Kind::kMakeDirectory, "fraud/dvc"}}}};
    return CarryOut(base, findings, absl::FromUnixSeconds(1'700'000'000));
  }

  // Whether the file of that name has its content, at its place or aside.
  static bool IsThere(MemoryDisk& disk, const std::string& name) {
    const auto top = disk.OpenTop();
    const auto here = top->ReadFile(name, 100),
               aside = top->ReadFile(absl::StrCat(kAside, name), 100);
    return (here.ok() && here->data == "content") ||
           (aside.ok() && aside->data == "content");
  }

  MemoryDisk disk;
};

TEST_F(RepairTest, MovesAndMakesDurably) {
  EXPECT_THAT(Repair(*disk.OpenTop()), SizeIs(3));
  disk.CutPower([] { return false; });
  const auto top = disk.OpenTop();
  EXPECT_TRUE(top->Stat(absl::StrCat(kAside, kTemp)).ok());
  EXPECT_TRUE(top->Stat(absl::StrCat(kAside, kStaged, "/workspace.yaml")).ok());
  EXPECT_FALSE(top->Stat(kTemp).ok());
  EXPECT_TRUE(top->Stat("fraud/dvc").ok());
}

TEST_F(RepairTest, OmitsWhatIsNoLongerNecessary) {
  EXPECT_THAT(Repair(*disk.OpenTop()), SizeIs(3));
  EXPECT_THAT(Repair(*disk.OpenTop()), SizeIs(0));
}

TEST_F(RepairTest, AFailureIsReportedAndLosesNothing) {
  Faults faults;
  FaultDir dir(disk.OpenTop(), &faults);
  faults.Begin({.call = 1, .all_after = true});
  const std::vector<Repaired> done = Repair(dir);
  ASSERT_THAT(done, SizeIs(3));
  for (const Repaired& one : done) EXPECT_FALSE(one.status.ok());
  EXPECT_TRUE(IsThere(disk, kTemp));
}

// Cuts the power at each call, with several choices of what survives.
TEST(RepairPowerCutTest, LosesNothing) {
  class Peek : public RepairTest {
   public:
    using RepairTest::Fill;
    using RepairTest::IsThere;
    using RepairTest::Repair;
    void TestBody() override {}
  };
  bool cut = true;
  for (int call = 1; cut; ++call) {
    for (int seed = 0; seed < 10; ++seed) {
      MemoryDisk disk;
      Peek::Fill(disk);
      Faults faults;
      FaultDir dir(disk.OpenTop(), &faults);
      faults.Begin({.call = call, .all_after = true, .reads_too = true});
      Peek::Repair(dir);
      cut = faults.happened();
      std::mt19937 random(seed);
      disk.CutPower([&] { return seed > 0 && random() % 2 == 0; });
      for (const std::string& file :
           {std::string(kTemp), absl::StrCat(kStaged, "/workspace.yaml")})
        EXPECT_TRUE(Peek::IsThere(disk, file))
            << file << " at call " << call << " with seed " << seed;
      // A second run finishes the work.
      Peek::Repair(*disk.OpenTop());
      EXPECT_FALSE(disk.OpenTop()->Stat(kTemp).ok());
    }
  }
}

}  // namespace
}  // namespace mlops::doctor
