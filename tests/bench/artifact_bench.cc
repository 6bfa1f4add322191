// Measures uploads and downloads of artifacts. run.py runs all modes.
//
// Usage: artifact_bench MODE ADDRESS PROJECT ..., where MODE is one of
//   plain-download SIZE, plain-upload SIZE
//     Transfers with the generated stub, in messages of 1 MiB, and discards the
//     data.
//   download SIZE, upload SIZE
//     Transfers with the client, to and from memory.
//   file-download SIZE FILE, file-upload SIZE FILE
//     Transfers a local file with the client, over the connection.
//   path-download SIZE FILE, path-upload SIZE FILE
//     Transfers a local file with the client, by direct file access. Fails if
//     that is impossible. Syncs the download, too, because uploads are synced.
//   copy SIZE FROM TO
//     Copies a file as cp does, and syncs it.
//   write SIZE FILE
//     Hashes SIZE bytes, writes them to a file and syncs it.
//   parallel-download SIZE, parallel-upload SIZE
//     Transfers 64 files at once with the client, SIZE bytes in total.
//   small COUNT
//     Uploads COUNT files of 10 KiB, one after the other.
//   plain-small COUNT
//     Does the same with the generated stub.
//   slow READERS SIZE
//     Opens READERS readers of a file of SIZE bytes, reads the first chunk of
//     each, prints a line, and waits for the end of standard input.
// Downloads read `outputs/SIZE.bin`, and first upload it if it is missing.
// Prints a JSON object with the number of bytes or calls and the seconds.
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <iostream>
#include <map>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "mlops/workspace/v1/workspace_service.grpc.pb.h"
#include "mlops/workspace_client.h"
#include "nlohmann/json.hpp"
#include "proto/cpp/base/sha256.h"
#include "tests/bench/workload.h"

namespace mlops::bench {
namespace {

namespace pb = mlops::workspace::v1;

constexpr size_t kChunkBytes = 1 << 20;
constexpr size_t kSmallBytes = 10 << 10;
constexpr int kParallel = 64;

// Returns 1 MiB of pseudo-random bytes, of which all files consist.
const std::string& Chunk() {
  static const auto& chunk = *new std::string([] {
    std::string bytes(kChunkBytes, '\0');
    uint32_t state = 1;
    for (char& byte : bytes)
      byte = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
    return bytes;
  }());
  return chunk;
}

std::string PathOf(int64_t size) {
  return absl::StrCat("outputs/", size, ".bin");
}

struct Job {
  std::string address;
  std::string project;
  int64_t number = 0;             // Bytes or calls.
  std::vector<std::string> rest;  // Further arguments of the mode.
  WorkspaceClient client;
};

void Upload(const Job& job, const std::string& path, int64_t size) {
  auto writer = job.client.OpenForWrite(job.project, path);
  DieUnless(writer.status());
  for (int64_t left = size; left > 0; left -= kChunkBytes) {
    DieUnless(writer->Write(
        std::string_view(Chunk()).substr(0, static_cast<size_t>(left))));
  }
  DieUnless(writer->Finish().status());
}

void Download(const Job& job, const std::string& path) {
  auto reader = job.client.OpenForRead(job.project, path, {.by_path = false});
  DieUnless(reader.status());
  const auto buffer = std::make_unique_for_overwrite<char[]>(kChunkBytes);
  while (reader->remaining_bytes() > 0)
    DieUnless(reader->Read(buffer.get(), kChunkBytes).status());
}

// Uploads the file of a download unless it exists.
void Prepare(const Job& job, const std::string& path, int64_t size) {
  if (!job.client.GetArtifact(job.project, path).ok()) Upload(job, path, size);
}

void PlainDownload(const Job& job) {
  const auto stub = pb::WorkspaceService::NewStub(Connect(job.address));
  grpc::ClientContext context;
  pb::ReadArtifactRequest request;
  request.set_project(job.project);
  request.set_path(PathOf(job.number));
  const auto reader = stub->ReadArtifact(&context, request);
  pb::ReadArtifactResponse response;
  while (reader->Read(&response)) {
  }
  DieUnless(reader->Finish());
}

// Writes a file of `size` bytes with the generated stub.
void PlainWrite(pb::WorkspaceService::Stub& stub, const std::string& project,
                const std::string& path, int64_t size) {
  grpc::ClientContext context;
  pb::WriteArtifactRequest request;
  pb::WriteArtifactResponse response;
  const auto writer = stub.WriteArtifact(&context);
  request.set_project(project);
  request.set_path(path);
  request.set_data(Chunk().substr(0, static_cast<size_t>(size)));
  for (int64_t left = size; left > 0; left -= kChunkBytes) {
    request.set_finish(left <= static_cast<int64_t>(kChunkBytes));
    if (!(request.finish() ? (writer->WriteLast(request, {}), true)
                           : writer->Write(request)))
      break;
  }
  while (writer->Read(&response)) {
  }
  DieUnless(writer->Finish());
}

void PlainUpload(const Job& job) {
  const auto stub = pb::WorkspaceService::NewStub(Connect(job.address));
  PlainWrite(*stub, job.project, "outputs/uploaded.bin", job.number);
}

void PlainSmall(const Job& job) {
  const auto stub = pb::WorkspaceService::NewStub(Connect(job.address));
  for (int64_t i = 0; i < job.number; ++i) {
    PlainWrite(*stub, job.project,
               absl::StrCat("outputs/small/", i % 100, "/", i), kSmallBytes);
  }
}

void Small(const Job& job) {
  for (int64_t i = 0; i < job.number; ++i)
    Upload(job, absl::StrCat("outputs/small/", i % 100, "/", i), kSmallBytes);
}

// Calls `work` with the numbers of 64 files, each on its own thread.
void InParallel(const std::function<void(int)>& work) {
  std::vector<std::thread> threads;
  for (int i = 0; i < kParallel; ++i) threads.emplace_back(work, i);
  for (std::thread& thread : threads) thread.join();
}

std::string ParallelPath(int64_t size, int number) {
  return absl::StrCat("outputs/parallel/", size, "/", number);
}

void ParallelDownload(const Job& job) {
  InParallel([&](int i) { Download(job, ParallelPath(job.number, i)); });
}

void ParallelUpload(const Job& job) {
  InParallel([&](int i) {
    Upload(job, absl::StrCat("outputs/uploaded/", i), job.number / kParallel);
  });
}

void FileUpload(const Job& job, bool by_path) {
  const auto artifact =
      job.client.Upload(job.project, job.rest.at(0), "outputs/uploaded.bin",
                        {.by_path = by_path});
  DieUnless(artifact.status());
  if (artifact->by_path != by_path)
    DieUnless(
        absl::InternalError("the client did not use the requested access"));
}

void FileDownload(const Job& job, bool by_path) {
  const auto artifact = job.client.Download(
      job.project, PathOf(job.number), job.rest.at(0), {.by_path = by_path});
  DieUnless(artifact.status());
  if (artifact->by_path != by_path)
    DieUnless(
        absl::InternalError("the client did not use the requested access"));
}

void Sync(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 || ::fsync(fd) != 0) DieUnless(absl::InternalError("cannot sync"));
  ::close(fd);
}

// Does the work of an upload without its stream: hashes the bytes, writes them
// to a temporary file, syncs it and renames it. Hashes on a second thread, as
// the server does.
void Write(const Job& job, const std::string& path) {
  const std::string draft = absl::StrCat(path, ".draft");
  const int fd =
      ::open(draft.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) DieUnless(absl::InternalError("cannot create a file"));
  std::thread hasher([&] {
    base::Sha256 sha256;
    for (int64_t left = job.number; left > 0; left -= kChunkBytes)
      sha256.Update(Chunk());
    sha256.Finish();
  });
  for (int64_t left = job.number; left > 0; left -= kChunkBytes) {
    if (::write(fd, Chunk().data(), kChunkBytes) != kChunkBytes)
      DieUnless(absl::InternalError("cannot write"));
  }
  if (::fsync(fd) != 0) DieUnless(absl::InternalError("cannot sync"));
  ::close(fd);
  hasher.join();
  if (std::rename(draft.c_str(), path.c_str()) != 0)
    DieUnless(absl::InternalError("cannot rename"));
}

void Copy(const std::string& from, const std::string& to) {
  std::error_code error;
  std::filesystem::copy_file(
      from, to, std::filesystem::copy_options::overwrite_existing, error);
  if (error) DieUnless(absl::InternalError(error.message()));
  Sync(to);
}

void Slow(const Job& job, int64_t size) {
  std::vector<ArtifactReader> readers;
  std::vector<WorkspaceClient> clients;
  for (int64_t i = 0; i < job.number; ++i) {
    auto reader =
        job.client.OpenForRead(job.project, PathOf(size), {.by_path = false});
    DieUnless(reader.status());
    DieUnless(reader->ReadChunk().status());
    readers.push_back(*std::move(reader));
  }
  std::cout << "{}" << std::endl;
  while (std::cin.get() != EOF) {
  }
}

const std::map<std::string, void (*)(const Job&)>& Modes() {
  static const auto& modes = *new std::map<std::string, void (*)(const Job&)>{
      {"plain-download", PlainDownload},
      {"plain-upload", PlainUpload},
      {"download", [](const Job& job) { Download(job, PathOf(job.number)); }},
      {"upload",
       [](const Job& job) { Upload(job, "outputs/uploaded.bin", job.number); }},
      {"file-download",
       [](const Job& job) { FileDownload(job, /*by_path=*/false); }},
      {"file-upload",
       [](const Job& job) { FileUpload(job, /*by_path=*/false); }},
      {"path-download",
       [](const Job& job) {
         FileDownload(job, /*by_path=*/true);
         Sync(job.rest.at(0));
       }},
      {"path-upload",
       [](const Job& job) { FileUpload(job, /*by_path=*/true); }},
      {"write", [](const Job& job) { Write(job, job.rest.at(0)); }},
      {"copy", [](const Job& job) { Copy(job.rest.at(0), job.rest.at(1)); }},
      {"parallel-download", ParallelDownload},
      {"parallel-upload", ParallelUpload},
      {"small", Small},
      {"plain-small", PlainSmall},
  };
  return modes;
}

double CpuSeconds() {
  rusage usage = {};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) +
           1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

int Main(const std::vector<std::string>& arguments) {
  Job job{.address = arguments.at(1),
          .project = arguments.at(2),
          .rest = {arguments.begin() + 4, arguments.end()},
          .client = *WorkspaceClient::Connect({.address = arguments.at(1)})};
  const std::string& mode = arguments.at(0);
  if (!absl::SimpleAtoi(arguments.at(3), &job.number))
    DieUnless(absl::InvalidArgumentError("expected a number"));
  DieUnless(job.client.Ensure(job.project).status());
  if (mode == "slow") {
    int64_t size = 0;
    if (!absl::SimpleAtoi(job.rest.at(0), &size))
      DieUnless(absl::InvalidArgumentError("expected a number"));
    Prepare(job, PathOf(size), size);
    Slow(job, size);
    return 0;
  }
  if (mode == "parallel-download") {
    for (int i = 0; i < kParallel; ++i)
      Prepare(job, ParallelPath(job.number, i), job.number / kParallel);
  } else if (mode.ends_with("download")) {
    Prepare(job, PathOf(job.number), job.number);
  }
  // Generate the data before the clock starts.
  Chunk();
  const double cpu = CpuSeconds();
  const Clock::time_point start = Clock::now();
  Modes().at(mode)(job);
  const double seconds = SecondsSince(start);
  std::cout << nlohmann::json({{"mode", mode},
                               {"number", job.number},
                               {"seconds", seconds},
                               {"cpu_seconds", CpuSeconds() - cpu}})
            << std::endl;
  return 0;
}

}  // namespace
}  // namespace mlops::bench

int main(int argc, char** argv) {
  return mlops::bench::Main({argv + 1, argv + argc});
}
