// Imports an archive while each mutating call in turn fails, or the power is
// cut at it. The workspace must be complete or absent, nothing may remain
// in the staging directory after a restart, and a repetition with the same
// request_id succeeds.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/sha256.h"
#include "proto/cpp/base/status_macros.h"
#include "re2/re2.h"
#include "service/archive/archives.h"
#include "service/core/layout.h"
#include "tests/crash/scenario.h"
#include "tests/support/fault_dir.h"
#include "tests/support/memory_disk.h"
#include "tests/support/workspaces.h"

namespace mlops::crash {
namespace {

using archive::EncodeTarEntry;
using archive::TarPadding;
using archive::TarType;
using support::Faults;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr int kSeeds = 10;

std::string FileEntry(const std::string& path, const std::string& content) {
  const auto size = static_cast<int64_t>(content.size());
  return absl::StrCat(EncodeTarEntry({.path = path, .size_bytes = size}),
                      content, std::string(TarPadding(size), '\0'));
}

// Returns an archive with a few files.
std::string MakeArchive() {
  archive::ChecksumList checksums;
  const auto add = [&checksums](const std::string& path,
                                const std::string& content) {
    base::Sha256 sha256;
    sha256.Update(content);
    checksums.Add(path, sha256.Finish());
    return FileEntry(path, content);
  };
  std::string text =
      add("manifest.json",
          archive::EncodeManifest(archive::MakeManifest(
              support::NewWorkspace("fraud", kBasePath), {"models"})));
  for (const char* directory : {"models", "models/v1"})
    text += EncodeTarEntry({.path = directory, .type = TarType::kDirectory});
  for (const char* path : {"models/v1/a", "models/v1/b", "models/z"})
    text += add(path, path);
  return absl::StrCat(text,
                      FileEntry(archive::ChecksumsName(1), checksums.text()),
                      std::string(archive::kTarEndBytes, '\0'));
}

// A disk in memory, filled, with what imports archives to it.
class Disk {
 public:
  Disk() {
    Fill([this] { return OpenTop(); }, disk_.clock());
    disk_.SyncAll();
    Restart();
  }

  void Restart() {
    archives_.reset();
    authority_.reset();
    catalog_.reset();
    catalog_ = Open(OpenTop(), disk_.clock());
    authority_ = std::make_unique<core::Authority>(
        catalog_.get(), nullptr, std::string(kBasePath), disk_.clock());
    stage_ = std::make_unique<artifacts::Stage>(
        OpenTop(), std::make_shared<core::DiskHealth>());
    archives_ = std::make_unique<archive::Archives>(
        authority_.get(), stage_.get(), OpenTop(), std::string(kBasePath));
  }
  // With seed 0, nothing unsynced survives; other seeds choose at random.
  void CutPower(int seed) {
    std::mt19937 random(seed);
    disk_.CutPower([&] { return seed > 0 && random() % 2 == 0; });
    faults_.End();
    Restart();
  }
  absl::Status Import(const std::string& text) {
    ASSIGN_OR_RETURN(const archive::ImportStart start,
                     archives_->Import({.project = support::Project("new"),
                                        .request_id = "r1"}));
    if (start.existing != nullptr) return absl::OkStatus();
    RETURN_IF_ERROR(start.importer->Feed({absl::string_view(text)}));
    return start.importer->Finish().status();
  }
  // Describes everything but the uid of the new workspace, which is random, and
  // the times in records.
  std::string Describe() {
    std::string text = crash::Describe(*catalog_, *disk_.OpenTop());
    RE2::GlobalReplace(&text, "workspace new uid=[0-9a-f]+", "workspace new");
    RE2::GlobalReplace(&text, "(created_at|updated_at|uid): .*", "\\1");
    return text;
  }
  std::vector<std::string> Staged() {
    return Names(*disk_.OpenTop(), core::layout::kStagingDir);
  }
  Faults& faults() { return faults_; }
  bool healthy() const { return catalog_->healthy(); }

 private:
  std::unique_ptr<fs::Dir> OpenTop() {
    return std::make_unique<support::FaultDir>(disk_.OpenTop(), &faults_);
  }

  support::MemoryDisk disk_;
  Faults faults_;
  std::unique_ptr<catalog::FileCatalog> catalog_;
  std::unique_ptr<core::Authority> authority_;
  std::unique_ptr<artifacts::Stage> stage_;
  std::unique_ptr<archive::Archives> archives_;
};

class ImportCrashTest : public testing::Test {
 protected:
  void SetUp() override {
    Disk disk;
    before_ = disk.Describe();
    const absl::Status status = disk.Import(archive_);
    ASSERT_TRUE(status.ok()) << status;
    after_ = disk.Describe();
    ASSERT_NE(before_, after_);
    ASSERT_THAT(after_, Not(HasSubstr("TORN")));
    ASSERT_THAT(disk.Staged(), IsEmpty());
  }

  // Checks what an import with the result `status` left, and that it can be
  // repeated.
  void Check(Disk& disk, const absl::Status& status) {
    if (status.ok()) {
      EXPECT_EQ(disk.Describe(), after_);
    } else {
      EXPECT_THAT(disk.Describe(), AnyOf(before_, after_));
    }
    disk.Restart();
    EXPECT_THAT(disk.Staged(), IsEmpty());
    const absl::Status again = disk.Import(archive_);
    EXPECT_TRUE(again.ok()) << again;
    EXPECT_EQ(disk.Describe(), after_);
    EXPECT_THAT(disk.Staged(), IsEmpty());
  }

  // Run the import with a power cut, or a fault, at the mutating call number
  // `call`. Return whether it came that far.
  bool CutAt(int call, int seed) {
    SCOPED_TRACE(testing::Message() << "call " << call << ", seed " << seed);
    Disk disk;
    disk.faults().Begin({.call = call, .all_after = true, .reads_too = true});
    const absl::Status status = disk.Import(archive_);
    const bool cut = disk.faults().happened();
    disk.CutPower(seed);
    Check(disk, status);
    return cut;
  }
  bool FailAt(int call, Faults::Plan plan) {
    SCOPED_TRACE(testing::Message() << "call " << call << " " << plan.error);
    Disk disk;
    plan.call = call;
    disk.faults().Begin(plan);
    const absl::Status status = disk.Import(archive_);
    disk.faults().End();
    if (!status.ok()) {
      EXPECT_THAT(base::GetReason(status), AnyOf("IO_ERROR", "NO_SPACE"))
          << status;
      // A single failure leaves nothing.
      if (!plan.all_after && !plan.performed && disk.healthy()) {
        EXPECT_THAT(disk.Staged(), IsEmpty());
      }
    }
    Check(disk, status);
    return disk.faults().happened();
  }

  const std::string archive_ = MakeArchive();
  std::string before_, after_;
};

TEST_F(ImportCrashTest, APowerCutLeavesACompleteWorkspaceOrNone) {
  for (int seed = 0; seed <= kSeeds; ++seed)
    for (int call = 1; CutAt(call, seed); ++call) ASSERT_LT(call, 1000);
}

TEST_F(ImportCrashTest, AFailureLeavesACompleteWorkspaceOrNone) {
  const absl::Status told =
      base::MakeError(absl::StatusCode::kInternal, "a fault",
                      {.reason = "IO_ERROR", .metadata = {{"path", "x"}}});
  for (const Faults::Plan& plan :
       {Faults::Plan{.error = told},
        Faults::Plan{.all_after = true, .error = told},
        Faults::Plan{.performed = true, .error = told}}) {
    for (int call = 1; FailAt(call, plan); ++call) ASSERT_LT(call, 1000);
  }
}

}  // namespace
}  // namespace mlops::crash
