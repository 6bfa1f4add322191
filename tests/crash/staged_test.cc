// Creates workspaces with files, by each way there is, while each mutating call
// in turn fails, or the power is cut at it. The workspace must be complete or
// absent, and nothing may remain in the staging directory after a restart.
#include <functional>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/sha256.h"
#include "proto/cpp/base/status_macros.h"
#include "re2/re2.h"
#include "service/archive/archives.h"
#include "service/artifacts/copy_tree.h"
#include "service/artifacts/stage.h"
#include "service/artifacts/templates.h"
#include "service/base/clock.h"
#include "service/core/authority.h"
#include "service/core/layout.h"
#include "service/fs/atomic_file.h"
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
// Of the small trees, each file is synced, unless the disk can sync everything.
constexpr int64_t kFew = 3;
constexpr int64_t kMany = artifacts::StagedTree::kSyncEach + 2;

// What an operation works on.
struct Server {
  std::shared_ptr<fs::Dir> base;
  catalog::FileCatalog& catalog;
  artifacts::Stage& stage;
  base::Clock clock;
};

struct Creation {
  std::string name;
  bool can_sync_all = false;
  std::function<absl::Status(Server&)> run;
  // Whether the uid and the times of the new workspace differ each time.
  bool varies = false;
};
std::ostream& operator<<(std::ostream& out, const Creation& creation) {
  return out << creation.name;
}

absl::Status Place(Server& server, const core::StagedFiles& files) {
  return server.catalog
      .Commit(core::CreateChange{
          .workspace = support::NewWorkspace("new", kBasePath),
          .staged = files.name()})
      .status();
}

absl::Status CreateFilled(Server& server, int64_t files) {
  ASSIGN_OR_RETURN(auto tree, server.stage.Begin());
  RETURN_IF_ERROR(tree->root().MakeDir("models"));
  RETURN_IF_ERROR(tree->root().MakeDir("models/sub"));
  for (int64_t i = 0; i < files; ++i) {
    ASSIGN_OR_RETURN(auto file,
                     tree->root().CreateFile(absl::StrCat("models/sub/", i)));
    RETURN_IF_ERROR(file->Write("content"));
    RETURN_IF_ERROR(tree->Finish(std::move(file)));
  }
  RETURN_IF_ERROR(tree->Sync());
  return Place(server, *tree);
}

absl::Status CreateFromTemplate(Server& server) {
  artifacts::Templates templates(server.base, &server.stage);
  ASSIGN_OR_RETURN(const core::TemplatePtr tmpl, templates.Load("tabular"));
  ASSIGN_OR_RETURN(
      const auto files,
      templates.Fill(*tmpl, {.project = "new", .root = "/", .date = "today"}));
  return Place(server, *files);
}

absl::Status Clone(Server& server) {
  ASSIGN_OR_RETURN(const auto from, server.base->OpenDir("fraud"));
  ASSIGN_OR_RETURN(const auto tree, server.stage.Begin());
  RETURN_IF_ERROR(artifacts::CopyTree({.project = support::Project("fraud"),
                                       .from = *from,
                                       .to = *tree,
                                       .directories = {"models", "outputs"}},
                                      core::NeverCancelled,
                                      [](const artifacts::CopyProgress&) {})
                      .status());
  RETURN_IF_ERROR(tree->Sync());
  return Place(server, *tree);
}

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

absl::Status Import(Server& server) {
  static const std::string* const kArchive = new std::string(MakeArchive());
  core::Authority authority(&server.catalog, nullptr, std::string(kBasePath),
                            server.clock);
  archive::Archives archives(&authority, &server.stage, server.base,
                             std::string(kBasePath));
  ASSIGN_OR_RETURN(const archive::ImportStart start,
                   archives.Import({.project = support::Project("new"),
                                    .request_id = "r1"}));
  if (start.existing != nullptr) return absl::OkStatus();
  RETURN_IF_ERROR(start.importer->Feed({absl::string_view(*kArchive)}));
  return start.importer->Finish().status();
}

std::vector<Creation> Creations() {
  return {
      {"FewFiles", false,
       [](Server& server) { return CreateFilled(server, kFew); }},
      {"ManyFilesOnADiskThatSyncsAll", true,
       [](Server& server) { return CreateFilled(server, kMany); }},
      {"Template", false, CreateFromTemplate},
      {"Clone", false, Clone},
      {"Import", false, Import, true},
  };
}

// A disk in memory, filled.
class Disk {
 public:
  explicit Disk(bool can_sync_all) {
    disk_.set_can_sync_all(can_sync_all);
    Fill([this] { return OpenTop(); }, clock());
    const auto top = disk_.OpenTop();
    for (const char* dir :
         {".templates", ".templates/tabular", ".templates/tabular/files",
          ".templates/tabular/files/models"})
      EXPECT_TRUE(top->MakeDir(dir).ok());
    EXPECT_TRUE(fs::WriteNewFile(*top, ".templates/tabular/template.yaml",
                                 "directories: ['outputs/${project}']\n")
                    .ok());
    EXPECT_TRUE(
        fs::WriteNewFile(*top, ".templates/tabular/files/models/a", "a").ok());
    disk_.SyncAll();
    Restart();
  }

  void Restart() {
    catalog_.reset();
    catalog_ = Open(OpenTop(), clock());
    stage_ = std::make_unique<artifacts::Stage>(
        OpenTop(), std::make_shared<core::DiskHealth>());
  }
  // With seed 0, nothing unsynced survives; other seeds choose at random.
  void CutPower(int seed) {
    std::mt19937 random(seed);
    disk_.CutPower([&] { return seed > 0 && random() % 2 == 0; });
    faults_.End();
    Restart();
  }
  absl::Status Run(const Creation& creation) {
    Server server{.base = OpenTop(),
                  .catalog = *catalog_,
                  .stage = *stage_,
                  .clock = clock()};
    return creation.run(server);
  }
  std::string Describe(const Creation& creation) {
    std::string text = crash::Describe(*catalog_, *disk_.OpenTop());
    if (!creation.varies) return text;
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
  base::Clock clock() { return disk_.clock(); }

  support::MemoryDisk disk_;
  Faults faults_;
  std::unique_ptr<catalog::FileCatalog> catalog_;
  std::unique_ptr<artifacts::Stage> stage_;
};

class StagedCrashTest : public testing::TestWithParam<Creation> {
 protected:
  void SetUp() override {
    Disk disk(GetParam().can_sync_all);
    before_ = disk.Describe(GetParam());
    ASSERT_TRUE(disk.Run(GetParam()).ok());
    after_ = disk.Describe(GetParam());
    ASSERT_NE(before_, after_);
    ASSERT_THAT(after_, Not(HasSubstr("TORN")));
    ASSERT_THAT(disk.Staged(), IsEmpty());
  }

  // Checks what a creation with the result `status` left, and that it succeeds
  // now.
  void Check(Disk& disk, const absl::Status& status) {
    if (status.ok()) {
      EXPECT_EQ(disk.Describe(GetParam()), after_);
    } else {
      EXPECT_THAT(disk.Describe(GetParam()), AnyOf(before_, after_));
    }
    disk.Restart();
    EXPECT_THAT(disk.Staged(), IsEmpty());
    const absl::Status again = disk.Run(GetParam());
    EXPECT_TRUE(again.ok() || absl::IsAlreadyExists(again)) << again;
    EXPECT_EQ(disk.Describe(GetParam()), after_);
    EXPECT_THAT(disk.Staged(), IsEmpty());
  }

  // Run the creation with a power cut, or a fault, at the mutating call number
  // `call`. Return whether it came that far.
  bool CutAt(int call, int seed) {
    SCOPED_TRACE(testing::Message() << "call " << call << ", seed " << seed);
    Disk disk(GetParam().can_sync_all);
    disk.faults().Begin({.call = call, .all_after = true, .reads_too = true});
    const absl::Status status = disk.Run(GetParam());
    const bool cut = disk.faults().happened();
    disk.CutPower(seed);
    Check(disk, status);
    return cut;
  }
  bool FailAt(int call, Faults::Plan plan) {
    SCOPED_TRACE(testing::Message() << "call " << call << " " << plan.error);
    Disk disk(GetParam().can_sync_all);
    plan.call = call;
    disk.faults().Begin(plan);
    const absl::Status status = disk.Run(GetParam());
    disk.faults().End();
    if (!status.ok()) {
      EXPECT_THAT(base::GetReason(status), AnyOf("IO_ERROR", "NO_SPACE"))
          << status;
      // A single failure, other than that of the removal, leaves nothing.
      if (!plan.all_after && !plan.performed && disk.healthy()) {
        EXPECT_THAT(disk.Staged(), IsEmpty());
      }
    }
    Check(disk, status);
    return disk.faults().happened();
  }

  std::string before_, after_;
};

TEST_P(StagedCrashTest, APowerCutLeavesACompleteWorkspaceOrNone) {
  for (int seed = 0; seed <= kSeeds; ++seed) {
    // Cut at fewer places where that would take long.
    const int step = GetParam().can_sync_all ? 7 : 1;
    for (int call = 1; CutAt(call, seed); call += step) ASSERT_LT(call, 1000);
  }
}

TEST_P(StagedCrashTest, AFailureLeavesACompleteWorkspaceOrNone) {
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

INSTANTIATE_TEST_SUITE_P(All, StagedCrashTest, testing::ValuesIn(Creations()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace mlops::crash
