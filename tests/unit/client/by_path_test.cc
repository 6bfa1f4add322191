// Tests direct access to the files of a server on this host, and the failures
// that only it can have. artifacts_test.cc tests that it otherwise works like
// the connection.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "grpc/grpc.h"
#include "mlops/workspace_client.h"
#include "proto/cpp/base/id.h"
#include "service/server/server.h"
#include "tests/support/temp_dir.h"

namespace mlops {
namespace {

using absl::StatusCode;

constexpr size_t kMiB = 1 << 20;

std::string Bytes(size_t size) {
  std::string bytes(size, '\0');
  uint32_t state = 1;
  for (char& byte : bytes)
    byte = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
  return bytes;
}

class ByPathTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { grpc_init(); }

  ByPathTest() {
    StartServer("base");
    EXPECT_TRUE(client_.Create("fraud").ok());
  }

  std::string address() const {
    return absl::StrCat("unix:", dir_.Path("socket"));
  }

  void StartServer(const std::string& base) {
    server_.reset();
    auto server =
        server::Server::Start({.base = dir_.Path(base),
                               .listen = {address()},
                               .drain_timeout = absl::Milliseconds(100),
                               .log_calls = observe::CallLogLevel::kOff});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  // Writes a file of the workspace without the service. Returns its path.
  std::string File(const std::string& content) {
    dir_.WriteFile("base/fraud/outputs/x", content);
    return dir_.Path("base/fraud/outputs/x");
  }

  // Returns the path of the staged file of an upload, or "" if there is none.
  std::string Staged() {
    for (const auto& entry : std::filesystem::directory_iterator(
             dir_.Path("base/fraud/.uploads"))) {
      if (entry.path().extension() == ".part") return entry.path();
    }
    return "";
  }

  // Uploads `size` bytes, and calls `at_16_mib` once 16 MiB are uploaded.
  absl::StatusOr<TransferredArtifact> Upload(
      size_t size, const std::function<void()>& at_16_mib,
      UploadOptions options = {}, const CallOptions& call = {}) {
    dir_.WriteFile("source", Bytes(size));
    bool done = false;
    options.progress = [&](int64_t bytes, int64_t) {
      if (bytes >= static_cast<int64_t>(16 * kMiB) &&
          !std::exchange(done, true))
        at_16_mib();
      return true;
    };
    return client_.Upload("fraud", dir_.Path("source"), "outputs/x", options,
                          call);
  }

  bool IsUploaded(size_t size) {
    return dir_.ReadFile("base/fraud/outputs/x") == Bytes(size);
  }

  const support::TempDir dir_;
  std::unique_ptr<server::Server> server_;
  const WorkspaceClient client_ =
      *WorkspaceClient::Connect({.address = address()});
};

TEST_F(ByPathTest, ItIsToldAndCanBeTurnedOff) {
  const auto nothing = [] {};
  const auto by_path = Upload(3 * kMiB, nothing);
  ASSERT_TRUE(by_path.ok()) << by_path.status();
  EXPECT_TRUE(by_path->by_path);
  EXPECT_EQ(by_path->sha256, base::HashHex(Bytes(3 * kMiB), 64));
  EXPECT_EQ(Staged(), "");
  EXPECT_FALSE(Upload(3 * kMiB, nothing, {.by_path = false})->by_path);
  EXPECT_FALSE(Upload(kMiB, nothing)->by_path);
  EXPECT_FALSE(Upload(3 * kMiB, nothing, {.upload_id = "id"})->by_path);
  EXPECT_TRUE(client_.Download("fraud", "outputs/x", dir_.Path("x"))->by_path);
  EXPECT_FALSE(
      client_
          .Download("fraud", "outputs/x", dir_.Path("x"), {.by_path = false})
          ->by_path);
  EXPECT_TRUE(client_.OpenForRead("fraud", "outputs/x")->by_path());
  EXPECT_FALSE(
      client_.OpenForRead("fraud", "outputs/x", {.by_path = false})->by_path());
}

// The client may run on another host that has a directory of the same name,
// even with a copy of the file.
TEST_F(ByPathTest, AnotherFileOfTheSameNameIsNotTakenForIt) {
  const std::string mine = Bytes(3 * kMiB), other = Bytes(4 * kMiB);
  File(mine);
  // From this call on, the client knows the base directory.
  EXPECT_TRUE(client_.OpenForRead("fraud", "outputs/x")->by_path());
  StartServer("other");
  ASSERT_TRUE(client_.Ensure("fraud").ok());
  dir_.Remove("other/fraud/outputs");
  dir_.Copy("base/fraud/outputs", "other/fraud/outputs");
  auto reader = client_.OpenForRead("fraud", "outputs/x");
  EXPECT_FALSE(reader->by_path());
  EXPECT_TRUE(reader->ReadChunk().value() == mine.substr(0, kMiB));
  dir_.WriteFile("other/fraud/outputs/x", other);
  EXPECT_FALSE(client_.Download("fraud", "outputs/x", dir_.Path("x"))->by_path);
  EXPECT_TRUE(dir_.ReadFile("x") == other);
  EXPECT_FALSE(Upload(20 * kMiB, [] {})->by_path);
  EXPECT_TRUE(dir_.ReadFile("base/fraud/outputs/x") == mine);
  EXPECT_TRUE(dir_.ReadFile("other/fraud/outputs/x") == Bytes(20 * kMiB));
}

TEST_F(ByPathTest, LinksAndFifosAreLeftToTheServer) {
  dir_.WriteFile("outside", "secret");
  dir_.Link(dir_.Path("outside"), "base/fraud/outputs/link");
  dir_.MakeFifo("base/fraud/outputs/fifo");
  for (const char* path : {"outputs/link", "outputs/fifo", "outputs"}) {
    EXPECT_EQ(ErrorReason(client_.OpenForRead("fraud", path).status()),
              "PATH_UNSUITABLE")
        << path;
  }
}

TEST_F(ByPathTest, AFileChangedWhileItIsReadIsNoMixture) {
  const auto change =
      [this](const std::function<void(const std::string& path)>& how) {
        const std::string path = File(Bytes(3 * kMiB));
        auto reader = client_.OpenForRead("fraud", "outputs/x");
        EXPECT_TRUE(reader->by_path() && reader->ReadChunk().ok());
        // Several ticks of the file system's clock, so that stamps differ.
        absl::SleepFor(absl::Milliseconds(20));
        how(path);
        const auto chunk = reader->ReadChunk();
        return chunk.ok() ? std::to_string(chunk->size())
                          : ErrorReason(chunk.status());
      };
  const std::string whole = std::to_string(kMiB);
  EXPECT_EQ(change([this](const auto&) { File(std::string(3 * kMiB, 'x')); }),
            "ETAG_MISMATCH");
  EXPECT_EQ(change([](const auto& path) {
              std::filesystem::resize_file(path, kMiB + 1);
            }),
            "ETAG_MISMATCH");
  EXPECT_EQ(change([](const auto& path) {
              std::ofstream(path, std::ios::app) << "more";
            }),
            whole);
  EXPECT_EQ(change([](const auto& path) { std::filesystem::remove(path); }),
            whole);
}

TEST_F(ByPathTest, ADownloadOfAFileThatIsWrittenOverLeavesNothing) {
  File(Bytes(40 * kMiB));
  const Progress write_over = [this](int64_t, int64_t) {
    return File(std::string(40 * kMiB, 'x')), true;
  };
  const auto artifact = client_.Download("fraud", "outputs/x", dir_.Path("x"),
                                         {.progress = write_over});
  EXPECT_EQ(ErrorReason(artifact.status()), "ETAG_MISMATCH");
  EXPECT_EQ(ErrorMetadata(artifact.status())["path"], "outputs/x");
  EXPECT_FALSE(dir_.Exists("x"));
}

TEST_F(ByPathTest, AStopAndATimeoutEndIt) {
  File(Bytes(20 * kMiB));
  std::stop_source stop;
  auto reader =
      client_.OpenForRead("fraud", "outputs/x", {}, {.stop = stop.get_token()});
  ASSERT_TRUE(reader->by_path());
  const auto stopped = Upload(40 * kMiB, [&] { stop.request_stop(); }, {},
                              {.stop = stop.get_token()});
  EXPECT_EQ(stopped.status().code(), StatusCode::kCancelled);
  EXPECT_EQ(reader->ReadChunk().status().code(), StatusCode::kCancelled);
  const auto late = Upload(40 * kMiB, [] { absl::SleepFor(absl::Seconds(1)); },
                           {}, {.timeout = absl::Seconds(1)});
  EXPECT_EQ(late.status().code(), StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(IsUploaded(20 * kMiB));
}

TEST_F(ByPathTest, AnUploadGoesOnAfterARestart) {
  const auto artifact = Upload(40 * kMiB, [this] { StartServer("base"); });
  ASSERT_TRUE(artifact.ok()) << artifact.status();
  EXPECT_TRUE(artifact->by_path);
  EXPECT_TRUE(IsUploaded(40 * kMiB));
}

TEST_F(ByPathTest, AnUploadWhoseStagedFileIsLostIsSentOverTheConnection) {
  for (const bool linked : {false, true}) {
    const auto artifact = Upload(40 * kMiB, [&] {
      const std::string staged = Staged();
      std::filesystem::remove(staged);
      if (linked) std::filesystem::create_symlink(dir_.Path("source"), staged);
    });
    ASSERT_TRUE(artifact.ok()) << artifact.status();
    EXPECT_FALSE(artifact->by_path);
    EXPECT_TRUE(IsUploaded(40 * kMiB));
    EXPECT_EQ(Staged(), "");
  }
}

TEST_F(ByPathTest, AnUploadMeetsTheErrorsOfAWriter) {
  File("there");
  EXPECT_EQ(
      ErrorReason(Upload(3 * kMiB, [] {}, {.create_only = true}).status()),
      "ARTIFACT_EXISTS");
  EXPECT_EQ(ErrorReason(Upload(3 * kMiB, [] {}, {.etag = "other"}).status()),
            "ETAG_MISMATCH");
  const auto meanwhile =
      Upload(40 * kMiB, [this] { File("meanwhile"); },
             {.etag = client_.GetArtifact("fraud", "outputs/x")->etag});
  EXPECT_EQ(ErrorReason(meanwhile.status()), "ETAG_MISMATCH");
  EXPECT_EQ(dir_.ReadFile("base/fraud/outputs/x"), "meanwhile");
  const auto shorter = Upload(40 * kMiB, [this] {
    std::filesystem::resize_file(dir_.Path("source"), 20 * kMiB);
  });
  EXPECT_EQ(shorter.status().code(), StatusCode::kAborted);
  EXPECT_EQ(Staged(), "");
}

TEST_F(ByPathTest, AnUploadOfWhatIsNotTheSameHereIsRefused) {
  // The client reads the source again after the kernel copied it. The server
  // must reject the upload if the checksums differ.
  const auto changed =
      Upload(40 * kMiB,
             [this] { dir_.WriteFile("source", std::string(40 * kMiB, 'x')); },
             {.checksum = true});
  EXPECT_EQ(ErrorReason(changed.status()), "CHECKSUM_MISMATCH");
  EXPECT_FALSE(dir_.Exists("base/fraud/outputs/x"));
  const auto same = Upload(40 * kMiB, [] {}, {.checksum = true});
  EXPECT_TRUE(same.ok() && same->by_path);
}

}  // namespace
}  // namespace mlops
