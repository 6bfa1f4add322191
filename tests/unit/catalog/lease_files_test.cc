// Tests LeaseFiles over a file system in memory that can lose power, and over
// one whose calls fail.
#include "service/catalog/lease_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "service/core/layout.h"
#include "service/fs/atomic_file.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fault_dir.h"
#include "tests/support/matchers.h"
#include "tests/support/memory_disk.h"
#include "tests/support/workspaces.h"

namespace mlops::catalog {
namespace {

using absl::StatusCode;
using core::StoredLease;
using support::Faults;
using support::HasDetail;
using support::IsError;
using support::Project;
using testing::AnyOf;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

StoredLease LeaseOf(absl::string_view project, int64_t fence,
                    std::string holder = "trainer-7") {
  return {.project = Project(project),
          .uid = "u1",
          .holder = std::move(holder),
          .fence = fence,
          .acquire_time = support::TimeAt(1),
          .ttl = absl::Seconds(60)};
}

class LeaseFilesTest : public testing::Test {
 protected:
  LeaseFilesTest() { Restart(); }

  void Restart() {
    files = std::make_unique<LeaseFiles>(
        std::make_unique<support::FaultDir>(disk.OpenTop(), &faults),
        std::make_shared<core::DiskHealth>(), clock.clock());
  }
  std::vector<StoredLease> Load() {
    problems.clear();
    auto leases = files->Load([this](const absl::Status& problem) {
      problems.emplace_back(problem.message());
    });
    EXPECT_OK(leases);
    return leases.ok() ? *std::move(leases) : std::vector<StoredLease>();
  }
  // Returns the projects of the stored leases with their fences.
  std::vector<std::string> Stored() {
    std::vector<std::string> texts;
    for (const StoredLease& lease : Load())
      texts.push_back(absl::StrCat(lease.project.str(), " ", lease.fence));
    std::sort(texts.begin(), texts.end());
    return texts;
  }
  std::vector<std::string> Names(absl::string_view path) {
    std::vector<std::string> names;
    const auto dir = disk.OpenTop()->OpenDir(path);
    if (!dir.ok()) return names;
    EXPECT_OK((*dir)->ForEachEntry([&](absl::string_view name, fs::EntryType) {
      names.emplace_back(name);
      return true;
    }));
    return names;
  }
  void Overwrite(const std::string& path, absl::string_view text) {
    const auto top = disk.OpenTop();
    top->RemoveFile(path).IgnoreError();
    EXPECT_OK(fs::WriteNewFile(*top, path, text));
  }

  support::MemoryDisk disk;
  support::FakeClock clock{absl::UnixEpoch()};
  Faults faults;
  std::vector<std::string> problems;
  std::unique_ptr<LeaseFiles> files;
};

TEST_F(LeaseFilesTest, AnEmptyBaseHasNoLeases) {
  EXPECT_THAT(Load(), IsEmpty());
}

TEST_F(LeaseFilesTest, ALeaseComesBackAsItWasSaved) {
  StoredLease lease = LeaseOf("fraud", 7, "\"a\" \\ b");
  lease.ttl = absl::Milliseconds(1500) + absl::Nanoseconds(1);
  ASSERT_OK(files->Save(lease));
  Restart();
  const std::vector<StoredLease> loaded = Load();
  ASSERT_THAT(loaded, SizeIs(1));
  EXPECT_EQ(loaded[0].project, lease.project);
  EXPECT_EQ(loaded[0].uid, "u1");
  EXPECT_EQ(loaded[0].holder, lease.holder);
  EXPECT_EQ(loaded[0].fence, 7);
  EXPECT_EQ(loaded[0].acquire_time, lease.acquire_time);
  // Never shorter.
  EXPECT_EQ(loaded[0].ttl, absl::Milliseconds(1501));
}

TEST_F(LeaseFilesTest, SaveReplacesAndRemoveRemoves) {
  ASSERT_OK(files->Save(LeaseOf("fraud", 7)));
  ASSERT_OK(files->Save(LeaseOf("fraud", 8)));
  ASSERT_OK(files->Save(LeaseOf("churn", 9)));
  EXPECT_THAT(Stored(), ElementsAre("churn 9", "fraud 8"));
  ASSERT_OK(files->Remove(Project("fraud")));
  ASSERT_OK(files->Remove(Project("fraud")));
  EXPECT_THAT(Stored(), ElementsAre("churn 9"));
}

TEST_F(LeaseFilesTest, FencesGrowAndAreReservedInBlocks) {
  EXPECT_EQ(files->NextFence().value(), 1);
  const auto stamp = [this] {
    return disk.OpenTop()->Stat(".workspaced/fences")->modify_time;
  };
  const absl::Time written = stamp();
  for (int64_t fence = 2; fence <= kFencesPerBlock; ++fence)
    EXPECT_EQ(files->NextFence().value(), fence);
  EXPECT_EQ(stamp(), written);
  EXPECT_EQ(files->NextFence().value(), kFencesPerBlock + 1);
  EXPECT_GT(stamp(), written);
  Restart();
  EXPECT_EQ(files->NextFence().value(), 2 * kFencesPerBlock + 1);
}

TEST_F(LeaseFilesTest, AFenceIsLargerThanThatOfEveryStoredLease) {
  ASSERT_OK(files->Save(LeaseOf("fraud", 500)));
  Restart();
  Load();
  EXPECT_EQ(files->NextFence().value(), 501);
}

TEST_F(LeaseFilesTest, WithoutTheFileFencesGoOnFromTheTime) {
  EXPECT_EQ(files->NextFence().value(), 1);
  // As after the restoration of a backup that lacks the server's directory.
  ASSERT_OK(disk.OpenTop()->RemoveFile(".workspaced/fences"));
  clock.Advance(absl::Hours(1));
  Restart();
  EXPECT_EQ(files->NextFence().value(), 3'600'000);
  clock.Advance(-absl::Hours(2));
  Restart();
  EXPECT_GT(files->NextFence().value(), 3'600'000);
}

TEST_F(LeaseFilesTest, DamagedFencesAreNeverGuessed) {
  ASSERT_OK(files->NextFence());
  for (const char* text : {"", "7\n", "# Larger than every", "12"}) {
    Overwrite(".workspaced/fences", text);
    Restart();
    const absl::Status status = files->NextFence().status();
    EXPECT_THAT(status, IsError(StatusCode::kInternal, "IO_ERROR"));
    EXPECT_THAT(status, HasDetail("path", ".workspaced/fences"));
  }
  // What the message tells the operator to write.
  Overwrite(".workspaced/fences",
            "# Larger than every fence given so far. Never make it smaller.\n"
            "5000\n");
  EXPECT_EQ(files->NextFence().value(), 5000);
}

TEST_F(LeaseFilesTest, ADamagedLeaseIsReportedAndHidesNoOther) {
  ASSERT_OK(files->Save(LeaseOf("fraud", 7)));
  int number = 0;
  for (const char* text : {"", "{", "[]", R"({"fence": "7"})",
                           R"({"uid":"u","holder":"a","fence":7,"ttl_ms":1})"})
    Overwrite(absl::StrCat(".workspaced/leases/x", ++number), text);
  Overwrite(".workspaced/leases/-not-a-project-", "{}");
  EXPECT_THAT(Stored(), ElementsAre("fraud 7"));
  EXPECT_THAT(problems, SizeIs(6));
}

TEST_F(LeaseFilesTest, LeftoversOfACrashAreRemoved) {
  ASSERT_OK(files->Save(LeaseOf("fraud", 7)));
  ASSERT_OK(files->NextFence());
  Overwrite(".workspaced/leases/.fraud.0123", "{");
  Overwrite(".workspaced/fences.0123", "9");
  Restart();
  EXPECT_THAT(Stored(), ElementsAre("fraud 7"));
  EXPECT_THAT(Names(".workspaced/leases"), ElementsAre("fraud"));
  EXPECT_THAT(Names(".workspaced"),
              testing::UnorderedElementsAre("leases", "fences"));
}

TEST_F(LeaseFilesTest, WithoutPermissionNothingIsWritten) {
  files = std::make_unique<LeaseFiles>(
      disk.OpenTop(), std::make_shared<core::DiskHealth>(
                          [] { return absl::AbortedError("not now"); }));
  EXPECT_TRUE(absl::IsAborted(files->Save(LeaseOf("fraud", 7))));
  EXPECT_TRUE(absl::IsAborted(files->Remove(Project("fraud"))));
  EXPECT_TRUE(absl::IsAborted(files->NextFence().status()));
  EXPECT_THAT(Names(".workspaced"), IsEmpty());
}

// What UseLeases() has done.
struct Used {
  int64_t last_fence = 0;
  // The fence of the stored lease, 0 if there is none: after the last call
  // that succeeded, and after the one that failed if that took effect.
  int64_t stored = 0;
  int64_t perhaps = 0;
};

// Grants, releases and grants a lease, as Leases does, until a call fails.
Used UseLeases(LeaseFiles& files) {
  Used used;
  for (const bool again : {true, false}) {
    const auto fence = files.NextFence();
    if (!fence.ok()) return used;
    used.last_fence = used.perhaps = *fence;
    if (!files.Save(LeaseOf("fraud", *fence)).ok()) return used;
    used.stored = *fence;
    if (!again) break;
    used.perhaps = 0;
    if (!files.Remove(Project("fraud")).ok()) return used;
    used.stored = 0;
  }
  return used;
}

// Returns the fence of the only stored lease; 0 if there is none.
int64_t StoredFence(LeaseFiles& files) {
  const auto leases =
      files.Load([](const absl::Status& problem) { ADD_FAILURE() << problem; });
  EXPECT_OK(leases);
  EXPECT_LE(leases->size(), 1u);
  return leases->empty() ? 0 : leases->front().fence;
}

// The power is cut at each call in turn, with different losses.
TEST(LeaseFilesCrashTest, APowerCutLosesNeitherALeaseNorAFence) {
  bool happened = true;
  for (int call = 1; happened; ++call) {
    ASSERT_LT(call, 1000);
    for (unsigned seed = 0; seed < 20; ++seed) {
      SCOPED_TRACE(testing::Message() << "call " << call << " seed " << seed);
      support::MemoryDisk disk;
      Faults faults;
      LeaseFiles before(
          std::make_unique<support::FaultDir>(disk.OpenTop(), &faults),
          std::make_shared<core::DiskHealth>());
      faults.Begin({.call = call, .all_after = true, .reads_too = true});
      const Used used = UseLeases(before);
      happened = faults.happened();
      std::mt19937 random(seed);
      disk.CutPower([&random] { return random() % 2 == 0; });
      LeaseFiles after(disk.OpenTop(), std::make_shared<core::DiskHealth>());
      EXPECT_THAT(StoredFence(after), AnyOf(used.stored, used.perhaps));
      EXPECT_GT(after.NextFence().value(), used.last_fence);
    }
  }
}

// Every mutating call fails in turn.
TEST(LeaseFilesCrashTest, AFailureIsReportedAndNoFenceComesTwice) {
  for (const bool performed : {false, true}) {
    bool happened = true;
    for (int call = 1; happened; ++call) {
      SCOPED_TRACE(testing::Message() << "call " << call << " " << performed);
      ASSERT_LT(call, 1000);
      support::MemoryDisk disk;
      Faults faults;
      const auto health = std::make_shared<core::DiskHealth>();
      LeaseFiles before(
          std::make_unique<support::FaultDir>(disk.OpenTop(), &faults), health);
      faults.Begin({.call = call, .performed = performed});
      Used used = UseLeases(before);
      happened = faults.happened();
      faults.End();
      // After a failed sync only a restart helps; otherwise a retry does.
      const auto next = before.NextFence();
      EXPECT_EQ(next.ok(), health->ok());
      if (next.ok()) {
        EXPECT_GT(*next, used.last_fence);
        EXPECT_OK(before.Save(LeaseOf("fraud", *next)));
        used = {.last_fence = *next, .stored = *next, .perhaps = *next};
      }
      LeaseFiles after(disk.OpenTop(), std::make_shared<core::DiskHealth>());
      EXPECT_THAT(StoredFence(after), AnyOf(used.stored, used.perhaps));
      EXPECT_GT(after.NextFence().value(), used.last_fence);
    }
  }
}

}  // namespace
}  // namespace mlops::catalog
