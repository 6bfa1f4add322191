#include "service/archive/archives.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "proto/cpp/base/sha256.h"
#include "service/catalog/file_catalog.h"
#include "service/catalog/usage_scan.h"
#include "service/core/errors.h"
#include "tests/support/matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/workspaces.h"

namespace mlops::archive {
namespace {

namespace stdfs = std::filesystem;
using absl::StatusCode;
using support::HasDetail;
using support::IsError;
using support::Project;
using testing::HasSubstr;

const auto kInvalid = IsError(StatusCode::kInvalidArgument, "ARCHIVE_INVALID");
const auto kUnsuitable =
    IsError(StatusCode::kFailedPrecondition, "PATH_UNSUITABLE");

// A server's base directory.
class Base {
 public:
  Base()
      : dir_(fs::OpenBaseDir(temp.path()).value()),
        catalog_(catalog::FileCatalog::Open(dir_, temp.path(), {}).value()),
        authority(catalog_.get(), nullptr, temp.path()),
        stage_(dir_, std::make_shared<core::DiskHealth>([this] {
                 return read_only ? core::ReadOnly(temp.path())
                                  : absl::OkStatus();
               })),
        archives(&authority, &stage_, dir_, temp.path()) {}

  absl::StatusOr<std::string> Export(const std::string& project,
                                     std::vector<std::string> directories = {},
                                     size_t chunk = 100'000) {
    auto exporter = archives.Export(
        {.project = Project(project), .directories = std::move(directories)});
    if (!exporter.ok()) return exporter.status();
    std::string archive, buffer(chunk, '\0');
    while (!(*exporter)->done()) {
      const auto got = (*exporter)->Read(buffer.data(), buffer.size());
      if (!got.ok()) return got.status();
      archive.append(buffer, 0, *got);
    }
    return archive;
  }

  absl::StatusOr<core::WorkspacePtr> Import(const std::string& archive,
                                            const std::string& project,
                                            const std::string& request_id = "",
                                            size_t chunk = 100'000) {
    auto start = archives.Import(
        {.project = Project(project), .request_id = request_id});
    if (!start.ok()) return start.status();
    if (start->existing != nullptr) return start->existing;
    for (size_t i = 0; i < archive.size(); i += chunk) {
      const absl::string_view piece =
          absl::string_view(archive).substr(i, chunk);
      absl::Status fed = start->importer->Feed({piece});
      if (!fed.ok()) return fed;
    }
    return start->importer->Finish();
  }

  void Create(const std::string& project) {
    ASSERT_OK(authority.Create(
        {.project = Project(project), .metadata = {{"team", "risk"}}}));
  }

  bool StagingIsEmpty() const {
    return !stdfs::exists(temp.Path(".staging")) ||
           stdfs::is_empty(temp.Path(".staging"));
  }

  const support::TempDir temp;
  bool read_only = false;

 private:
  const std::shared_ptr<fs::Dir> dir_;
  const std::unique_ptr<catalog::FileCatalog> catalog_;

 public:
  core::Authority authority;

 private:
  artifacts::Stage stage_;

 public:
  Archives archives;
};

// Fills "fraud" with files of every kind.
void Fill(Base& base) {
  base.Create("fraud");
  const support::TempDir& temp = base.temp;
  temp.WriteFile("fraud/models/empty", "");
  temp.WriteFile("fraud/models/v1/weights.bin", std::string(3'000'000, 'w'));
  temp.WriteFile("fraud/models/v1-old/x", "old");
  temp.WriteFile("fraud/outputs/\xc3\xbc \xe2\x82\xac\nline", "odd");
  temp.WriteFile("fraud/outputs/bytes \xff\xfe", "bytes");
  temp.WriteFile(absl::StrCat("fraud/outputs/", std::string(200, 'l')), "long");
  temp.WriteFile("fraud/dvc/.dvc/config", "[core]\n");
  temp.MakeDirs("fraud/monitoring/none");
  temp.Link("v1/weights.bin", "fraud/models/latest");
  temp.Link(temp.Path("fraud/models/v1"), "fraud/outputs/absolute");
  ::chmod(temp.Path("fraud/models/empty").c_str(), 0600);
  ::chmod(temp.Path("fraud/models/v1-old/x").c_str(), 0755);
}

TEST(ArchivesTest, AnImportRestoresEverything) {
  Base from, to;
  Fill(from);
  const auto archive = from.Export("fraud");
  ASSERT_OK(archive);
  const auto workspace = to.Import(*archive, "fraud");
  ASSERT_OK(workspace);
  EXPECT_EQ((*workspace)->metadata["team"], "risk");
  EXPECT_EQ((*workspace)->settings,
            core::DefaultSettings(Project("fraud"), to.temp.Path("fraud")));
  for (const char* name :
       {"models/empty", "models/v1/weights.bin", "models/v1-old/x",
        "outputs/\xc3\xbc \xe2\x82\xac\nline", "outputs/bytes \xff\xfe",
        "dvc/.dvc/config"}) {
    const std::string path = absl::StrCat("fraud/", name);
    EXPECT_EQ(to.temp.ReadFile(path), from.temp.ReadFile(path)) << name;
    EXPECT_EQ(stdfs::last_write_time(to.temp.Path(path)),
              stdfs::last_write_time(from.temp.Path(path)));
    EXPECT_EQ(stdfs::status(to.temp.Path(path)).permissions(),
              stdfs::status(from.temp.Path(path)).permissions());
  }
  EXPECT_EQ(stdfs::last_write_time(to.temp.Path("fraud/models")),
            stdfs::last_write_time(from.temp.Path("fraud/models")));
  EXPECT_TRUE(stdfs::is_empty(to.temp.Path("fraud/monitoring/none")));
  EXPECT_EQ(stdfs::read_symlink(to.temp.Path("fraud/models/latest")),
            "v1/weights.bin");
  EXPECT_EQ(stdfs::read_symlink(to.temp.Path("fraud/outputs/absolute")),
            "../models/v1");
  EXPECT_TRUE(to.StagingIsEmpty());
}

TEST(ArchivesTest, TheSameContentGivesTheSameBytes) {
  Base from, to;
  Fill(from);
  const auto archive = from.Export("fraud");
  ASSERT_OK(archive);
  EXPECT_EQ(*archive, *from.Export("fraud", {}, 777));
  ASSERT_OK(to.Import(*archive, "fraud", "", 1013));
  EXPECT_EQ(*archive, *to.Export("fraud"));
}

TEST(ArchivesTest, ExportsOnlySomeDirectories) {
  Base from, to;
  Fill(from);
  const auto archive = from.Export("fraud", {"dvc"});
  ASSERT_OK(archive);
  ASSERT_OK(to.Import(*archive, "part"));
  EXPECT_EQ(to.temp.ReadFile("part/dvc/.dvc/config"), "[core]\n");
  EXPECT_TRUE(stdfs::is_empty(to.temp.Path("part/models")));
}

TEST(ArchivesTest, AMissingDirectoryIsCreated) {
  Base from, to;
  from.Create("fraud");
  from.temp.Remove("fraud/models");
  const auto archive = from.Export("fraud");
  ASSERT_OK(archive);
  ASSERT_OK(to.Import(*archive, "fraud"));
  EXPECT_TRUE(to.temp.Exists("fraud/models"));
  EXPECT_EQ(*archive, *to.Export("fraud"));
}

TEST(ArchivesTest, ManyChecksumsTakeSeveralLists) {
  Base from, to;
  from.Create("fraud");
  const std::string name(240, 'n');
  for (int i = 0; i < 2'000; ++i)
    from.temp.WriteFile(absl::StrCat("fraud/models/", i, name), "x");
  const auto archive = from.Export("fraud");
  ASSERT_OK(archive);
  EXPECT_THAT(*archive, HasSubstr("checksums/000002.sha256"));
  ASSERT_OK(to.Import(*archive, "fraud"));
  EXPECT_EQ(*archive, *to.Export("fraud"));
}

TEST(ArchivesTest, ReadsDeepTreesWithFewDescriptors) {
  Base from, to;
  from.Create("fraud");
  std::string path = "fraud/models";
  for (int i = 0; i < 100; ++i) {
    absl::StrAppend(&path, "/d");
    from.temp.WriteFile(absl::StrCat(path, "/a"), "a");
    from.temp.WriteFile(absl::StrCat(path, "/z"), "z");
  }
  const auto archive = from.Export("fraud");
  ASSERT_OK(archive);
  ASSERT_OK(to.Import(*archive, "fraud"));
  EXPECT_EQ(*archive, *to.Export("fraud"));
}

TEST(ArchivesTest, RefusesToExportWhatCannotBeImported) {
  struct Case {
    std::function<void(const support::TempDir&)> make;
    std::string path;
  };
  const std::vector<Case> cases = {
      {[](auto& temp) { temp.MakeFifo("p/models/fifo"); }, "models/fifo"},
      {[](auto& temp) { temp.Link("/etc/passwd", "p/models/l"); }, "models/l"},
      {[](auto& temp) { temp.Link("../../other", "p/models/l"); }, "models/l"},
      {[](auto& temp) { temp.Link("../workspace.yaml", "p/models/l"); },
       "models/l"},
      {[](auto& temp) {
         temp.WriteFile("p/models/A", "");
         temp.WriteFile("p/models/a", "");
       },
       "models/a"},
      {[](auto& temp) {
         temp.Remove("p/models");
         temp.WriteFile("p/models", "");
       },
       "models"},
      {[](auto& temp) {
         temp.Remove("p/models");
         temp.Link("dvc", "p/models");
       },
       "models"},
  };
  for (const Case& each : cases) {
    Base base;
    base.Create("p");
    each.make(base.temp);
    const auto archive = base.Export("p");
    EXPECT_THAT(archive.status(), kUnsuitable);
    EXPECT_THAT(archive.status(), HasDetail("path", each.path));
  }
}

TEST(ArchivesTest, LeavesOutWhatIsNotAnArtifact) {
  Base base;
  base.Create("fraud");
  const auto before = base.Export("fraud");
  base.temp.WriteFile("fraud/.uploads/x.part", "part");
  base.temp.WriteFile("fraud/.workspace.yaml.x", "temporary");
  EXPECT_EQ(*before, *base.Export("fraud"));
}

TEST(ArchivesTest, WhatIsAppendedMeanwhileIsLeftOut) {
  Base from, to;
  from.Create("fraud");
  from.temp.WriteFile("fraud/outputs/log", std::string(3'000'000, 'a'));
  auto exporter = from.archives.Export({.project = Project("fraud")});
  ASSERT_OK(exporter);
  std::string archive, buffer(1'000'000, '\0');
  while (!(*exporter)->done()) {
    const auto got = (*exporter)->Read(buffer.data(), buffer.size());
    ASSERT_OK(got);
    archive.append(buffer, 0, *got);
    std::ofstream(from.temp.Path("fraud/outputs/log"), std::ios::app) << "more";
  }
  ASSERT_OK(to.Import(archive, "fraud"));
  EXPECT_EQ(to.temp.ReadFile("fraud/outputs/log").size(), 3'000'000u);
}

TEST(ArchivesTest, AFileThatChangesEndsTheExport) {
  Base base;
  base.Create("fraud");
  for (const size_t size : {2'000'000, 3'000'000, 4'000'000}) {
    base.temp.WriteFile("fraud/outputs/big", std::string(3'000'000, 'a'));
    auto exporter = base.archives.Export({.project = Project("fraud")});
    ASSERT_OK(exporter);
    std::string buffer(1'000'000, '\0');
    absl::Status status;
    while (status.ok() && !(*exporter)->done()) {
      status = (*exporter)->Read(buffer.data(), buffer.size()).status();
      base.temp.WriteFile("fraud/outputs/big", std::string(size, 'b'));
    }
    EXPECT_THAT(status, IsError(StatusCode::kAborted, "WORKSPACE_BUSY"));
  }
}

TEST(ArchivesTest, ADatabaseThatChangesEndsAnExportInPlace) {
  Base base;
  base.Create("fraud");
  // In WAL mode.
  const std::string header("SQLite format 3\0\x10\0\2\2", 20);
  base.temp.WriteFile("fraud/mlflow/a.db",
                      header + std::string(2'000'000, 'a'));
  base.temp.WriteFile("fraud/mlflow/a.db-wal", std::string(3'000, 'w'));
  base.read_only = true;
  for (const bool changes : {false, true}) {
    auto exporter = base.archives.Export({.project = Project("fraud")});
    ASSERT_OK(exporter);
    std::string buffer(500'000, '\0');
    absl::Status status = (*exporter)->Read(buffer.data(), 500'000).status();
    if (changes) {
      std::ofstream(base.temp.Path("fraud/mlflow/a.db-wal"), std::ios::app)
          << "a checkpoint and another transaction";
    }
    while (status.ok() && !(*exporter)->done())
      status = (*exporter)->Read(buffer.data(), buffer.size()).status();
    if (changes) {
      EXPECT_THAT(status, IsError(StatusCode::kAborted, "WORKSPACE_BUSY"));
    } else {
      EXPECT_OK(status);
    }
  }
}

TEST(ArchivesTest, KeepsSettingsThatAreAbsent) {
  Base from, to;
  from.Create("fraud");
  ASSERT_OK(from.authority.Update(
      {.project = Project("fraud"), .spec = {.mask = {{"dvc_remote_path"}}}}));
  ASSERT_OK(
      from.authority.Update({.project = Project("fraud"),
                             .spec = {.settings = {.mlflow_experiment_id = "7"},
                                      .quota = {.max_file_count = 10}}}));
  const auto workspace = to.Import(*from.Export("fraud"), "copy");
  ASSERT_OK(workspace);
  core::Settings expected =
      core::DefaultSettings(Project("copy"), to.temp.Path("copy"));
  expected.dvc_remote_path = std::nullopt;
  expected.mlflow_experiment_id = "7";
  EXPECT_EQ((*workspace)->settings, expected);
  EXPECT_EQ((*workspace)->quota.max_file_count, 10);
}

TEST(ArchivesTest, ImportsOnceForARequestId) {
  Base base;
  Fill(base);
  const std::string archive = *base.Export("fraud");
  const auto first = base.Import(archive, "copy", "r1");
  ASSERT_OK(first);
  const auto again = base.Import("", "copy", "r1");
  ASSERT_OK(again);
  EXPECT_EQ((*again)->uid, (*first)->uid);
  EXPECT_THAT(base.Import(archive, "copy", "r2").status(),
              IsError(StatusCode::kAlreadyExists, "WORKSPACE_EXISTS"));
  EXPECT_THAT(base.Import(archive, "copy").status(),
              IsError(StatusCode::kAlreadyExists, "WORKSPACE_EXISTS"));
}

TEST(ArchivesTest, DoesNotMixWithADirectory) {
  Base base;
  Fill(base);
  base.temp.WriteFile("other/models/x", "x");
  EXPECT_THAT(base.Import(*base.Export("fraud"), "other").status(),
              kUnsuitable);
}

TEST(ArchivesTest, CountsDeclaredSizesAgainstTheQuota) {
  Base base;
  Fill(base);
  const std::string archive = *base.Export("fraud");
  for (const auto& [from, to, quota] :
       std::vector<std::tuple<std::string, std::string, std::string>>{
           {"\"max_size_bytes\": null", "\"max_size_bytes\": 5000",
            "max_size_bytes"},
           {"\"max_file_count\": null", "\"max_file_count\": 3   ",
            "max_file_count"}}) {
    const std::string limited = absl::StrReplaceAll(archive, {{from, to}});
    const absl::Status imported = base.Import(limited, "copy").status();
    EXPECT_THAT(imported, IsError(StatusCode::kResourceExhausted, "NO_SPACE"));
    EXPECT_THAT(imported, HasDetail("quota", quota));
    EXPECT_TRUE(base.StagingIsEmpty());
  }
}

std::string FileEntry(const std::string& path, const std::string& content) {
  return absl::StrCat(
      EncodeTarEntry(
          {.path = path, .size_bytes = static_cast<int64_t>(content.size())}),
      content,
      std::string(TarPadding(static_cast<int64_t>(content.size())), '\0'));
}
std::string Directory(const std::string& path) {
  return EncodeTarEntry({.path = path, .type = TarType::kDirectory});
}
std::string LinkEntry(const std::string& path, const std::string& target) {
  return EncodeTarEntry(
      {.path = path, .type = TarType::kSymlink, .link_target = target});
}
std::string Start() {
  return FileEntry(
      "manifest.json",
      EncodeManifest(MakeManifest(support::NewWorkspace("evil"), {"models"})));
}
// Returns the list of the manifest and of an empty file.
std::string Checksums(const std::string& path) {
  ChecksumList list;
  const auto add = [&list](const std::string& name, const std::string& text) {
    base::Sha256 sha256;
    sha256.Update(text);
    list.Add(name, sha256.Finish());
  };
  add("manifest.json",
      EncodeManifest(MakeManifest(support::NewWorkspace("evil"), {"models"})));
  add(path, "");
  return list.text();
}

TEST(ArchivesTest, RefusesHostileArchives) {
  Base base;
  const std::string models = Directory("models");
  const std::string first = absl::StrCat(FileEntry("models/a", ""));
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"", "manifest.json"},
      {FileEntry("manifest.json", "{}"), "archive of a workspace"},
      {models, "begins with manifest.json"},
      {Directory("manifest.json"), "begins with manifest.json"},
      {absl::StrCat(Start(), Start()), "must begin with"},
      {absl::StrCat(Start(), models, FileEntry("/etc/x", "")), "absolute"},
      {absl::StrCat(Start(), models, FileEntry("models/../../x", "")), ".."},
      {absl::StrCat(Start(), FileEntry("models/a", "")), "without its"},
      {absl::StrCat(Start(), models, first, first), "twice"},
      {absl::StrCat(Start(), models, FileEntry("models/A", ""), first), "case"},
      {absl::StrCat(Start(), models, LinkEntry("models/l", "/etc")),
       "absolute symbolic link"},
      {absl::StrCat(Start(), models, LinkEntry("models/l", "../..")), "leads"},
      // A file below a link.
      {absl::StrCat(Start(), models, LinkEntry("models/l", "x"),
                    FileEntry("models/l/x", "")),
       "without its directory"},
      {absl::StrCat(Start(), FileEntry("workspace.yaml", "")),
       "must begin with"},
      {absl::StrCat(Start(), Directory(".uploads")), "must begin with"},
      {absl::StrCat(Start(), models, first), "missing"},
      {absl::StrCat(
           Start(), models, first,
           FileEntry("checksums/000001.sha256", Checksums("models/b"))),
       "SHA-256"},
      {absl::StrCat(
           Start(), models, first,
           FileEntry("checksums/000002.sha256", Checksums("models/a"))),
       "next list"},
      {absl::StrCat(Start(), models, first,
                    FileEntry("checksums/000001.sha256", "short")),
       "exactly"},
      {absl::StrCat(Start(), FileEntry("checksums/000001.sha256", "")),
       "exactly"},
  };
  for (const auto& [archive, problem] : bad) {
    const absl::Status imported =
        base.Import(absl::StrCat(archive, std::string(kTarEndBytes, '\0')),
                    "evil")
            .status();
    EXPECT_THAT(imported, kInvalid) << problem;
    EXPECT_THAT(std::string(imported.message()), HasSubstr(problem));
    EXPECT_TRUE(base.StagingIsEmpty()) << problem;
    EXPECT_FALSE(base.temp.Exists("evil"));
  }
  ASSERT_OK(base.Import(
      absl::StrCat(Start(), models, first,
                   FileEntry("checksums/000001.sha256", Checksums("models/a")),
                   std::string(kTarEndBytes, '\0')),
      "good"));
}

TEST(ArchivesTest, RefusesABombBeforeItsContentArrives) {
  Base base;
  const std::string archive = absl::StrCat(
      Start(), Directory("models"),
      EncodeTarEntry({.path = "models/bomb", .size_bytes = int64_t{1} << 50}));
  EXPECT_THAT(base.Import(archive, "evil").status(),
              IsError(StatusCode::kResourceExhausted, "NO_SPACE"));
  EXPECT_TRUE(base.StagingIsEmpty());
}

TEST(ArchivesTest, NoticesEveryDamagedByteAndTruncation) {
  Base base;
  base.Create("p");
  base.temp.WriteFile("p/models/a", "some content");
  base.temp.Link("a", "p/models/l");
  const std::string archive = *base.Export("p");
  int changed = 0;
  for (size_t i = 0; i < archive.size() - kTarEndBytes; i += 37) {
    std::string damaged = archive;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    const auto imported = base.Import(damaged, absl::StrCat("d", i));
    // The fraction of a time has no checksum.
    changed += imported.ok();
    EXPECT_FALSE(base.Import(archive.substr(0, i), "t").ok()) << i;
  }
  EXPECT_LT(changed, 12);
  EXPECT_TRUE(base.StagingIsEmpty());
}

}  // namespace
}  // namespace mlops::archive
