// Tests the artifact methods of WorkspaceClient. Each case runs three times,
// all in this process: with the fake, over a connection to a real server, and
// with direct access to that server's files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <iterator>
#include <memory>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "grpc/grpc.h"
#include "mlops/testing/fake_workspace_service.h"
#include "mlops/workspace_client.h"
#include "proto/cpp/base/sha256.h"
#include "service/server/server.h"
#include "tests/support/temp_dir.h"

namespace mlops {
namespace {

using absl::StatusCode;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::string Sha256(const std::string& text) {
  base::Sha256 sha256;
  sha256.Update(text);
  return sha256.Finish();
}

// Returns `size` pseudo-random bytes, so that misplaced data is detected.
std::string Bytes(size_t size) {
  std::string bytes(size, '\0');
  uint32_t state = 1;
  for (char& byte : bytes)
    byte = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
  return bytes;
}

enum class Kind { kFake, kServer, kPaths };

class ArtifactsTest : public ::testing::TestWithParam<Kind> {
 protected:
  // Keeps gRPC initialized between the cases: otherwise it would shut down
  // after each case, which takes up to 10 s.
  static void SetUpTestSuite() { grpc_init(); }

  ArtifactsTest() {
    if (GetParam() != Kind::kFake) StartServer();
    EXPECT_TRUE(client_.Create("fraud").ok());
  }

  void StartServer() {
    server_.reset();
    auto server =
        server::Server::Start({.base = dir_.Path("base"),
                               .drain_timeout = absl::Milliseconds(100),
                               .log_calls = observe::CallLogLevel::kOff});
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  WorkspaceClient Client() {
    if (GetParam() == Kind::kFake) return fake_.Client();
    return *WorkspaceClient::Connect(
        {.address =
             absl::StrCat("unix:", dir_.Path("base/.workspaced/socket"))});
  }

  Artifact Put(const std::string& path, const std::string& content,
               const WriteOptions& options = {}) {
    auto writer = client_.OpenForWrite("fraud", path, options);
    EXPECT_TRUE(writer.ok()) << writer.status();
    EXPECT_EQ(writer->Write(content), absl::OkStatus());
    auto artifact = writer->Finish();
    EXPECT_TRUE(artifact.ok()) << artifact.status();
    return artifact.value_or(Artifact());
  }

  std::string ReadAll(const std::string& path,
                      const ReadOptions& options = {}) {
    auto reader = OpenForRead(path, options);
    if (!reader.ok()) return ErrorReason(reader.status());
    std::string content;
    while (reader->remaining_bytes() > 0) {
      const auto chunk = reader->ReadChunk();
      if (!chunk.ok()) return ErrorReason(chunk.status());
      content += *chunk;
    }
    return content;
  }

  std::vector<std::string> List(const ListArtifactsOptions& options = {}) {
    std::vector<std::string> paths;
    EXPECT_EQ(client_.ListArtifacts(
                  "fraud",
                  [&paths](const Artifact& artifact) {
                    paths.push_back(artifact.path);
                    return true;
                  },
                  options),
              absl::OkStatus());
    return paths;
  }

  bool by_path() const { return GetParam() == Kind::kPaths; }

  absl::StatusOr<ArtifactReader> OpenForRead(const std::string& path,
                                             ReadOptions options = {},
                                             const CallOptions& call = {}) {
    options.by_path = by_path();
    auto reader = client_.OpenForRead("fraud", path, options, call);
    if (!reader.ok()) return reader;
    EXPECT_EQ(reader->by_path(),
              by_path() && reader->remaining_bytes() >= 2 << 20);
    return reader;
  }
  absl::StatusOr<TransferredArtifact> Upload(const std::string& source,
                                             const std::string& path,
                                             UploadOptions options = {},
                                             const CallOptions& call = {}) {
    options.by_path = by_path();
    return client_.Upload("fraud", dir_.Path(source), path, options, call);
  }
  absl::StatusOr<TransferredArtifact> Download(const std::string& path,
                                               const std::string& target,
                                               DownloadOptions options = {},
                                               const CallOptions& call = {}) {
    options.by_path = by_path();
    auto artifact =
        client_.Download("fraud", path, dir_.Path(target), options, call);
    if (!artifact.ok()) return artifact;
    EXPECT_EQ(artifact->by_path, by_path() && artifact->size_bytes >= 2 << 20);
    return artifact;
  }

  std::string ReasonOf(const absl::Status& status) {
    return ErrorReason(status);
  }

  const support::TempDir dir_;
  mlops::testing::FakeWorkspaceService fake_;
  std::unique_ptr<server::Server> server_;
  const WorkspaceClient client_ = Client();
};

INSTANTIATE_TEST_SUITE_P(Services, ArtifactsTest,
                         ::testing::Values(Kind::kFake, Kind::kServer,
                                           Kind::kPaths),
                         [](const auto& info) {
                           if (info.param == Kind::kFake) return "Fake";
                           return info.param == Kind::kServer ? "Server"
                                                              : "Paths";
                         });

TEST_P(ArtifactsTest, WhatIsWrittenIsRead) {
  for (const size_t size :
       {size_t{0}, size_t{5}, size_t{1} << 20, (size_t{3} << 20) + 17}) {
    const std::string content = Bytes(size);
    const Artifact artifact = Put("models/a/m.pt", content);
    EXPECT_EQ(artifact.path, "models/a/m.pt");
    EXPECT_EQ(artifact.size_bytes, static_cast<int64_t>(size));
    EXPECT_EQ(artifact.sha256, Sha256(content));
    EXPECT_EQ(ReadAll("models/a/m.pt"), content) << size;
  }
}

TEST_P(ArtifactsTest, GetTellsWhatItIs) {
  const Artifact written = Put("outputs/x", "hello");
  const auto got = client_.GetArtifact("fraud", "outputs/x");
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(got->etag, written.etag);
  EXPECT_EQ(got->sha256, "");
  EXPECT_EQ(got->modify_time, written.modify_time);
  EXPECT_EQ(
      client_.GetArtifact("fraud", "outputs/x", {.checksum = true})->sha256,
      Sha256("hello"));
  EXPECT_TRUE(client_.GetArtifact("fraud", "outputs")->directory);
  EXPECT_EQ(
      ReasonOf(
          client_.GetArtifact("fraud", "outputs", {.checksum = true}).status()),
      "PATH_UNSUITABLE");
  EXPECT_EQ(ReasonOf(client_.GetArtifact("fraud", "outputs/y").status()),
            "ARTIFACT_NOT_FOUND");
  EXPECT_EQ(ReasonOf(client_.GetArtifact("none", "outputs/y").status()),
            "WORKSPACE_NOT_FOUND");
}

TEST_P(ArtifactsTest, RefusesBadPaths) {
  const std::string long_name(256, 'x');
  for (const std::string& path : std::vector<std::string>{
           "/etc/passwd", "outputs/../x", "other/x", "outputs//x",
           "outputs/a\\b", "outputs/a\nb", "outputs/" + long_name}) {
    EXPECT_EQ(ReasonOf(client_.GetArtifact("fraud", path).status()),
              "PATH_INVALID")
        << path;
    EXPECT_EQ(ReasonOf(OpenForRead(path).status()), "PATH_INVALID") << path;
    EXPECT_EQ(ReasonOf(client_.OpenForWrite("fraud", path)->Finish().status()),
              "PATH_INVALID")
        << path;
    EXPECT_EQ(ReasonOf(client_.MakeDirectory("fraud", path).status()),
              "PATH_INVALID")
        << path;
  }
  EXPECT_EQ(
      ReasonOf(
          client_.DeleteArtifact("fraud", "outputs", {.force = true}).status()),
      "PATH_INVALID");
}

TEST_P(ArtifactsTest, ReadsRanges) {
  const std::string content = Bytes((2 << 20) + 100);
  const Artifact artifact = Put("outputs/x", content);
  EXPECT_EQ(ReadAll("outputs/x", {.offset = 10, .limit = 5}),
            content.substr(10, 5));
  EXPECT_EQ(ReadAll("outputs/x", {.offset = 1 << 20}), content.substr(1 << 20));
  EXPECT_EQ(ReadAll("outputs/x", {.offset = (2 << 20) + 90, .limit = 50}),
            content.substr((2 << 20) + 90));
  EXPECT_EQ(ReadAll("outputs/x", {.offset = (2 << 20) + 100}), "");
  EXPECT_EQ(ReadAll("outputs/x", {.offset = (2 << 20) + 101}),
            "OFFSET_OUT_OF_RANGE");
  EXPECT_EQ(ReadAll("outputs/x", {.limit = 3, .etag = artifact.etag}),
            content.substr(0, 3));
  EXPECT_EQ(ReadAll("outputs/x", {.etag = "other"}), "ETAG_MISMATCH");
}

TEST_P(ArtifactsTest, ReadsIntoBuffersOfAnySize) {
  const std::string content = Bytes((2 << 20) + 100);
  Put("outputs/x", content);
  auto reader = OpenForRead("outputs/x");
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ(reader->artifact().size_bytes,
            static_cast<int64_t>(content.size()));
  std::string read;
  for (const size_t size : {1, 1'000'000, 7, 1'500'000}) {
    std::string buffer(size, '\0');
    const auto got = reader->Read(buffer.data(), size);
    ASSERT_TRUE(got.ok()) << got.status();
    read.append(buffer, 0, *got);
    EXPECT_EQ(reader->offset(), static_cast<int64_t>(read.size()));
  }
  EXPECT_TRUE(read == content);
  char more;
  EXPECT_EQ(reader->Read(&more, 1).value(), 0u);
  EXPECT_EQ(reader->ReadChunk().value(), "");
}

TEST_P(ArtifactsTest, AReaderMayLeaveEarly) {
  Put("outputs/x", Bytes(20 << 20));
  auto reader = OpenForRead("outputs/x");
  ASSERT_TRUE(reader->ReadChunk().ok());
  reader = OpenForRead("outputs/x");
  EXPECT_TRUE(reader->ReadChunk().ok());
}

TEST_P(ArtifactsTest, WritingObeysItsConditions) {
  const Artifact first = Put("outputs/x", "one");
  const auto write = [&](const WriteOptions& options, size_t size = 3) {
    auto writer = client_.OpenForWrite("fraud", "outputs/x", options);
    absl::Status status = writer->Write(Bytes(size));
    return ReasonOf(status.ok() ? writer->Finish().status() : status);
  };
  EXPECT_EQ(write({.create_only = true}), "ARTIFACT_EXISTS");
  EXPECT_EQ(write({.create_only = true}, 5 << 20), "ARTIFACT_EXISTS");
  EXPECT_EQ(write({.etag = "other"}), "ETAG_MISMATCH");
  EXPECT_EQ(ReadAll("outputs/x"), "one");
  EXPECT_EQ(write({.etag = first.etag}), "");
  EXPECT_EQ(
      ReasonOf(client_.OpenForWrite("fraud", "outputs/x/y")->Finish().status()),
      "PATH_UNSUITABLE");
  EXPECT_EQ(
      ReasonOf(client_.OpenForWrite("none", "outputs/x")->Finish().status()),
      "WORKSPACE_NOT_FOUND");
}

TEST_P(ArtifactsTest, AWrongChecksumLeavesNothing) {
  for (const size_t size : {3, 3 << 20}) {
    auto writer = client_.OpenForWrite("fraud", "outputs/x");
    ASSERT_EQ(writer->Write(Bytes(size)), absl::OkStatus());
    EXPECT_EQ(ReasonOf(writer->Finish(Sha256("other")).status()),
              "CHECKSUM_MISMATCH");
    EXPECT_EQ(writer->Write("x").code(), StatusCode::kFailedPrecondition);
    auto again = client_.OpenForWrite("fraud", "outputs/y");
    ASSERT_EQ(again->Write(Bytes(size)), absl::OkStatus());
    EXPECT_TRUE(again->Finish(Sha256(Bytes(size))).ok());
  }
  EXPECT_THAT(List({.path = "outputs"}), ElementsAre("outputs/y"));
}

TEST_P(ArtifactsTest, WhatIsNotFinishedIsNotThere) {
  for (const size_t size : {3, 3 << 20}) {
    auto writer = client_.OpenForWrite("fraud", "outputs/x");
    ASSERT_EQ(writer->Write(Bytes(size)), absl::OkStatus());
  }
  EXPECT_THAT(List({.path = "outputs"}), IsEmpty());
}

TEST_P(ArtifactsTest, AnAbandonedUploadLeavesNothingStaged) {
  if (GetParam() == Kind::kFake) GTEST_SKIP() << "has no disk";
  {
    ASSERT_EQ(client_.OpenForWrite("fraud", "outputs/x")->Write(Bytes(3 << 20)),
              absl::OkStatus());
  }
  int64_t bytes = 0;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(dir_.Path("base/fraud"))) {
    if (entry.is_regular_file() && entry.path().filename() != "workspace.yaml")
      bytes += entry.file_size();
  }
  EXPECT_EQ(bytes, 0);
}

TEST_P(ArtifactsTest, AnUploadGoesOnUnderItsId) {
  const std::string content = Bytes((3 << 20) + 5);
  {
    auto writer =
        client_.OpenForWrite("fraud", "outputs/x", {.upload_id = "id-1"});
    ASSERT_EQ(writer->Write(content.substr(0, 2 << 20)), absl::OkStatus());
  }
  auto writer =
      client_.OpenForWrite("fraud", "outputs/x", {.upload_id = "id-1"});
  ASSERT_TRUE(writer.ok()) << writer.status();
  const auto offset = static_cast<size_t>(writer->offset());
  EXPECT_LE(offset, size_t{2} << 20);
  ASSERT_EQ(writer->Write(content.substr(offset)), absl::OkStatus());
  EXPECT_TRUE(writer->Finish(Sha256(content)).ok());
  EXPECT_TRUE(ReadAll("outputs/x") == content);
  // Finishing again returns the same result, but further data is rejected.
  auto finished =
      client_.OpenForWrite("fraud", "outputs/x", {.upload_id = "id-1"});
  EXPECT_EQ(finished->offset(), static_cast<int64_t>(content.size()));
  EXPECT_TRUE(finished->Finish().ok());
  finished = client_.OpenForWrite("fraud", "outputs/x", {.upload_id = "id-1"});
  ASSERT_EQ(finished->Write("more"), absl::OkStatus());
  EXPECT_EQ(ReasonOf(finished->Finish().status()), "FIELD_INVALID");
  EXPECT_EQ(
      ReasonOf(client_.OpenForWrite("fraud", "outputs/y", {.upload_id = "id-1"})
                   .status()),
      "FIELD_INVALID");
}

TEST_P(ArtifactsTest, ListsInOrderPageByPage) {
  for (const char* path :
       {"outputs/b", "outputs/a/z", "outputs/a-1", "outputs/a/b/c", "models/m"})
    Put(path, "x");
  for (const int page_size : {0, 1, 2, 3, 100}) {
    EXPECT_THAT(List({.path = "outputs", .page_size = page_size}),
                ElementsAre("outputs/a", "outputs/a-1", "outputs/b"));
    EXPECT_THAT(
        List({.path = "outputs", .recursive = true, .page_size = page_size}),
        ElementsAre("outputs/a", "outputs/a/b", "outputs/a/b/c", "outputs/a/z",
                    "outputs/a-1", "outputs/b"));
  }
  EXPECT_THAT(List(),
              ElementsAre("dvc", "mlflow", "models", "monitoring", "outputs"));
  int seen = 0;
  EXPECT_EQ(client_.ListArtifacts(
                "fraud", [&seen](const Artifact&) { return ++seen < 2; },
                {.page_size = 1}),
            absl::OkStatus());
  EXPECT_EQ(seen, 2);
  const auto visit = [](const Artifact&) { return true; };
  EXPECT_EQ(
      ReasonOf(client_.ListArtifacts("fraud", visit, {.path = "outputs/none"})),
      "ARTIFACT_NOT_FOUND");
  EXPECT_EQ(
      ReasonOf(client_.ListArtifacts("fraud", visit, {.path = "outputs/b"})),
      "PATH_UNSUITABLE");
}

TEST_P(ArtifactsTest, DeletesFilesAndDirectories) {
  const Artifact file = Put("outputs/a/x", "12345");
  Put("outputs/a/b/y", "123");
  EXPECT_EQ(
      ReasonOf(client_.DeleteArtifact("fraud", "outputs/a/x", {.etag = "other"})
                   .status()),
      "ETAG_MISMATCH");
  EXPECT_EQ(client_.DeleteArtifact("fraud", "outputs/a/x", {.etag = file.etag})
                ->size_bytes,
            5);
  EXPECT_EQ(ReasonOf(client_.DeleteArtifact("fraud", "outputs/a/x").status()),
            "ARTIFACT_NOT_FOUND");
  EXPECT_EQ(
      client_.DeleteArtifact("fraud", "outputs/a/x", {.allow_missing = true})
          ->file_count,
      0);
  EXPECT_EQ(ReasonOf(client_.DeleteArtifact("fraud", "outputs/a").status()),
            "FORCE_REQUIRED");
  EXPECT_EQ(
      client_.DeleteArtifact("fraud", "outputs/a", {.force = true})->file_count,
      1);
  EXPECT_THAT(List({.path = "outputs"}), IsEmpty());
}

TEST_P(ArtifactsTest, MovesFilesAndDirectories) {
  Put("outputs/a/x", "one");
  Put("outputs/y", "two");
  EXPECT_EQ(client_.MoveArtifact("fraud", "outputs/a", "models/new/a")->path,
            "models/new/a");
  EXPECT_EQ(ReadAll("models/new/a/x"), "one");
  EXPECT_EQ(
      ReasonOf(client_.MoveArtifact("fraud", "outputs/a", "models/b").status()),
      "ARTIFACT_NOT_FOUND");
  EXPECT_EQ(
      ReasonOf(client_.MoveArtifact("fraud", "models/new", "models/new/a/b")
                   .status()),
      "PATH_INVALID");
  EXPECT_EQ(ReasonOf(client_
                         .MoveArtifact("fraud", "outputs/y", "models/new/a/x",
                                       {.create_only = true})
                         .status()),
            "ARTIFACT_EXISTS");
  EXPECT_EQ(
      ReasonOf(
          client_.MoveArtifact("fraud", "outputs/y", "models/new/a").status()),
      "PATH_UNSUITABLE");
  EXPECT_EQ(
      client_.MoveArtifact("fraud", "outputs/y", "models/new/a/x")->size_bytes,
      3);
  EXPECT_EQ(ReadAll("models/new/a/x"), "two");
}

TEST_P(ArtifactsTest, CopiesFiles) {
  const Artifact artifact = Put("outputs/x", Bytes(2 << 20));
  EXPECT_EQ(ReasonOf(client_
                         .CopyArtifact("fraud", "outputs/x", "models/x",
                                       {.etag = "other"})
                         .status()),
            "ETAG_MISMATCH");
  EXPECT_EQ(client_
                .CopyArtifact("fraud", "outputs/x", "models/x",
                              {.etag = artifact.etag})
                ->size_bytes,
            2 << 20);
  EXPECT_TRUE(ReadAll("models/x") == Bytes(2 << 20));
  EXPECT_EQ(ReasonOf(client_
                         .CopyArtifact("fraud", "outputs/x", "models/x",
                                       {.create_only = true})
                         .status()),
            "ARTIFACT_EXISTS");
  ASSERT_TRUE(client_.MakeDirectory("fraud", "outputs/d").ok());
  EXPECT_EQ(
      ReasonOf(client_.CopyArtifact("fraud", "outputs/d", "models/y").status()),
      "PATH_UNSUITABLE");
}

TEST_P(ArtifactsTest, AQuotaIsEnforced) {
  ASSERT_TRUE(
      client_.Update("fraud", {.max_size_bytes = 10, .max_file_count = 2})
          .ok());
  const auto write = [&](const std::string& path, const std::string& content) {
    auto writer = client_.OpenForWrite("fraud", path);
    if (!writer.ok()) return writer.status();
    const absl::Status written = writer->Write(content);
    return written.ok() ? writer->Finish().status() : written;
  };
  const auto facts = [](const absl::Status& status) {
    auto metadata = ErrorMetadata(status);
    return absl::StrCat(ErrorReason(status), " ", metadata["quota"], " ",
                        metadata["limit"], " ", metadata["used"], " ",
                        metadata["wanted"]);
  };
  Put("models/a", "123456");
  const absl::Status refused = write("models/b", "12345");
  EXPECT_EQ(refused.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(facts(refused), "NO_SPACE max_size_bytes 10 6 5");
  EXPECT_EQ(
      facts(client_.CopyArtifact("fraud", "models/a", "models/b", {}).status()),
      "NO_SPACE max_size_bytes 10 6 6");
  EXPECT_EQ(ReasonOf(client_.GetArtifact("fraud", "models/b").status()),
            "ARTIFACT_NOT_FOUND");
  // Only what a new content adds counts.
  Put("models/a", "1234567890");
  EXPECT_EQ(facts(write("models/a", "12345678901")),
            "NO_SPACE max_size_bytes 10 10 1");
  EXPECT_EQ(client_.GetStatus("fraud")->size_bytes, 10);
  EXPECT_FALSE(client_.GetStatus("fraud")->over_quota);
  Put("outputs/empty", "");
  EXPECT_EQ(facts(write("outputs/third", "")), "NO_SPACE max_file_count 2 2 1");
  EXPECT_TRUE(client_.MakeDirectory("fraud", "outputs/dir").ok());
  // A quota below the use is shown; deletions work.
  ASSERT_TRUE(client_.Update("fraud", {.max_size_bytes = 5}).ok());
  EXPECT_TRUE(client_.GetStatus("fraud")->over_quota);
  EXPECT_EQ(facts(client_.CloneWorkspace("fraud", "copy").status()),
            "NO_SPACE max_size_bytes 5 0 10");
  EXPECT_EQ(ReasonOf(client_.Get("copy").status()), "WORKSPACE_NOT_FOUND");
  EXPECT_TRUE(client_.DeleteArtifact("fraud", "models/a").ok());
  EXPECT_FALSE(client_.GetStatus("fraud")->over_quota);
  Put("models/c", "12345");
}

TEST_P(ArtifactsTest, MakesDirectories) {
  EXPECT_TRUE(client_.MakeDirectory("fraud", "outputs/a/b")->directory);
  EXPECT_TRUE(client_.MakeDirectory("fraud", "outputs/a/b")->directory);
  EXPECT_THAT(List({.path = "outputs", .recursive = true}),
              ElementsAre("outputs/a", "outputs/a/b"));
  Put("outputs/x", "");
  EXPECT_EQ(ReasonOf(client_.MakeDirectory("fraud", "outputs/x").status()),
            "PATH_UNSUITABLE");
}

TEST_P(ArtifactsTest, LocalFilesGoUpAndDown) {
  for (const size_t size : {size_t{0}, size_t{10}, (size_t{2} << 20) + 1}) {
    const std::string content = Bytes(size);
    dir_.WriteFile("source", content);
    std::vector<int64_t> done;
    const Progress progress = [&](int64_t bytes, int64_t total) {
      EXPECT_EQ(total, static_cast<int64_t>(size));
      done.push_back(bytes);
      return true;
    };
    const auto up =
        Upload("source", "outputs/x", {.checksum = true, .progress = progress});
    ASSERT_TRUE(up.ok()) << up.status();
    EXPECT_EQ(up->sha256, Sha256(content));
    EXPECT_EQ(up->by_path, by_path() && size > 2 << 20);
    EXPECT_EQ(done.back(), static_cast<int64_t>(size));
    done.clear();
    dir_.WriteFile("down/target", "old");
    const auto down =
        Download("outputs/x", "down/target",
                 {.etag = up->etag, .checksum = true, .progress = progress});
    ASSERT_TRUE(down.ok()) << down.status();
    EXPECT_EQ(down->sha256, up->sha256);
    EXPECT_EQ(done.back(), static_cast<int64_t>(size));
    EXPECT_TRUE(dir_.ReadFile("down/target") == content);
  }
  EXPECT_EQ(
      std::distance(std::filesystem::directory_iterator(dir_.Path("down")), {}),
      1);
}

TEST_P(ArtifactsTest, LocalFilesThatCannotBe) {
  Put("outputs/x", Bytes(3 << 20));
  dir_.MakeFifo("fifo");
  EXPECT_EQ(Upload("none", "outputs/y").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(Upload("", "outputs/y").status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(Upload("fifo", "outputs/y").status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(Download("outputs/x", "none/x").status().code(),
            StatusCode::kNotFound);
  EXPECT_EQ(ReasonOf(Download("outputs/y", "x").status()),
            "ARTIFACT_NOT_FOUND");
  EXPECT_FALSE(dir_.Exists("x"));
}

TEST_P(ArtifactsTest, ProgressEndsATransfer) {
  dir_.WriteFile("source", Bytes(4 << 20));
  const Progress until_2 = [](int64_t done, int64_t) { return done < 2 << 20; };
  EXPECT_EQ(
      Upload("source", "outputs/x", {.progress = until_2}).status().code(),
      StatusCode::kCancelled);
  EXPECT_THAT(List({.path = "outputs"}), IsEmpty());
  // With the caller's upload id, the next call sends the rest.
  EXPECT_EQ(
      Upload("source", "outputs/x", {.upload_id = "id", .progress = until_2})
          .status()
          .code(),
      StatusCode::kCancelled);
  ASSERT_TRUE(
      Upload("source", "outputs/x", {.upload_id = "id", .checksum = true})
          .ok());
  EXPECT_EQ(Download("outputs/x", "x", {.progress = until_2}).status().code(),
            StatusCode::kCancelled);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir_.path()), {}),
            GetParam() == Kind::kFake ? 1 : 2);
}

TEST_P(ArtifactsTest, AStopEndsATransfer) {
  if (GetParam() == Kind::kFake) GTEST_SKIP() << "takes no time";
  Put("outputs/x", Bytes(40 << 20));
  std::stop_source stop;
  auto reader = OpenForRead("outputs/x", {}, {.stop = stop.get_token()});
  auto writer = client_.OpenForWrite("fraud", "outputs/y", {},
                                     {.stop = stop.get_token()});
  ASSERT_TRUE(reader->ReadChunk().ok());
  ASSERT_EQ(writer->Write(Bytes(2 << 20)), absl::OkStatus());
  stop.request_stop();
  std::string buffer(40 << 20, '\0');
  EXPECT_EQ(reader->Read(buffer.data(), buffer.size()).status().code(),
            StatusCode::kCancelled);
  EXPECT_EQ(writer->Finish().status().code(), StatusCode::kCancelled);
  EXPECT_EQ(
      client_.GetArtifact("fraud", "outputs/x", {}, {.stop = stop.get_token()})
          .status()
          .code(),
      StatusCode::kCancelled);
}

TEST_P(ArtifactsTest, GoesOnAfterARestart) {
  if (GetParam() == Kind::kFake) GTEST_SKIP() << "has no connection";
  const std::string content = Bytes(30 << 20);
  auto writer = client_.OpenForWrite("fraud", "outputs/x");
  for (size_t i = 0; i < content.size(); i += 5 << 20) {
    ASSERT_EQ(writer->Write(content.substr(i, 5 << 20)), absl::OkStatus());
    if (i == 10 << 20 || i == 15 << 20) StartServer();
  }
  const auto written = writer->Finish(Sha256(content));
  ASSERT_TRUE(written.ok()) << written.status();
  auto reader = OpenForRead("outputs/x");
  std::string read = *reader->ReadChunk();
  StartServer();
  while (reader->remaining_bytes() > 0) {
    const auto chunk = reader->ReadChunk();
    ASSERT_TRUE(chunk.ok()) << chunk.status();
    read += *chunk;
  }
  EXPECT_TRUE(read == content);
}

TEST_P(ArtifactsTest, AFileThatWasReplacedIsNotGoneOnWith) {
  if (GetParam() != Kind::kServer)
    GTEST_SKIP() << "has no connection that breaks";
  Put("outputs/x", Bytes(60 << 20));
  auto reader = OpenForRead("outputs/x");
  ASSERT_TRUE(reader->ReadChunk().ok());
  Put("outputs/x", Bytes(60 << 20));
  StartServer();
  absl::Status status;
  while (status.ok() && reader->remaining_bytes() > 0)
    status = reader->ReadChunk().status();
  EXPECT_EQ(ReasonOf(status), "ETAG_MISMATCH");
}

TEST_P(ArtifactsTest, GivesUpWhereNobodyAnswers) {
  if (GetParam() == Kind::kFake) GTEST_SKIP() << "has no connection";
  server_.reset();
  const CallOptions call = {.timeout = absl::Seconds(1)};
  EXPECT_EQ(OpenForRead("outputs/x", {}, call).status().code(),
            StatusCode::kUnavailable);
  auto writer = client_.OpenForWrite("fraud", "outputs/x", {}, call);
  EXPECT_EQ(writer->Finish().status().code(), StatusCode::kUnavailable);
}

TEST(FakeArtifacts, InjectedErrorsMeetStreamsToo) {
  mlops::testing::FakeWorkspaceService service;
  const WorkspaceClient client = service.Client();
  ASSERT_TRUE(client.Create("fraud").ok());
  service.FailNext(mlops::testing::MakeError(StatusCode::kResourceExhausted,
                                             "NO_SPACE", "full"));
  EXPECT_EQ(
      ErrorReason(client.OpenForWrite("fraud", "outputs/x")->Finish().status()),
      "NO_SPACE");
  // The client retries transient errors.
  service.FailNext(mlops::testing::MakeError(StatusCode::kUnavailable,
                                             "OVERLOADED", "busy"));
  EXPECT_TRUE(client.OpenForWrite("fraud", "outputs/x")->Finish().ok());
  service.FailNext(mlops::testing::MakeError(StatusCode::kUnavailable,
                                             "OVERLOADED", "busy"));
  EXPECT_TRUE(client.OpenForRead("fraud", "outputs/x").ok());
}

}  // namespace
}  // namespace mlops
