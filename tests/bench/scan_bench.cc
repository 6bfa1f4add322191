// Compares the scanner with the bare system calls, in interleaved rounds.
//
// Usage:
//   scan_bench make DIR DIRECTORIES FILES
//     Fills DIR with a tree of FILES files in DIRECTORIES directories.
//   scan_bench run DIR ROUNDS
//     Counts the tree in several ways. Prints one JSON object per line for each
//     round and way.
//   scan_bench stream ADDRESS ROUNDS
//     Streams all statuses of a server, with and without sizes.
//
// The bare calls are one openat(2) and close(2) per directory, getdents64(2)
// until the end of the directory, and one statx(2) per file if bytes are
// counted. The entries give the types. The bare calls check, filter and
// remember nothing. They run on as many threads as the scanner, at most two,
// each with half of the top-level directories.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <deque>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "mlops/workspace/v1/workspace_service.grpc.pb.h"
#include "nlohmann/json.hpp"
#include "service/base/thread_pool.h"
#include "service/fs/scan.h"
#include "tests/bench/workload.h"

namespace mlops::bench {
namespace {

namespace pb = mlops::workspace::v1;

// Number of top-level directories, which contain all others.
constexpr size_t kTops = 120;
constexpr int kThreads = 2;

int Make(const std::string& dir, size_t directories, size_t files) {
  const size_t leaves = directories - kTops;
  for (size_t leaf = 0; leaf < leaves; ++leaf) {
    const std::string path =
        absl::StrCat(dir, "/top-", leaf % kTops, "/run-", leaf);
    std::filesystem::create_directories(path);
    for (size_t file = leaf; file < files; file += leaves)
      std::ofstream(absl::StrCat(path, "/part-", file, ".bin")) << "x";
  }
  return 0;
}

struct Sums {
  int64_t files = 0;
  int64_t bytes = 0;
};

// Walks a tree by system calls alone, without checks, errors or limits.
class BareWalk {
 public:
  explicit BareWalk(bool sizes) : sizes_(sizes) {}

  void Walk(int parent, const char* name) {
    const int dir =
        ::openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    std::vector<std::string> below;
    long bytes;
    while ((bytes = ::syscall(SYS_getdents64, dir, buffer_.get(),
                              kBufferBytes)) > 0) {
      for (long at = 0; at < bytes;) {
        const auto* entry =
            reinterpret_cast<const dirent64*>(buffer_.get() + at);
        at += entry->d_reclen;
        if (entry->d_type == DT_REG) AddFile(dir, entry->d_name);
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
          below.emplace_back(entry->d_name);
      }
    }
    for (const std::string& next : below) Walk(dir, next.c_str());
    ::close(dir);
  }

  Sums sums() const { return sums_; }

 private:
  static constexpr size_t kBufferBytes = 64 * 1024;

  void AddFile(int dir, const char* name) {
    ++sums_.files;
    if (!sizes_) return;
    struct statx info;
    ::statx(dir, name, AT_SYMLINK_NOFOLLOW, STATX_SIZE | STATX_MTIME, &info);
    sums_.bytes += static_cast<int64_t>(info.stx_size);
  }

  const bool sizes_;
  Sums sums_;
  const std::unique_ptr<char[]> buffer_ =
      std::make_unique<char[]>(kBufferBytes);
};

Sums Bare(const std::string& dir, bool sizes, int threads) {
  std::vector<std::string> tops;
  for (const auto& entry : std::filesystem::directory_iterator(dir))
    tops.push_back(entry.path());
  // Each thread walks every `threads`th top-level directory.
  std::deque<BareWalk> walks;
  for (int i = 0; i < threads; ++i) walks.emplace_back(sizes);
  base::ParallelFor(static_cast<size_t>(threads), threads, 1,
                    [&](size_t thread) {
                      for (size_t i = thread; i < tops.size();
                           i += static_cast<size_t>(threads)) {
                        walks[thread].Walk(AT_FDCWD, tops[i].c_str());
                      }
                    });
  Sums sums;
  for (const BareWalk& walk : walks) {
    sums.files += walk.sums().files;
    sums.bytes += walk.sums().bytes;
  }
  return sums;
}

// Runs our scanner on one tree.
class Ours {
 public:
  explicit Ours(const std::string& dir) {
    const std::filesystem::path path(dir);
    name_ = path.filename();
    auto parent = fs::OpenBaseDir(path.parent_path());
    DieUnless(parent.status());
    parent_ = *std::move(parent);
  }

  Sums Scan(bool sizes, bool remember, bool alone = false) {
    const fs::ScanOptions options{.counts_only = !sizes,
                                  .helpers = alone ? nullptr : &helpers_,
                                  .known = remember ? &known_ : nullptr};
    const auto usages =
        fs::ScanTree(*parent_, name_, options, [] { return false; });
    DieUnless(usages.status());
    return {.files = usages->at(0).file_count,
            .bytes = usages->at(0).size_bytes};
  }

 private:
  std::string name_;
  std::unique_ptr<fs::Dir> parent_;
  base::ThreadPool helpers_{kThreads - 1, 16};
  fs::KnownTree known_{size_t{64} << 20};
};

struct Way {
  std::string name;
  bool sizes;
  std::function<Sums()> run;
};

int Run(const std::string& dir, int rounds) {
  Ours ours(dir);
  const std::vector<Way> ways = {
      {"bare", false, [&] { return Bare(dir, false, kThreads); }},
      {"ours", false, [&] { return ours.Scan(false, false); }},
      {"bare, one thread", false, [&] { return Bare(dir, false, 1); }},
      {"ours, one thread", false,
       [&] { return ours.Scan(false, false, true); }},
      {"ours, unchanged", false, [&] { return ours.Scan(false, true); }},
      {"bare", true, [&] { return Bare(dir, true, kThreads); }},
      {"ours", true, [&] { return ours.Scan(true, false); }},
  };
  // All ways must count the same.
  const Sums expected = Bare(dir, true, 1);
  // Round -1 warms up, and fills the memory of known trees.
  for (int round = -1; round < rounds; ++round) {
    for (size_t i = 0; i < ways.size(); ++i) {
      const Way& way = ways[(i + static_cast<size_t>(round + 1)) % ways.size()];
      const Clock::time_point start = Clock::now();
      const Sums sums = way.run();
      const double seconds = SecondsSince(start);
      if (sums.files != expected.files ||
          (way.sizes && sums.bytes != expected.bytes)) {
        DieUnless(absl::InternalError(absl::StrCat(
            way.name, " counts ", sums.files, " instead of ", expected.files)));
      }
      if (round < 0) continue;
      std::cout << nlohmann::json{{"what", way.sizes ? "bytes" : "counts"},
                                  {"target", way.name},
                                  {"round", round},
                                  {"seconds", seconds},
                                  {"files", sums.files}}
                << std::endl;
    }
  }
  return 0;
}

int Stream(const std::string& address, int rounds) {
  const auto stub = pb::WorkspaceService::NewStub(Connect(address));
  for (int round = -1; round < rounds; ++round) {
    for (const bool counts_only : {false, true}) {
      pb::StreamWorkspaceStatusesRequest request;
      request.set_counts_only(counts_only);
      const Clock::time_point start = Clock::now();
      grpc::ClientContext context;
      const auto reader = stub->StreamWorkspaceStatuses(&context, request);
      int64_t statuses = 0;
      for (pb::StreamWorkspaceStatusesResponse some; reader->Read(&some);
           statuses += some.statuses_size()) {
        for (const pb::WorkspaceStatus& status : some.statuses()) {
          DieUnless(status.has_error()
                        ? absl::InternalError("a status has an error")
                        : absl::OkStatus());
        }
      }
      DieUnless(reader->Finish());
      if (round < 0) continue;
      std::cout << nlohmann::json{{"what", "statuses"},
                                  {"target",
                                   counts_only ? "counts only" : "with sizes"},
                                  {"round", round},
                                  {"seconds", SecondsSince(start)},
                                  {"statuses", statuses}}
                << std::endl;
    }
  }
  return 0;
}

int Main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  std::array<size_t, 2> numbers = {};
  const bool two = argc == 5 && absl::SimpleAtoi(argv[3], &numbers[0]) &&
                   absl::SimpleAtoi(argv[4], &numbers[1]);
  const bool one = argc == 4 && absl::SimpleAtoi(argv[3], &numbers[0]);
  if (what == "make" && two && numbers[0] > kTops)
    return Make(argv[2], numbers[0], numbers[1]);
  if (what == "run" && one) return Run(argv[2], static_cast<int>(numbers[0]));
  if (what == "stream" && one)
    return Stream(argv[2], static_cast<int>(numbers[0]));
  std::cerr << "usage: scan_bench make DIR DIRECTORIES FILES | run DIR ROUNDS "
               "| stream ADDRESS ROUNDS\n";
  return 2;
}

}  // namespace
}  // namespace mlops::bench

int main(int argc, char** argv) { return mlops::bench::Main(argc, argv); }
