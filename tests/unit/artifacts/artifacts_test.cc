// Tests Artifacts over the real file system, with Linux and with portable
// system calls. The cases in tests/conformance cover what clients see;
// these tests cover what those cannot observe or cause.
#include "service/artifacts/artifacts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/id.h"
#include "proto/cpp/base/status_macros.h"
#include "service/catalog/memory_catalog.h"
#include "tests/support/fake_clock.h"
#include "tests/support/matchers.h"
#include "tests/support/observed_dir.h"
#include "tests/support/temp_dir.h"
#include "tests/support/workspaces.h"

namespace mlops::artifacts {
namespace {

using absl::StatusCode;
using support::HasDetail;
using support::IsError;
using support::Project;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

const auto kEtagMismatch = IsError(StatusCode::kAborted, "ETAG_MISMATCH");
const auto kBusy = IsError(StatusCode::kAborted, "WORKSPACE_BUSY");

bool Never() { return false; }

class ArtifactsTest : public testing::TestWithParam<bool> {
 protected:
  ArtifactsTest() {
    temp.MakeDirs("fraud/models");
    EXPECT_OK(catalog.Commit(
        core::CreateChange{support::NewWorkspace("fraud", temp.path())}));
  }

  static RelativePath Path(absl::string_view text) {
    return RelativePath::Parse(text, RelativePath::Use::kFind).value();
  }
  UploadOptions Options(std::string boot_id = "boot") {
    return {.clock = clock.clock(),
            .steady_clock = clock.steady_clock(),
            .boot_id = std::move(boot_id),
            .leases = &leases};
  }
  void Restart(std::string boot_id = "boot") {
    artifacts = std::make_unique<Artifacts>(
        &catalog,
        fs::OpenBaseDir(temp.path(), {.portable = GetParam()}).value(),
        Options(std::move(boot_id)));
  }
  // Recreates `artifacts` so that `observer` sees each file system call.
  void Observe(const std::shared_ptr<support::DirObserver>& observer) {
    auto base = fs::OpenBaseDir(temp.path(), {.portable = GetParam()}).value();
    artifacts = std::make_unique<Artifacts>(
        &catalog,
        std::make_unique<support::ObservedDir>(std::move(base), observer),
        Options());
  }
  uint32_t ModeOf(const std::string& name) const {
    return static_cast<uint32_t>(
        std::filesystem::status(temp.Path(name)).permissions());
  }
  void SetMode(const std::string& name, uint32_t mode) const {
    std::filesystem::permissions(temp.Path(name),
                                 static_cast<std::filesystem::perms>(mode));
  }
  absl::StatusOr<Artifact> Move(absl::string_view from, absl::string_view to,
                                bool create_only = false) {
    return artifacts->Move({.project = Project("fraud"),
                            .path = Path(from),
                            .destination = Path(to),
                            .create_only = create_only});
  }
  absl::StatusOr<Artifact> Copy(absl::string_view from, absl::string_view to) {
    return artifacts->Copy({.project = Project("fraud"),
                            .path = Path(from),
                            .destination = Path(to)},
                           Never);
  }
  absl::StatusOr<std::unique_ptr<UploadWriter>> OpenForWrite(
      absl::string_view path, std::string upload_id = "", int64_t offset = 0,
      Precondition precondition = {}) {
    return artifacts->OpenForWrite({.project = Project("fraud"),
                                    .path = Path(path),
                                    .upload_id = std::move(upload_id),
                                    .offset = offset,
                                    .precondition = std::move(precondition)});
  }
  absl::StatusOr<Artifact> Write(absl::string_view path, absl::string_view text,
                                 Precondition precondition = {}) {
    ASSIGN_OR_RETURN(const auto writer,
                     OpenForWrite(path, "", 0, std::move(precondition)));
    RETURN_IF_ERROR(writer->Write({text}));
    return writer->Finish();
  }
  absl::StatusOr<std::unique_ptr<ArtifactReader>> OpenForRead(
      absl::string_view path) {
    return artifacts->OpenForRead(
        {.project = Project("fraud"), .path = Path(path)});
  }
  absl::StatusOr<std::string> ReadAll(ArtifactReader& reader) {
    std::string text(static_cast<size_t>(reader.remaining_bytes()), '\0');
    ASSIGN_OR_RETURN(const size_t got, reader.Read(text.data(), text.size()));
    EXPECT_EQ(got, text.size());
    return text;
  }
  void Append(const std::string& name, absl::string_view text) {
    std::ofstream(temp.Path(name), std::ios::app) << text;
  }
  absl::Status RehashAll(UploadWriter& writer) {
    absl::StatusOr<bool> more = true;
    while (more.ok() && *more) more = writer.Rehash();
    return more.status();
  }
  absl::StatusOr<UploadState> GetUpload(const std::string& id) {
    return artifacts->GetUpload(Project("fraud"), id);
  }
  std::vector<std::string> Staged() {
    std::vector<std::string> names;
    for (const auto& entry :
         std::filesystem::directory_iterator(temp.Path("fraud/.uploads"))) {
      names.push_back(entry.path().filename());
    }
    std::sort(names.begin(), names.end());
    return names;
  }
  std::vector<std::string> ListAll(bool recursive, int page_size) {
    std::vector<std::string> paths;
    ListArtifactsArgs args{.project = Project("fraud"),
                           .recursive = recursive,
                           .page_size = page_size};
    args.path = Path("models");
    do {
      const auto page = artifacts->List(args);
      EXPECT_OK(page);
      if (!page.ok()) break;
      EXPECT_THAT(page->artifacts,
                  SizeIs(testing::Le(static_cast<size_t>(page_size))));
      for (const Artifact& artifact : page->artifacts)
        paths.push_back(artifact.path);
      args.page_token = page->next_page_token;
    } while (!args.page_token.empty());
    return paths;
  }

  const support::TempDir temp;
  support::JumpingClock clock;
  catalog::MemoryCatalog catalog;
  core::Leases leases{{.clock = clock.clock(),
                       .steady_clock = clock.steady_clock(),
                       .await_changes = [this](const core::ProjectName& name) {
                         artifacts->AwaitChanges(name);
                       }}};
  std::unique_ptr<Artifacts> artifacts = std::make_unique<Artifacts>(
      &catalog, fs::OpenBaseDir(temp.path(), {.portable = GetParam()}).value(),
      Options());
};

// --- Quotas ------------------------------------------------------------------

const auto kNoSpace = IsError(StatusCode::kResourceExhausted, "NO_SPACE");

// What UsageLedger counts is tested there; these tests are about what
// each change tells it.
class QuotaTest : public ArtifactsTest {
 protected:
  QuotaTest() {
    SetQuota({.max_size_bytes = 100, .max_file_count = 4});
    ledger = std::make_shared<core::UsageLedger>(
        [this](const core::Workspace&, bool, core::Cancelled) {
          ++scans;
          return Scan();
        });
    UploadOptions options = Options();
    options.ledger = ledger;
    artifacts = std::make_unique<Artifacts>(
        &catalog,
        fs::OpenBaseDir(temp.path(), {.portable = GetParam()}).value(),
        options);
  }

  void SetQuota(const core::Quota& quota) {
    core::Workspace changed = *catalog.Get(Project("fraud")).value();
    changed.quota = quota;
    EXPECT_OK(catalog.Commit(core::ReplaceChange{.workspace = changed}));
  }
  absl::StatusOr<core::Usage> Scan() {
    core::Usage usage;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(
             temp.Path("fraud/models"))) {
      if (!entry.is_regular_file()) continue;
      ++usage.directories[0].file_count;
      usage.directories[0].size_bytes +=
          static_cast<int64_t>(entry.file_size());
    }
    return usage;
  }
  // Expects that the ledger knows what is on the disk, without a scan.
  void ExpectExact() {
    const core::Usage usage = Scan().value();
    const int before = scans;
    const auto hold =
        ledger->BeginGrowth(catalog.Get(Project("fraud")).value(), Never)
            .value();
    EXPECT_OK(hold->Reserve({.file_count = 4 - usage.file_count(),
                             .size_bytes = 100 - usage.size_bytes()}));
    EXPECT_THAT(hold->Reserve({.file_count = 5 - usage.file_count()}),
                kNoSpace);
    EXPECT_THAT(hold->Reserve({.size_bytes = 101 - usage.size_bytes()}),
                kNoSpace);
    EXPECT_EQ(scans, before);
  }
  absl::StatusOr<DeletedArtifacts> Delete(absl::string_view path) {
    return artifacts->Delete(
        {.project = Project("fraud"), .path = Path(path), .force = true},
        Never);
  }

  int scans = 0;
  std::shared_ptr<core::UsageLedger> ledger;
};

TEST_P(QuotaTest, EveryChangeIsCountedExactly) {
  ASSERT_OK(Write("models/a", std::string(10, 'a')));
  ExpectExact();
  ASSERT_OK(Write("models/a", std::string(30, 'a')));
  ExpectExact();
  ASSERT_OK(Write("models/a", std::string(20, 'a')));
  ExpectExact();
  ASSERT_OK(Copy("models/a", "models/d/b"));
  ExpectExact();
  ASSERT_OK(Copy("models/a", "models/d/c"));
  ASSERT_OK(Move("models/a", "models/d/c"));
  ExpectExact();
  ASSERT_OK(Move("models/d", "models/e"));
  ExpectExact();
  ASSERT_OK(Delete("models/e/b"));
  ExpectExact();
  ASSERT_OK(Delete("models/e"));
  ExpectExact();
  EXPECT_EQ(scans, 1);
}

TEST_P(QuotaTest, WhatDoesNotFitIsRefusedAndLeavesNothing) {
  ASSERT_OK(Write("models/a", std::string(60, 'a')));
  EXPECT_THAT(Write("models/b", std::string(41, 'b')), kNoSpace);
  EXPECT_THAT(Copy("models/a", "models/b"), kNoSpace);
  EXPECT_THAT(Write("models/a", std::string(101, 'a')), kNoSpace);
  EXPECT_FALSE(temp.Exists("fraud/models/b"));
  EXPECT_THAT(Staged(), IsEmpty());
  EXPECT_OK(Write("models/a", std::string(100, 'a')));
  ExpectExact();
}

TEST_P(QuotaTest, UploadsAreRefusedBeforeTheirBytesAreWritten) {
  const auto writer = OpenForWrite("models/a", "up").value();
  ASSERT_OK(writer->Write({std::string(100, 'a')}));
  EXPECT_THAT(writer->Write({"b"}), kNoSpace);
  EXPECT_EQ(writer->offset(), 100);
  EXPECT_EQ(GetUpload("up")->offset, 100);
}

TEST_P(QuotaTest, ConcurrentUploadsShareTheRoom) {
  auto a = OpenForWrite("models/a").value();
  auto b = OpenForWrite("models/b").value();
  ASSERT_OK(a->Write({std::string(60, 'a')}));
  EXPECT_THAT(b->Write({std::string(41, 'b')}), kNoSpace);
  // What a stream that ends gives back, another can use.
  a.reset();
  b = OpenForWrite("models/b").value();
  ASSERT_OK(b->Write({std::string(100, 'b')}));
  EXPECT_OK(b->Finish());
  ExpectExact();
}

TEST_P(QuotaTest, AFullWorkspaceTakesNoNewFile) {
  for (const char* path : {"models/a", "models/b", "models/c", "models/d"})
    ASSERT_OK(Write(path, ""));
  EXPECT_THAT(OpenForWrite("models/e"), kNoSpace);
  EXPECT_THAT(Copy("models/a", "models/e"), kNoSpace);
  EXPECT_OK(Write("models/a", "again"));
  EXPECT_OK(artifacts->MakeDirectory(Project("fraud"), Path("models/dir")));
  EXPECT_OK(Delete("models/b"));
  EXPECT_OK(Write("models/e", ""));
}

TEST_P(QuotaTest, TheReplacedFileIsLookedAtAgainAtTheEnd) {
  ASSERT_OK(Write("models/a", std::string(90, 'a')));
  auto writer = OpenForWrite("models/a").value();
  ASSERT_OK(writer->Write({std::string(95, 'b')}));
  ASSERT_OK(Delete("models/a"));
  ASSERT_OK(Write("models/b", std::string(6, 'b')));
  EXPECT_THAT(writer->Finish(), kNoSpace);
  writer.reset();
  EXPECT_FALSE(temp.Exists("fraud/models/a"));
  ExpectExact();
}

TEST_P(QuotaTest, BytesAppendedByThePathCountWhenTheUploadIsResumed) {
  ASSERT_OK(OpenForWrite("models/a", "up"));
  Append("fraud/" + GetUpload("up")->staged_path, std::string(101, 'a'));
  EXPECT_THAT(OpenForWrite("models/a", "up", 101), kNoSpace);
  SetQuota({.max_size_bytes = 101});
  const auto writer = OpenForWrite("models/a", "up", 101).value();
  ASSERT_OK(RehashAll(*writer));
  EXPECT_OK(writer->Finish());
}

TEST_P(QuotaTest, AFailedRenameCountsNothing) {
  ASSERT_OK(Write("models/a", "x"));
  EXPECT_THAT(Write("models/a/b", "y"),
              IsError(StatusCode::kFailedPrecondition, "PATH_UNSUITABLE"));
  EXPECT_THAT(Write("models/a", "y", {.create_only = true}),
              IsError(StatusCode::kAlreadyExists, "ARTIFACT_EXISTS"));
  ExpectExact();
}

TEST_P(QuotaTest, WithoutAQuotaNothingIsScanned) {
  SetQuota({});
  ASSERT_OK(Write("models/a", std::string(1000, 'a')));
  ASSERT_OK(Copy("models/a", "models/b"));
  ASSERT_OK(Move("models/b", "models/c"));
  ASSERT_OK(Delete("models/a"));
  EXPECT_EQ(scans, 0);
}

INSTANTIATE_TEST_SUITE_P(SystemCalls, QuotaTest, testing::Bool(),
                         [](const auto& info) {
                           return info.param ? "Portable" : "Linux";
                         });

// --- Reading -----------------------------------------------------------------

TEST_P(ArtifactsTest, AFileReplacedWhileItIsReadIsReadToItsEnd) {
  ASSERT_OK(Write("models/x", "the old one"));
  const auto reader = OpenForRead("models/x").value();
  ASSERT_OK(Write("models/x", "something else"));
  EXPECT_EQ(ReadAll(*reader).value(), "the old one");
}

TEST_P(ArtifactsTest, AFileDeletedWhileItIsReadIsReadToItsEnd) {
  ASSERT_OK(Write("models/x", "the old one"));
  const auto reader = OpenForRead("models/x").value();
  temp.Remove("fraud/models/x");
  EXPECT_EQ(ReadAll(*reader).value(), "the old one");
}

TEST_P(ArtifactsTest, AFileCutOffWhileItIsReadIsNoShortFile) {
  temp.WriteFile("fraud/models/x", "0123456789");
  const auto reader = OpenForRead("models/x").value();
  std::filesystem::resize_file(temp.Path("fraud/models/x"), 4);
  EXPECT_THAT(ReadAll(*reader), kEtagMismatch);
  EXPECT_THAT(ReadAll(*reader), HasDetail("path", "models/x"));
}

TEST_P(ArtifactsTest, AFileWrittenOverInPlaceWhileItIsReadIsNoMixture) {
  temp.WriteFile("fraud/models/x", "0123456789");
  const auto reader = OpenForRead("models/x").value();
  char half[5];
  ASSERT_OK(reader->Read(half, sizeof(half)));
  absl::SleepFor(absl::Milliseconds(20));
  temp.WriteFile("fraud/models/x", "abcdefghij");
  EXPECT_THAT(ReadAll(*reader), kEtagMismatch);
}

TEST_P(ArtifactsTest, WhatIsAppendedWhileAFileIsReadDoesNoHarm) {
  temp.WriteFile("fraud/mlflow/log", "0123456789");
  const auto reader = OpenForRead("mlflow/log").value();
  absl::SleepFor(absl::Milliseconds(20));
  std::ofstream(temp.Path("fraud/mlflow/log"), std::ios::app) << "more";
  EXPECT_EQ(ReadAll(*reader).value(), "0123456789");
}

TEST_P(ArtifactsTest, AChecksumIsRememberedAsLongAsTheFileIsTheSame) {
  temp.WriteFile("fraud/models/x", "hello");
  absl::SleepFor(absl::Milliseconds(50));
  const auto checksum = [&](core::Cancelled cancelled) {
    return artifacts->Get(Project("fraud"), Path("models/x"), true, cancelled);
  };
  EXPECT_THAT(checksum([] { return true; }),
              IsError(StatusCode::kCancelled, ""));
  const std::string hello = base::HashHex("hello", 64);
  EXPECT_EQ(checksum(Never).value().sha256, hello);
  // The cached checksum is returned without reading the file.
  EXPECT_EQ(checksum([] { return true; }).value().sha256, hello);
  temp.WriteFile("fraud/models/x", "olleh");
  EXPECT_EQ(checksum(Never).value().sha256, base::HashHex("olleh", 64));
}

// --- Links -------------------------------------------------------------------

TEST_P(ArtifactsTest, LinksThatStayInsideAreFollowedByWhoReads) {
  temp.WriteFile("fraud/models/run-7/w", "weights");
  temp.WriteFile("fraud/outputs/x", "output");
  temp.Link("run-7", "fraud/models/current");
  temp.Link("./run-7/../current//w", "fraud/models/chain");
  temp.Link("../../outputs/x", "fraud/models/run-7/other");
  for (const char* path : {"models/current/w", "models/chain"}) {
    const auto reader = OpenForRead(path);
    ASSERT_OK(reader) << path;
    EXPECT_EQ(ReadAll(**reader).value(), "weights") << path;
    const Artifact artifact =
        artifacts->Get(Project("fraud"), Path(path), /*checksum=*/false, Never)
            .value();
    EXPECT_EQ(artifact.path, path);
    EXPECT_EQ(artifact.etag, (*reader)->artifact().etag);
    EXPECT_EQ(
        artifacts->Get(Project("fraud"), Path(path), /*checksum=*/true, Never)
            ->sha256,
        base::HashHex("weights", 64));
  }
  EXPECT_EQ(ReadAll(*OpenForRead("models/current/other").value()).value(),
            "output");
  EXPECT_TRUE(
      artifacts->Get(Project("fraud"), Path("models/current"), false, Never)
          ->directory);
  ASSERT_OK(artifacts->Copy({.project = Project("fraud"),
                             .path = Path("models/chain"),
                             .destination = Path("outputs/copy")},
                            Never));
  EXPECT_EQ(temp.ReadFile("fraud/outputs/copy"), "weights");
}

TEST_P(ArtifactsTest, LinksThatLeadElsewhereAreNot) {
  const support::TempDir outside;
  outside.WriteFile("secret", "secret");
  temp.WriteFile("other/models/x", "secret");
  temp.WriteFile("fraud/workspace.yaml", "secret");
  temp.WriteFile("fraud/.uploads/id.part", "secret");
  temp.WriteFile("fraud/models/x", "");
  temp.MakeFifo("fraud/models/fifo");
  std::string chain = "x";
  for (int i = 0; i < 41; ++i)
    temp.Link(std::exchange(chain, absl::StrCat("c", i)),
              absl::StrCat("fraud/models/c", i));
  const std::vector<std::string> targets = {
      outside.Path("secret"),
      temp.Path("fraud/models/x"),
      "../../other/models/x",
      "../../fraud/models/x",
      "../workspace.yaml",
      "../.uploads/id.part",
      "..",
      "../..",
      "../../../../../../../../../../etc/passwd",
      "fifo",
      "link",
      "link/x",
      "x/below",
      "../models/c40"};
  for (const std::string& target : targets) {
    std::filesystem::remove(temp.Path("fraud/models/link"));
    temp.Link(target, "fraud/models/link");
    const auto unsuitable =
        IsError(StatusCode::kFailedPrecondition, "PATH_UNSUITABLE");
    EXPECT_THAT(OpenForRead("models/link"), unsuitable) << target;
    EXPECT_THAT(OpenForRead("models/link"), HasDetail("path", "models/link"))
        << target;
    EXPECT_THAT(
        artifacts->Get(Project("fraud"), Path("models/link"), false, Never),
        unsuitable)
        << target;
    EXPECT_THAT(artifacts->List(
                    {.project = Project("fraud"), .path = Path("models/link")}),
                unsuitable)
        << target;
  }
  EXPECT_OK(OpenForRead("models/c39"));
  temp.Link("missing", "fraud/models/dangling");
  EXPECT_THAT(OpenForRead("models/dangling"),
              IsError(StatusCode::kNotFound, "ARTIFACT_NOT_FOUND"));
  EXPECT_THAT(OpenForRead("models/dangling"),
              support::HasMessage(testing::HasSubstr("broken symbolic link")));
  EXPECT_THAT(
      artifacts->Get(Project("fraud"), Path("models/dangling"), false, Never),
      HasDetail("path", "models/dangling"));
}

// If users put a link in place of one of the five directories, every call must
// fail with a clear error and have no partial effect.
TEST_P(ArtifactsTest, NothingFollowsALinkInPlaceOfOneOfTheFiveDirectories) {
  temp.WriteFile("fraud/models/run/w", "weights");
  const support::TempDir outside;
  const auto unsuitable =
      IsError(StatusCode::kFailedPrecondition, "PATH_UNSUITABLE");
  for (const std::string& target : {std::string("models"), outside.path()}) {
    temp.Link(target, "fraud/outputs");
    EXPECT_THAT(OpenForRead("outputs/run/w"), unsuitable) << target;
    EXPECT_THAT(artifacts->Get(Project("fraud"), Path("outputs"), false, Never),
                unsuitable);
    EXPECT_THAT(
        artifacts->Get(Project("fraud"), Path("outputs/run/w"), true, Never),
        unsuitable);
    EXPECT_THAT(
        artifacts->List({.project = Project("fraud"), .path = Path("outputs")}),
        unsuitable);
    EXPECT_THAT(Write("outputs/run/new", "x"), unsuitable);
    EXPECT_THAT(artifacts->MakeDirectory(Project("fraud"), Path("outputs/dir")),
                unsuitable);
    EXPECT_THAT(Move("outputs/run/w", "models/w"), unsuitable);
    EXPECT_THAT(Copy("models/run/w", "outputs/w"), unsuitable);
    EXPECT_THAT(artifacts->Delete({.project = Project("fraud"),
                                   .path = Path("outputs/run"),
                                   .force = true},
                                  Never),
                unsuitable);
    temp.Remove("fraud/outputs");
  }
  EXPECT_EQ(temp.ReadFile("fraud/models/run/w"), "weights");
}

TEST_P(ArtifactsTest, AListOfWhatALinkLeadsToIsByTheNameItWasAskedFor) {
  for (const char* name : {"a", "b/1", "b/2", "c"})
    temp.WriteFile(absl::StrCat("fraud/models/run/", name), "x");
  temp.Link(".", "fraud/models/run/loop");
  temp.Link("a", "fraud/models/run/b/to-a");
  temp.Link("run/loop", "fraud/models/current");
  ListArtifactsArgs args{
      .project = Project("fraud"), .recursive = true, .page_size = 2};
  args.path = Path("models/current");
  std::vector<std::string> paths;
  do {
    const ArtifactPage page = artifacts->List(args).value();
    for (const Artifact& artifact : page.artifacts)
      paths.push_back(artifact.path);
    args.page_token = page.next_page_token;
  } while (!args.page_token.empty());
  EXPECT_THAT(paths, ElementsAre("models/current/a", "models/current/b",
                                 "models/current/b/1", "models/current/b/2",
                                 "models/current/c"));
  for (const std::string& path : paths)
    EXPECT_OK(artifacts->Get(Project("fraud"), Path(path), false, Never))
        << path;
}

TEST_P(ArtifactsTest, ALinkPutInTheWayMeanwhileIsNotFollowed) {
  const support::TempDir outside;
  outside.WriteFile("w", "secret");
  temp.WriteFile("fraud/models/run-7/w", "weights");
  temp.Link("run-7", "fraud/models/current");
  const auto observer = std::make_shared<support::DirObserver>();
  auto base = fs::OpenBaseDir(temp.path(), {.portable = GetParam()}).value();
  Artifacts watched(&catalog, std::make_unique<support::ObservedDir>(
                                  std::move(base), observer));
  const auto open = [&] {
    return watched.OpenForRead(
        {.project = Project("fraud"), .path = Path("models/current/w")});
  };
  const auto reader = open().value();
  observer->SetAfter([&](absl::string_view call) {
    if (call != "ReadLink fraud/models/run-7/w") return;
    temp.Move("fraud/models/run-7", "fraud/models/gone");
    temp.Link(outside.path(), "fraud/models/run-7");
  });
  EXPECT_THAT(open(),
              IsError(StatusCode::kFailedPrecondition, "PATH_UNSUITABLE"));
  EXPECT_TRUE(temp.Exists("fraud/models/gone"));
  EXPECT_EQ(ReadAll(*reader).value(), "weights");
}

TEST_P(ArtifactsTest, WhoChangesSomethingMeetsTheLinkItself) {
  temp.WriteFile("fraud/models/run/w", "weights");
  temp.Link("run", "fraud/models/current");
  temp.Link("run/w", "fraud/models/link");
  const auto unsuitable =
      IsError(StatusCode::kFailedPrecondition, "PATH_UNSUITABLE");
  EXPECT_THAT(Write("models/link", "new"), unsuitable);
  EXPECT_THAT(Write("models/current/w", "new"), unsuitable);
  EXPECT_THAT(Write("models/link", "new", {.create_only = true}),
              IsError(StatusCode::kAlreadyExists, "ARTIFACT_EXISTS"));
  EXPECT_THAT(
      artifacts->MakeDirectory(Project("fraud"), Path("models/current")),
      unsuitable);
  const auto move = [&](absl::string_view from, absl::string_view to) {
    return artifacts->Move({.project = Project("fraud"),
                            .path = Path(from),
                            .destination = Path(to)});
  };
  EXPECT_THAT(move("models/link", "models/y"), unsuitable);
  EXPECT_THAT(move("models/current/w", "models/y"), unsuitable);
  EXPECT_THAT(move("models/run/w", "models/link"), unsuitable);
  const auto remove = [&](absl::string_view path) {
    return artifacts->Delete(
        {.project = Project("fraud"), .path = Path(path), .force = true},
        Never);
  };
  EXPECT_THAT(remove("models/current/w"), unsuitable);
  EXPECT_EQ(remove("models/link")->file_count, 0);
  EXPECT_EQ(remove("models/current")->file_count, 0);
  EXPECT_FALSE(std::filesystem::is_symlink(temp.Path("fraud/models/current")));
  EXPECT_EQ(temp.ReadFile("fraud/models/run/w"), "weights");
}

// --- Lists -------------------------------------------------------------------

TEST_P(ArtifactsTest, PagesOfAnySizeMakeTheSameList) {
  std::set<std::string> expected;
  for (int i = 0; i < 30; ++i) {
    for (const std::string& path :
         {absl::StrCat("models/", i), absl::StrCat("models/d", i % 7, "/", i),
          absl::StrCat("models/d", i % 7, "/e/", i)}) {
      temp.WriteFile(absl::StrCat("fraud/", path), "x");
      expected.insert(path);
    }
  }
  for (int i = 0; i < 7; ++i) {
    expected.insert(absl::StrCat("models/d", i));
    expected.insert(absl::StrCat("models/d", i, "/e"));
  }
  const std::vector<std::string> all = ListAll(true, 1000);
  EXPECT_EQ(std::set<std::string>(all.begin(), all.end()), expected);
  EXPECT_EQ(all.size(), expected.size());
  for (const int page_size : {1, 2, 3, 7, 50, 103, 104, 105})
    EXPECT_EQ(ListAll(true, page_size), all) << page_size;
  EXPECT_EQ(ListAll(false, 4), ListAll(false, 1000));
}

TEST_P(ArtifactsTest, AListGoesOnWhereWhatItEndedInIsGone) {
  for (const char* name : {"a", "b/1", "b/2", "c"})
    temp.WriteFile(absl::StrCat("fraud/models/", name), "x");
  ListArtifactsArgs args{
      .project = Project("fraud"), .recursive = true, .page_size = 3};
  args.path = Path("models");
  const ArtifactPage page = artifacts->List(args).value();
  ASSERT_EQ(page.artifacts.back().path, "models/b/1");
  temp.Remove("fraud/models/b");
  args.page_token = page.next_page_token;
  const ArtifactPage rest = artifacts->List(args).value();
  ASSERT_THAT(rest.artifacts, SizeIs(1));
  EXPECT_EQ(rest.artifacts[0].path, "models/c");
}

// --- Uploads -----------------------------------------------------------------

TEST_P(ArtifactsTest,
       NothingIsVisibleBeforeTheEndAndNothingIsLeftOfWhatWasGivenUp) {
  {
    const auto writer = OpenForWrite("models/new/x").value();
    ASSERT_OK(writer->Write({"abc", "def"}));
    EXPECT_EQ(writer->offset(), 6);
    EXPECT_FALSE(temp.Exists("fraud/models/new"));
    EXPECT_THAT(Staged(), SizeIs(1));
  }
  EXPECT_THAT(Staged(), IsEmpty());
}

TEST_P(ArtifactsTest, OneStreamAtATimeWritesAnUpload) {
  auto first = OpenForWrite("models/x", "id").value();
  EXPECT_THAT(OpenForWrite("models/x", "id"), kBusy);
  EXPECT_OK(OpenForWrite("models/x", "other"));
  ASSERT_OK(first->Write({"abc"}));
  first.reset();
  EXPECT_OK(OpenForWrite("models/x", "id", 3));
}

TEST_P(ArtifactsTest, WhatAnotherStreamWritesIsNotDiscarded) {
  auto writer = OpenForWrite("models/x", "id").value();
  ASSERT_OK(writer->Write({"abc"}));
  const auto discard = [&] {
    return artifacts->DiscardUpload({.project = Project("fraud"),
                                     .path = Path("models/x"),
                                     .upload_id = "id"});
  };
  EXPECT_THAT(discard(), kBusy);
  EXPECT_EQ(GetUpload("id")->offset, 3);
  writer.reset();
  EXPECT_EQ(discard().value(), std::nullopt);
  EXPECT_THAT(Staged(), IsEmpty());
}

TEST_P(ArtifactsTest, WhatAnEarlierMachineStagedAndWhatIsTornIsDiscarded) {
  ASSERT_OK(OpenForWrite("models/x", "id").value()->Write({"abc"}));
  Restart("another boot");
  temp.WriteFile("fraud/.uploads/torn.part", "abc");
  temp.WriteFile("fraud/.uploads/torn.json", "{");
  for (const char* id : {"id", "torn"}) {
    const WriteArgs args{
        .project = Project("fraud"), .path = Path("models/x"), .upload_id = id};
    EXPECT_EQ(artifacts->DiscardUpload(args).value(), std::nullopt);
  }
  EXPECT_THAT(Staged(), IsEmpty());
}

TEST_P(ArtifactsTest, AnUploadGoesOnAfterARestartOfTheServer) {
  ASSERT_OK(OpenForWrite("models/x", "id")
                .value()
                ->Write({std::string(3'000'000, 'x')}));
  Restart();
  EXPECT_EQ(GetUpload("id").value().offset, 3'000'000);
  const auto writer = OpenForWrite("models/x", "id", 3'000'000).value();
  int steps = 0;
  for (absl::StatusOr<bool> more = true; *more; ++steps) {
    more = writer->Rehash();
    ASSERT_OK(more);
  }
  EXPECT_GT(steps, 1);
  ASSERT_OK(writer->Write({"y"}));
  writer->ExpectSha256(base::HashHex(std::string(3'000'000, 'x') + "y", 64));
  EXPECT_OK(writer->Finish());
}

TEST_P(ArtifactsTest, AnUploadBeginsAnewAfterARestartOfTheMachine) {
  ASSERT_OK(OpenForWrite("models/x", "id").value()->Write({"abc"}));
  Restart("another boot");
  EXPECT_EQ(GetUpload("id").value().offset, 0);
  EXPECT_THAT(OpenForWrite("models/x", "id", 3),
              IsError(StatusCode::kOutOfRange, "UPLOAD_OFFSET_MISMATCH"));
  const auto writer = OpenForWrite("models/x", "id").value();
  ASSERT_OK(writer->Write({"new"}));
  ASSERT_OK(writer->Finish());
  EXPECT_EQ(temp.ReadFile("fraud/models/x"), "new");
}

TEST_P(ArtifactsTest,
       WhereNothingTellsOfARestartOfTheMachineAnUploadBeginsAnewWithTheServer) {
  Restart("");
  ASSERT_OK(OpenForWrite("models/x", "id").value()->Write({"abc"}));
  EXPECT_EQ(GetUpload("id").value().offset, 3);
  Restart("");
  EXPECT_EQ(GetUpload("id").value().offset, 0);
}

TEST_P(ArtifactsTest, WhatIsTornInTheHiddenDirectoryIsNoUpload) {
  temp.WriteFile("fraud/.uploads/id.part", "abc");
  for (const char* about :
       {"", "{", "[]", "{\"path\": 3}",
        "{\"path\": \"models/x\", \"boot_id\": \"boot\"}"}) {
    temp.WriteFile("fraud/.uploads/id.json", about);
    EXPECT_THAT(GetUpload("id"),
                IsError(StatusCode::kNotFound, "UPLOAD_NOT_FOUND"))
        << about;
  }
  EXPECT_OK(OpenForWrite("models/x", "id"));
}

// A local client appends to the file directly; the server sees only
// a new offset.
TEST_P(ArtifactsTest, WhatIsAppendedToTheStagedFileIsHashedAndFinished) {
  OpenForWrite("models/x", "id").value().reset();
  const UploadState begun = GetUpload("id").value();
  EXPECT_EQ(begun.staged_path, ".uploads/id.part");
  Append("fraud/.uploads/id.part", std::string(9'000'000, 'x'));
  const UploadState appended = GetUpload("id").value();
  EXPECT_EQ(appended.offset, 9'000'000);
  EXPECT_NE(appended.staged_etag, begun.staged_etag);
  auto writer = OpenForWrite("models/x", "id", 9'000'000).value();
  ASSERT_OK(RehashAll(*writer));
  const Artifact artifact = writer->Finish().value();
  EXPECT_EQ(artifact.sha256, base::HashHex(std::string(9'000'000, 'x'), 64));
  writer.reset();
  const UploadState finished = GetUpload("id").value();
  EXPECT_EQ(finished.artifact->etag, artifact.etag);
  EXPECT_EQ(finished.staged_path + finished.staged_etag, "");
}

TEST_P(ArtifactsTest, WhatBecomesOfTheStagedFileWhileItIsFinishedIsNoticed) {
  const std::string part = "fraud/.uploads/id.part";
  const auto damage = std::vector<std::function<void()>>{
      [&] { Append(part, "more"); },
      [&] { std::filesystem::resize_file(temp.Path(part), 1); },
      [&] { temp.WriteFile(part, "xyz"); },
      [&] {
        temp.WriteFile("other", "abc");
        temp.Move("other", part);
      },
      [&] {
        temp.Remove(part);
        temp.Link("../models", part);
      },
      [&] {
        temp.Remove(part);
        temp.MakeFifo(part);
      }};
  for (size_t i = 0; i < damage.size(); ++i) {
    for (const bool hashed : {false, true}) {
      ASSERT_OK(OpenForWrite("models/x", "id").value()->Write({"abc"}));
      // Wait for several ticks of the file system's clock.
      absl::SleepFor(absl::Milliseconds(20));
      auto writer = OpenForWrite("models/x", "id", 3).value();
      if (hashed) {
        ASSERT_OK(RehashAll(*writer));
      }
      damage[i]();
      const absl::Status rehashed =
          hashed ? absl::OkStatus() : RehashAll(*writer);
      EXPECT_THAT(rehashed.ok() ? writer->Finish().status() : rehashed, kBusy)
          << i << hashed;
      EXPECT_FALSE(temp.Exists("fraud/models/x"));
      writer.reset();
      temp.Remove("fraud/.uploads");
    }
  }
}

TEST_P(ArtifactsTest, AnUploadWhoseStagedFileIsAnotherThingBeginsAnew) {
  const std::string part = "fraud/.uploads/id.part";
  const auto replace =
      std::vector<std::function<void()>>{[&] {
                                           temp.WriteFile("other", "abc");
                                           temp.Move("other", part);
                                         },
                                         [&] {
                                           temp.Remove(part);
                                           temp.Link("../models/x", part);
                                         },
                                         [&] {
                                           temp.Remove(part);
                                           // The FIFO may reuse the inode.
                                           temp.MakeFifo(part);
                                         }};
  for (size_t i = 0; i < replace.size(); ++i) {
    ASSERT_OK(OpenForWrite("models/x", "id").value()->Write({"abc"}));
    replace[i]();
    EXPECT_EQ(GetUpload("id").value().offset, 0) << i;
    EXPECT_EQ(GetUpload("id").value().staged_path, "") << i;
    EXPECT_THAT(OpenForWrite("models/x", "id", 3),
                IsError(StatusCode::kOutOfRange, "UPLOAD_OFFSET_MISMATCH"))
        << i;
    const auto writer = OpenForWrite("models/x", "id").value();
    ASSERT_OK(writer->Write({"new"}));
    ASSERT_OK(writer->Finish());
    EXPECT_EQ(temp.ReadFile("fraud/models/x"), "new");
    temp.Remove("fraud/.uploads");
  }
  temp.MakeDirs(part);
  EXPECT_FALSE(OpenForWrite("models/x", "id").ok());
}

TEST_P(ArtifactsTest, AFinishedUploadIsKnownUntilItsFileIsAnother) {
  auto writer = OpenForWrite("models/x", "id").value();
  ASSERT_OK(writer->Write({"abc"}));
  const Artifact artifact = writer->Finish().value();
  writer.reset();
  Restart();
  ASSERT_TRUE(GetUpload("id").value().artifact.has_value());
  EXPECT_EQ(GetUpload("id").value().artifact->etag, artifact.etag);
  const auto again = OpenForWrite("models/x", "id", 3).value();
  EXPECT_THAT(again->Write({"more"}),
              IsError(StatusCode::kInvalidArgument, "FIELD_INVALID"));
  EXPECT_EQ(again->Finish().value().etag, artifact.etag);
  ASSERT_OK(Write("models/x", "another"));
  EXPECT_THAT(GetUpload("id"),
              IsError(StatusCode::kNotFound, "UPLOAD_NOT_FOUND"));
}

TEST_P(ArtifactsTest, AFinishThatIsRepeatedIsAnsweredAsTheFirstOne) {
  const std::string sha256 = base::HashHex("abc", 64);
  auto writer = OpenForWrite("models/x", "id").value();
  ASSERT_OK(writer->Write({"abc"}));
  ASSERT_EQ(writer->Finish().value().sha256, sha256);
  writer.reset();
  for (const bool restarted : {false, true}) {
    if (restarted) Restart("another boot");
    EXPECT_EQ(GetUpload("id").value().artifact->sha256, sha256);
    const auto again = OpenForWrite("models/x", "id", 3).value();
    again->ExpectSha256(base::HashHex("another", 64));
    EXPECT_THAT(again->Finish(),
                IsError(StatusCode::kInvalidArgument, "CHECKSUM_MISMATCH"));
    again->ExpectSha256(sha256);
    EXPECT_EQ(again->Finish().value().sha256, sha256);
    EXPECT_EQ(again->Discard().value()->sha256, sha256);
  }
  EXPECT_EQ(temp.ReadFile("fraud/models/x"), "abc");
}

TEST_P(ArtifactsTest, AnUploadIsFinishedOnceItIsDurable) {
  const auto observer = std::make_shared<support::DirObserver>();
  Observe(observer);
  temp.MakeDirs("fraud/models/dir");
  ASSERT_OK(Write("models/dir/known", "x"));
  const auto writer = OpenForWrite("models/dir/x", "id").value();
  ASSERT_OK(writer->Write({"abc"}));
  int syncs = 0;
  observer->SetBefore([&](absl::string_view call) {
    if (call != "Sync fraud/models/dir" || syncs++ > 0) return absl::OkStatus();
    EXPECT_TRUE(temp.Exists("fraud/models/dir/x"));
    const auto upload = GetUpload("id");
    EXPECT_OK(upload);
    EXPECT_EQ(upload->artifact, std::nullopt);
    EXPECT_EQ(upload->offset, 3);
    EXPECT_THAT(OpenForWrite("models/dir/x", "id", 3), kBusy);
    return absl::OkStatus();
  });
  ASSERT_OK(writer->Finish());
  EXPECT_EQ(syncs, 1);
  EXPECT_TRUE(GetUpload("id")->artifact.has_value());
}

// The server may have been killed right after the rename, before the sync.
TEST_P(ArtifactsTest, WhatIsSaidToBeFinishedAfterARestartIsMadeDurableBefore) {
  auto writer = OpenForWrite("models/x", "id").value();
  ASSERT_OK(writer->Write({"abc"}));
  ASSERT_OK(writer->Finish());
  writer.reset();
  const auto observer = std::make_shared<support::DirObserver>();
  Observe(observer);
  observer->SetBefore([](absl::string_view call) {
    return call == "Sync fraud/models"
               ? base::MakeError(StatusCode::kInternal, "lost",
                                 {.reason = "IO_ERROR"})
               : absl::OkStatus();
  });
  EXPECT_THAT(GetUpload("id"), IsError(StatusCode::kInternal, "IO_ERROR"));
}

TEST_P(ArtifactsTest, AFileThatIsNotWhatTheUploadMadeIsNotTheUpload) {
  const auto not_found = IsError(StatusCode::kNotFound, "UPLOAD_NOT_FOUND");
  // The upload was not finished: the staged file was moved away by hand.
  ASSERT_OK(OpenForWrite("models/x", "moved").value()->Write({"abc"}));
  temp.Move("fraud/.uploads/moved.part", "fraud/models/x");
  EXPECT_THAT(GetUpload("moved"), not_found);
  EXPECT_OK(OpenForWrite("models/x", "moved", 0));
  // The same inode, as if a file had been deleted and recreated.
  auto writer = OpenForWrite("models/y", "anew").value();
  ASSERT_OK(writer->Write({"abc"}));
  ASSERT_OK(writer->Finish());
  ASSERT_TRUE(GetUpload("anew")->artifact.has_value());
  // Wait for several ticks of the file system's clock.
  absl::SleepFor(absl::Milliseconds(20));
  temp.WriteFile("fraud/models/y", "xyz");
  EXPECT_THAT(GetUpload("anew"), not_found);
}

TEST_P(ArtifactsTest, AnUploadBegunLongAgoIsRememberedForAnHourAfterItsEnd) {
  auto writer = OpenForWrite("models/x", "id").value();
  ASSERT_OK(writer->Write({"abc"}));
  for (const char* name : {"id.part", "id.json"}) {
    const std::string path = temp.Path(absl::StrCat("fraud/.uploads/", name));
    std::filesystem::last_write_time(
        path, std::filesystem::last_write_time(path) - std::chrono::hours(2));
  }
  ASSERT_OK(writer->Finish());
  writer.reset();
  clock.Advance(absl::Minutes(50));
  artifacts->SweepSome();
  EXPECT_TRUE(GetUpload("id")->artifact.has_value());
  clock.Advance(absl::Minutes(11));
  EXPECT_THAT(GetUpload("id"),
              IsError(StatusCode::kNotFound, "UPLOAD_NOT_FOUND"));
}

TEST_P(ArtifactsTest, SweepingCountsUnfinishedUploads) {
  ASSERT_OK(OpenForWrite("models/x", "id").value()->Write({"abc"}));
  ASSERT_OK(OpenForWrite("models/y", "id2").value()->Write({"abc"}));
  ASSERT_OK(OpenForWrite("models/z", "id3").value()->Finish());
  EXPECT_EQ(artifacts->unfinished_uploads(), 0);
  artifacts->SweepSome();
  EXPECT_EQ(artifacts->unfinished_uploads(), 2);
  ASSERT_OK(OpenForWrite("models/y", "id2", 3).value()->Finish());
  clock.Advance(absl::Minutes(11));
  artifacts->SweepSome();
  EXPECT_EQ(artifacts->unfinished_uploads(), 1);
}

TEST_P(ArtifactsTest, AWorkspaceMadeAnewHasUploadsOfItsOwn) {
  const auto old = OpenForWrite("models/x", "id").value();
  temp.Move("fraud", "moved");
  temp.MakeDirs("fraud/models");
  const auto writer = OpenForWrite("models/x", "id");
  ASSERT_OK(writer);
  EXPECT_THAT(OpenForWrite("models/x", "id"), kBusy);
  EXPECT_OK((*writer)->Finish());
  EXPECT_THAT(old->Finish(),
              IsError(StatusCode::kNotFound, "WORKSPACE_NOT_FOUND"));
}

TEST_P(ArtifactsTest, AWallClockThatJumpsDestroysNoUpload) {
  ASSERT_OK(OpenForWrite("models/x", "id").value()->Write({"abc"}));
  clock.StepWallClock(absl::Hours(80));
  for (int i = 0; i < 5; ++i) {
    artifacts->SweepSome();
    clock.Advance(absl::Minutes(15));
  }
  EXPECT_EQ(GetUpload("id").value().offset, 3);
  // The machine starts with a wrong clock, which is corrected a moment later.
  Restart();
  artifacts->SweepSome();
  clock.Advance(absl::Seconds(2));
  clock.StepWallClock(-absl::Hours(80));
  for (int i = 0; i < 5; ++i) {
    artifacts->SweepSome();
    clock.Advance(absl::Minutes(15));
  }
  EXPECT_EQ(GetUpload("id").value().offset, 3);
  EXPECT_THAT(Staged(), ElementsAre("id.json", "id.part"));
}

TEST_P(ArtifactsTest, WhatADeleteThatWasCutOffLeftIsRemovedStepByStep) {
  for (const bool restarted : {false, true}) {
    for (int i = 0; i < 5000; ++i)
      temp.WriteFile(absl::StrCat("fraud/models/many/", i), "");
    int asked = 0;
    const auto cut_off = [&] { return asked++ == 1; };
    EXPECT_THAT(artifacts->Delete({.project = Project("fraud"),
                                   .path = Path("models/many"),
                                   .force = true},
                                  cut_off),
                IsError(StatusCode::kCancelled, ""));
    EXPECT_FALSE(temp.Exists("fraud/models/many"));
    if (restarted) Restart();
    const std::string left =
        temp.Path(absl::StrCat("fraud/.uploads/", Staged().at(0)));
    const auto count = [&] {
      int files = 0;
      if (std::filesystem::exists(left)) {
        for ([[maybe_unused]] const auto& entry :
             std::filesystem::directory_iterator(left))
          ++files;
      }
      return files;
    };
    EXPECT_EQ(count(), 4000);
    for (int expected : {2000, 0}) {
      artifacts->SweepSome();
      EXPECT_EQ(count(), expected);
    }
    artifacts->SweepSome();
    EXPECT_THAT(Staged(), IsEmpty());
  }
}

// Refuses, for lack of space, the calls that begin with `prefix`.
std::shared_ptr<support::DirObserver> FullDisk(const std::string& prefix) {
  auto observer = std::make_shared<support::DirObserver>();
  observer->SetBefore([prefix](absl::string_view call) {
    if (!absl::StartsWith(call, prefix)) return absl::OkStatus();
    return base::MakeError(StatusCode::kResourceExhausted, "full",
                           {.reason = "NO_SPACE"});
  });
  return observer;
}

TEST_P(ArtifactsTest, ADeleteThatWasCutOffOnAFullDiskIsFinishedBySweeping) {
  const auto names = [&] {
    std::vector<std::string> names;
    for (const auto& entry :
         std::filesystem::directory_iterator(temp.Path("fraud")))
      names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  };
  temp.MakeDirs("fraud/.uploads.mine.trash");
  for (const char* full :
       {"MakeDir fraud/.uploads", "Rename fraud/models/many fraud/.uploads/"}) {
    for (int i = 0; i < 5000; ++i)
      temp.WriteFile(absl::StrCat("fraud/models/many/", i), "");
    Observe(FullDisk(full));
    int asked = 0;
    EXPECT_THAT(artifacts->Delete({.project = Project("fraud"),
                                   .path = Path("models/many"),
                                   .force = true},
                                  [&] { return asked++ == 1; }),
                IsError(StatusCode::kCancelled, ""));
    EXPECT_FALSE(temp.Exists("fraud/models/many"));
    // Also after a restart.
    Restart();
    for (int i = 0; i < 3; ++i) artifacts->SweepSome();
    EXPECT_THAT(names(),
                testing::IsSupersetOf({".uploads.mine.trash", "models"}));
    EXPECT_LE(names().size(), 3);
    temp.MakeDirs("fraud/.uploads");
  }
}

TEST_P(ArtifactsTest, ADeleteOnAFullDiskTellsWhatItFreed) {
  temp.WriteFile("fraud/models/run/a", "123");
  temp.WriteFile("fraud/models/run/b/c", "4567");
  Observe(FullDisk("MakeDir fraud/.uploads"));
  const auto deleted = artifacts->Delete(
      {.project = Project("fraud"), .path = Path("models/run"), .force = true},
      Never);
  ASSERT_OK(deleted);
  EXPECT_EQ(deleted->file_count, 2);
  EXPECT_EQ(deleted->size_bytes, 7);
  EXPECT_FALSE(temp.Exists("fraud/models/run"));
}

TEST_P(ArtifactsTest, ADeleteInPlaceEndsOnceThereIsRoom) {
  for (int i = 0; i < 5000; ++i)
    temp.WriteFile(absl::StrCat("fraud/models/many/", i), "");
  const auto full = FullDisk("Rename ");
  Observe(full);
  int asked = 0;
  const auto cut_off = [&] {
    if (++asked == 2) full->SetBefore(nullptr);
    return asked == 4;
  };
  EXPECT_THAT(artifacts->Delete({.project = Project("fraud"),
                                 .path = Path("models/many"),
                                 .force = true},
                                cut_off),
              IsError(StatusCode::kCancelled, ""));
  EXPECT_FALSE(temp.Exists("fraud/models/many"));
  for (int i = 0; i < 3; ++i) artifacts->SweepSome();
  EXPECT_THAT(Staged(), IsEmpty());
}

TEST_P(ArtifactsTest, ADeleteInPlaceThatWasCutOffSaysSoAndCanBeRepeated) {
  for (int i = 0; i < 3000; ++i)
    temp.WriteFile(absl::StrCat("fraud/models/many/", i), "");
  Observe(FullDisk("Rename "));
  const DeleteArtifactArgs args = {
      .project = Project("fraud"), .path = Path("models/many"), .force = true};
  int asked = 0;
  const auto cut_off =
      artifacts->Delete(args, [&] { return asked++ == 1; }).status();
  EXPECT_THAT(cut_off, IsError(StatusCode::kCancelled, ""));
  EXPECT_THAT(cut_off,
              support::HasMessage(testing::HasSubstr("delete it again")));
  const auto rest = artifacts->Delete(args, Never);
  ASSERT_OK(rest);
  EXPECT_EQ(rest->file_count, 2000);
  EXPECT_FALSE(temp.Exists("fraud/models/many"));
}

TEST_P(ArtifactsTest, PermissionsOfWhatIsReplacedOrCopiedAreKept) {
  const uint32_t set_uid = 04000;
  for (const uint32_t mode : {0600u, 0640u, 0755u, 0444u}) {
    temp.WriteFile("fraud/models/x", "old");
    SetMode("fraud/models/x", mode | set_uid);
    ASSERT_OK(Write("models/x", "new"));
    EXPECT_EQ(ModeOf("fraud/models/x"), mode);
    // Other users cannot read the staged file either, even over two streams.
    ASSERT_OK(OpenForWrite("models/x", "id").value()->Write({"abc"}));
    EXPECT_EQ(ModeOf("fraud/.uploads/id.part"), mode | 0600);
    auto writer = OpenForWrite("models/x", "id", 3).value();
    ASSERT_OK(RehashAll(*writer));
    ASSERT_OK(writer->Finish());
    EXPECT_EQ(ModeOf("fraud/models/x"), mode);
    SetMode("fraud/models/x", mode | set_uid);
    ASSERT_OK(Copy("models/x", "models/copy"));
    EXPECT_EQ(ModeOf("fraud/models/copy"), mode);
    temp.WriteFile("fraud/models/other", "old");
    SetMode("fraud/models/other", 0604);
    ASSERT_OK(Copy("models/x", "models/other"));
    EXPECT_EQ(ModeOf("fraud/models/other"), 0604u);
    for (const char* name : {"x", "copy", "other"})
      temp.Remove(absl::StrCat("fraud/models/", name));
  }
}

TEST_P(ArtifactsTest, PermissionsThatChangeUntilTheRenameAreKept) {
  const auto observer = std::make_shared<support::DirObserver>();
  Observe(observer);
  temp.WriteFile("fraud/models/source", "new");
  // The last look at the workspace before a rename.
  observer->SetAfter([&](absl::string_view call) {
    if (call != "Stat fraud") return;
    temp.WriteFile("fraud/models/x", "old");
    SetMode("fraud/models/x", 0600);
  });
  for (const bool exists : {false, true}) {
    if (exists) temp.WriteFile("fraud/models/x", "older");
    ASSERT_OK(Write("models/x", "new"));
    EXPECT_EQ(ModeOf("fraud/models/x"), 0600u);
    EXPECT_EQ(temp.ReadFile("fraud/models/x"), "new");
    temp.Remove("fraud/models/x");
    if (exists) temp.WriteFile("fraud/models/x", "older");
    ASSERT_OK(Copy("models/source", "models/x"));
    EXPECT_EQ(ModeOf("fraud/models/x"), 0600u);
    EXPECT_EQ(temp.ReadFile("fraud/models/x"), "new");
    temp.Remove("fraud/models/x");
  }
}

TEST_P(ArtifactsTest, AFileMovedOntoALinkOfItselfLosesItsOldName) {
  temp.WriteFile("fraud/models/x", "content");
  temp.MakeDirs("fraud/outputs");
  for (const char* to : {"models/y", "outputs/x"}) {
    std::filesystem::create_hard_link(temp.Path("fraud/models/x"),
                                      temp.Path(absl::StrCat("fraud/", to)));
    EXPECT_THAT(Move("models/x", to, /*create_only=*/true),
                IsError(StatusCode::kAlreadyExists, "ARTIFACT_EXISTS"));
    EXPECT_TRUE(temp.Exists("fraud/models/x"));
    EXPECT_EQ(Move("models/x", to).value().path, to);
    EXPECT_FALSE(temp.Exists("fraud/models/x"));
    EXPECT_EQ(temp.ReadFile(absl::StrCat("fraud/", to)), "content");
    ASSERT_OK(Move(to, "models/x"));
  }
}

TEST_P(ArtifactsTest, WhatIsMovedOrCopiedOntoItselfStays) {
  temp.WriteFile("fraud/models/dir/x", "content");
  EXPECT_OK(Move("models/dir/x", "models/dir/x"));
  EXPECT_OK(Move("models/dir", "models/dir"));
  EXPECT_OK(Copy("models/dir/x", "models/dir/x"));
  EXPECT_THAT(Move("models/dir", "models/dir/below"),
              IsError(StatusCode::kInvalidArgument, "PATH_INVALID"));
  EXPECT_EQ(temp.ReadFile("fraud/models/dir/x"), "content");
}

// An error other than "not found" says nothing about whether the workspace
// exists.
TEST_P(ArtifactsTest, AFailureThatPassesIsNoMissingWorkspace) {
  const auto observer = std::make_shared<support::DirObserver>();
  Observe(observer);
  temp.WriteFile("fraud/models/x", "content");
  temp.WriteFile("fraud/models/dir/y", "content");
  const auto writer = OpenForWrite("models/new").value();
  observer->SetBefore([](absl::string_view call) {
    return call == "Stat fraud"
               ? base::MakeError(StatusCode::kInternal, "passing",
                                 {.reason = "IO_ERROR"})
               : absl::OkStatus();
  });
  const auto io_error = IsError(StatusCode::kInternal, "IO_ERROR");
  EXPECT_THAT(writer->Finish(), io_error);
  EXPECT_THAT(Move("models/x", "models/z"), io_error);
  EXPECT_THAT(Copy("models/x", "models/z"), io_error);
  for (const char* path : {"models/x", "models/dir"}) {
    EXPECT_THAT(
        artifacts->Delete(
            {.project = Project("fraud"), .path = Path(path), .force = true},
            Never),
        io_error);
  }
  observer->SetBefore(nullptr);
  EXPECT_OK(Write("models/z", "content"));
}

TEST_P(ArtifactsTest, WhatIsDeepTakesFewDescriptors) {
  const auto observer = std::make_shared<support::DirObserver>();
  Observe(observer);
  std::string deep = "models";
  for (int i = 0; i < 100; ++i) deep += "/d";
  size_t most = 0;
  observer->SetAfter([&](absl::string_view) {
    size_t open = 0;
    for ([[maybe_unused]] const auto& entry :
         std::filesystem::directory_iterator("/proc/self/fd"))
      ++open;
    most = std::max(most, open);
  });
  EXPECT_FALSE(OpenForRead("models/none").ok());
  const size_t before = most;
  ASSERT_OK(Write(deep + "/x", "content"));
  EXPECT_THAT(ListAll(/*recursive=*/true, 1000), SizeIs(101));
  EXPECT_THAT(ListAll(/*recursive=*/true, 7), SizeIs(101));
  ASSERT_OK(Copy(deep + "/x", deep + "/copy"));
  ASSERT_OK(artifacts->Delete(
      {.project = Project("fraud"), .path = Path("models/d"), .force = true},
      Never));
  EXPECT_LE(most, before + 30);
}

TEST_P(ArtifactsTest, WhatIsAbandonedIsSweptAndWhatIsInUseIsNot) {
  ASSERT_OK(OpenForWrite("models/x", "old").value()->Write({"abc"}));
  temp.WriteFile("fraud/.uploads/crashed.tmp", "abc");
  temp.WriteFile("fraud/.uploads/gone.trash/a/b", "abc");
  temp.WriteFile("fraud/.uploads/nothing of ours", "abc");
  Restart();
  const auto writer = OpenForWrite("models/y").value();
  const std::vector<std::string> staged = Staged();
  const std::string in_use =
      *std::find_if(staged.begin(), staged.end(), [](const std::string& name) {
        return name.ends_with(".tmp") && name != "crashed.tmp";
      });
  artifacts->SweepSome();
  EXPECT_THAT(Staged(), testing::UnorderedElementsAre(
                            "old.part", "old.json", "nothing of ours", in_use));
  clock.Advance(absl::Hours(25));
  EXPECT_THAT(GetUpload("old"),
              IsError(StatusCode::kNotFound, "UPLOAD_NOT_FOUND"));
  artifacts->SweepSome();
  EXPECT_THAT(Staged(),
              testing::UnorderedElementsAre("nothing of ours", in_use));
  ASSERT_OK(writer->Finish());
  EXPECT_THAT(Staged(), ElementsAre("nothing of ours"));
}

TEST_P(ArtifactsTest, AFinishedUploadIsForgottenAfterAnHour) {
  ASSERT_OK(OpenForWrite("models/x", "id").value()->Finish());
  artifacts->SweepSome();
  EXPECT_OK(GetUpload("id"));
  clock.Advance(absl::Hours(2));
  artifacts->SweepSome();
  EXPECT_THAT(Staged(), IsEmpty());
  EXPECT_TRUE(temp.Exists("fraud/models/x"));
}

TEST_P(ArtifactsTest, PreconditionsHoldWhenTheFileGetsItsName) {
  const Artifact old = Write("models/x", "old").value();
  const auto by_etag =
      OpenForWrite("models/x", "a", 0, {.etag = old.etag}).value();
  const auto create_only =
      OpenForWrite("models/y", "b", 0, {.create_only = true}).value();
  ASSERT_OK(Write("models/x", "new"));
  ASSERT_OK(Write("models/y", "new"));
  EXPECT_THAT(by_etag->Finish(), kEtagMismatch);
  EXPECT_THAT(create_only->Finish(),
              IsError(StatusCode::kAlreadyExists, "ARTIFACT_EXISTS"));
  EXPECT_EQ(temp.ReadFile("fraud/models/x"), "new");
}

TEST_P(ArtifactsTest, AWorkspaceDeletedMeanwhileGetsNoFile) {
  const auto writer = OpenForWrite("models/x").value();
  temp.Move("fraud", "elsewhere");
  EXPECT_THAT(writer->Finish(),
              IsError(StatusCode::kNotFound, "WORKSPACE_NOT_FOUND"));
  const auto second = [&] {
    temp.MakeDirs("fraud/models");
    return OpenForWrite("models/x").value();
  }();
  temp.Remove("fraud");
  temp.MakeDirs("fraud/models");
  EXPECT_THAT(second->Finish(),
              IsError(StatusCode::kNotFound, "WORKSPACE_NOT_FOUND"));
  EXPECT_FALSE(temp.Exists("fraud/models/x"));
}

TEST_P(ArtifactsTest, ALinkPutOnTheWayMeanwhileLeadsNowhere) {
  const support::TempDir outside;
  temp.MakeDirs("fraud/models/dir");
  const auto writer = OpenForWrite("models/dir/x").value();
  temp.Remove("fraud/models/dir");
  temp.Link(outside.path(), "fraud/models/dir");
  EXPECT_THAT(writer->Finish(),
              IsError(StatusCode::kFailedPrecondition, "PATH_UNSUITABLE"));
  EXPECT_FALSE(outside.Exists("x"));
}

TEST_P(ArtifactsTest, AfterADirectoryThatCouldNotBeSyncedItOnlyReads) {
  const auto observer = std::make_shared<support::DirObserver>();
  const auto health = std::make_shared<core::DiskHealth>();
  auto base = fs::OpenBaseDir(temp.path(), {.portable = GetParam()}).value();
  UploadOptions options = Options();
  options.health = health;
  artifacts = std::make_unique<Artifacts>(
      &catalog,
      std::make_unique<support::ObservedDir>(std::move(base), observer),
      options);
  ASSERT_OK(Write("models/x", "old"));
  auto earlier = OpenForWrite("models/y").value();
  ASSERT_OK(earlier->Write({"abc"}));
  observer->SetBefore([](absl::string_view call) {
    const bool fails = call == "Sync fraud/models";
    return fails ? base::MakeError(
                       StatusCode::kInternal, "lost",
                       {.reason = "IO_ERROR", .metadata = {{"errno", "5"}}})
                 : absl::OkStatus();
  });
  const auto io_error = IsError(StatusCode::kInternal, "IO_ERROR");
  EXPECT_TRUE(health->ok());
  EXPECT_THAT(Write("models/x", "new"), io_error);
  EXPECT_FALSE(health->ok());
  observer->SetBefore(nullptr);
  EXPECT_THAT(earlier->Finish(), io_error);
  EXPECT_FALSE(temp.Exists("fraud/models/y"));
  EXPECT_THAT(Write("models/z", "new"), io_error);
  EXPECT_THAT(Write("models/z", "new"), HasDetail("errno", "5"));
  EXPECT_THAT(artifacts->MakeDirectory(Project("fraud"), Path("models/d")),
              io_error);
  const TransferArgs transfer{.project = Project("fraud"),
                              .path = Path("models/x"),
                              .destination = Path("models/z")};
  EXPECT_THAT(artifacts->Move(transfer), io_error);
  EXPECT_THAT(artifacts->Copy(transfer, Never), io_error);
  EXPECT_THAT(
      artifacts->Delete({.project = Project("fraud"), .path = Path("models/x")},
                        Never),
      io_error);
  EXPECT_OK(OpenForRead("models/x"));
  earlier.reset();
  Restart();
  EXPECT_OK(Write("models/z", "new"));
}

TEST_P(ArtifactsTest, OfRacersForOneNameOneWins) {
  std::vector<std::thread> racers;
  std::atomic<int> winners = 0;
  for (int i = 0; i < 8; ++i) {
    racers.emplace_back([&, i] {
      if (Write("models/x", absl::StrCat(i), {.create_only = true}).ok())
        ++winners;
    });
  }
  for (std::thread& racer : racers) racer.join();
  EXPECT_EQ(winners, 1);
  EXPECT_THAT(Staged(), IsEmpty());
}

TEST_P(ArtifactsTest, NoUpdateByEtagIsLost) {
  ASSERT_OK(Write("models/x", "0"));
  std::vector<std::thread> writers;
  for (int i = 0; i < 4; ++i) {
    writers.emplace_back([&] {
      for (int done = 0; done < 10;) {
        const auto reader = OpenForRead("models/x").value();
        const int value = std::stoi(ReadAll(*reader).value());
        if (Write("models/x", absl::StrCat(value + 1),
                  {.etag = reader->artifact().etag})
                .ok())
          ++done;
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  EXPECT_EQ(temp.ReadFile("fraud/models/x"), "40");
}

// --- Leases ------------------------------------------------------------------

class ArtifactLeaseTest : public ArtifactsTest {
 protected:
  ArtifactLeaseTest() {
    EXPECT_OK(Write("models/x", "old"));
    temp.MakeDirs("fraud/models/full/of");
  }

  int64_t Acquire(const std::string& holder) {
    const auto workspace = catalog.Get(Project("fraud")).value();
    const auto acquired = leases.Acquire(Project("fraud"), workspace->uid,
                                         holder, absl::Seconds(60));
    EXPECT_OK(acquired);
    return acquired.ok() ? acquired->lease.fence : -1;
  }
  WriteArgs Writing(absl::string_view path, int64_t fence,
                    std::string upload_id = "") {
    return {.project = Project("fraud"),
            .path = Path(path),
            .upload_id = std::move(upload_id),
            .fence = fence};
  }
  TransferArgs Transfer(int64_t fence) {
    return {.project = Project("fraud"),
            .path = Path("models/x"),
            .destination = Path("models/y"),
            .fence = fence};
  }
  absl::Status Delete(absl::string_view path, int64_t fence,
                      bool allow_missing = false) {
    return artifacts
        ->Delete({.project = Project("fraud"),
                  .path = Path(path),
                  .force = true,
                  .allow_missing = allow_missing,
                  .fence = fence},
                 Never)
        .status();
  }
  // Returns the results of every change with that fence.
  std::vector<absl::Status> TryAll(int64_t fence) {
    return {
        artifacts->OpenForWrite(Writing("models/x", fence)).status(),
        artifacts->DiscardUpload(Writing("models/x", fence, "id")).status(),
        artifacts->Copy(Transfer(fence), Never).status(),
        artifacts->Move(Transfer(fence)).status(),
        Delete("models/full", fence),
        Delete("models/y", fence),
        Delete("models/none", fence, /*allow_missing=*/true),
        artifacts->MakeDirectory(Project("fraud"), Path("models/new"), fence)
            .status(),
    };
  }

  const testing::Matcher<absl::Status> held =
      IsError(StatusCode::kFailedPrecondition, "LEASE_HELD");
  const testing::Matcher<absl::Status> lost =
      IsError(StatusCode::kFailedPrecondition, "LEASE_LOST");
};

TEST_P(ArtifactLeaseTest, EveryChangeNeedsTheFence) {
  const int64_t fence = Acquire("a");
  EXPECT_THAT(TryAll(0), testing::Each(held));
  EXPECT_THAT(TryAll(fence + 1), testing::Each(lost));
  EXPECT_EQ(temp.ReadFile("fraud/models/x"), "old");
  EXPECT_TRUE(std::filesystem::exists(temp.Path("fraud/models/full/of")));
  // Reading needs none.
  EXPECT_OK(OpenForRead("models/x"));
  for (const absl::Status& status : TryAll(fence)) EXPECT_OK(status);
}

TEST_P(ArtifactLeaseTest, AnUploadThatHasLostItsLeaseChangesNothing) {
  const int64_t fence = Acquire("a");
  const auto replacing =
      artifacts->OpenForWrite(Writing("models/x", fence)).value();
  const auto resumable =
      artifacts->OpenForWrite(Writing("models/a/b/x", fence, "id")).value();
  ASSERT_OK(replacing->Write({"new"}));
  ASSERT_OK(resumable->Write({"new"}));
  clock.Advance(absl::Seconds(61));
  const int64_t next = Acquire("b");
  EXPECT_THAT(replacing->Finish().status(), lost);
  EXPECT_THAT(resumable->Finish().status(), lost);
  EXPECT_EQ(temp.ReadFile("fraud/models/x"), "old");
  // Not even the directories that the file needs are there.
  EXPECT_FALSE(std::filesystem::exists(temp.Path("fraud/models/a")));
  EXPECT_TRUE(leases.Release(Project("fraud"), "", "b", true).value());
  EXPECT_GT(next, fence);
}

TEST_P(ArtifactLeaseTest, ALostLeaseDoesNotLoseTheUpload) {
  const int64_t fence = Acquire("a");
  auto writer =
      artifacts->OpenForWrite(Writing("models/a/x", fence, "id")).value();
  ASSERT_OK(writer->Write({"new"}));
  clock.Advance(absl::Seconds(61));
  EXPECT_THAT(writer->Finish().status(), lost);
  writer.reset();
  WriteArgs args = Writing("models/a/x", Acquire("a"), "id");
  args.offset = GetUpload("id")->offset;
  EXPECT_EQ(args.offset, 3);
  writer = artifacts->OpenForWrite(args).value();
  ASSERT_OK(RehashAll(*writer));
  EXPECT_OK(writer->Finish());
  EXPECT_EQ(temp.ReadFile("fraud/models/a/x"), "new");
}

TEST_P(ArtifactLeaseTest, AcquiringWaitsForARenameInFlight) {
  const int64_t fence = Acquire("a");
  const auto observer = std::make_shared<support::DirObserver>();
  std::atomic<bool> acquired = false;
  std::thread next;
  observer->SetBefore([&](absl::string_view call) {
    if (!absl::StartsWith(call, "Rename") || next.joinable())
      return absl::OkStatus();
    clock.Advance(absl::Seconds(61));
    next = std::thread([&] {
      Acquire("b");
      acquired = true;
    });
    absl::SleepFor(absl::Milliseconds(20));
    EXPECT_FALSE(acquired);
    return absl::OkStatus();
  });
  Observe(observer);
  EXPECT_OK(artifacts->Move(Transfer(fence)));
  next.join();
  EXPECT_THAT(Delete("models/y", fence), lost);
}

INSTANTIATE_TEST_SUITE_P(Calls, ArtifactLeaseTest, testing::Bool(),
                         [](const auto& info) {
                           return info.param ? "Portable" : "Linux";
                         });

INSTANTIATE_TEST_SUITE_P(Calls, ArtifactsTest, testing::Bool(),
                         [](const auto& info) {
                           return info.param ? "Portable" : "Linux";
                         });

}  // namespace
}  // namespace mlops::artifacts
