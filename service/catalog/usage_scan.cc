#include "service/catalog/usage_scan.h"

#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/mutex.h"
#include "proto/cpp/base/status_macros.h"
#include "service/base/lru_map.h"
#include "service/base/thread_pool.h"
#include "service/fs/scan.h"

namespace mlops::catalog {
namespace {

// Threads that help with large trees, shared by all scans.
constexpr int kMaxHelpers = 3;
constexpr size_t kMaxQueuedHelp = 16;
// Memory for the file counts per directory: enough for about 600,000
// directories.
constexpr size_t kMaxKnownBytes = size_t{64} << 20;

std::unique_ptr<base::ThreadPool> MakeHelpers() {
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  if (cores < 2) return nullptr;
  return std::make_unique<base::ThreadPool>(std::min(cores - 1, kMaxHelpers),
                                            kMaxQueuedHelp);
}

core::DirectoryUsage ToUsage(const fs::TreeUsage& tree, absl::Status& problem) {
  if (!tree.problems.empty()) problem.Update(tree.problems.front());
  return {.exists = tree.exists,
          .file_count = tree.file_count,
          .size_bytes = tree.size_bytes,
          .modify_time = tree.modify_time};
}

// Scans workspaces below one base directory. Thread-safe.
class Scanner {
 public:
  Scanner(std::shared_ptr<const fs::Dir> base, const std::string& base_path,
          base::Clock clock)
      : base_(std::move(base)),
        prefix_(absl::StrCat(base_path, "/")),
        clock_(std::move(clock)) {}

  absl::StatusOr<core::Usage> Scan(const core::Workspace& workspace,
                                   bool counts_only,
                                   core::Cancelled cancelled) {
    fs::ScanOptions options{.groups = core::kDirectories,
                            .counts_only = counts_only,
                            .helpers = helpers_.get(),
                            .now = clock_()};
    // Take the remembered counts out of the map, so that no other scan uses
    // them at the same time.
    std::unique_ptr<fs::KnownTree> known = TakeKnown(workspace.root_path);
    options.known = known.get();
    const absl::string_view path =
        absl::StripPrefix(workspace.root_path, prefix_);
    const auto trees = fs::ScanTree(*base_, path, options, cancelled);
    // The counts that a cancelled scan has collected are valid too.
    if (!absl::IsNotFound(trees.status()))
      Keep(workspace.root_path, std::move(known));
    RETURN_IF_ERROR(trees.status());
    core::Usage usage{.counts_only = counts_only, .scan_time = options.now};
    for (size_t i = 0; i < core::kDirectories.size(); ++i)
      usage.directories[i] = ToUsage((*trees)[i], usage.problem);
    usage.others = ToUsage(trees->back(), usage.problem);
    return usage;
  }

 private:
  // Takes the remembered counts of the tree at `root_path`. Starts with none
  // if another scan is using them.
  std::unique_ptr<fs::KnownTree> TakeKnown(const std::string& root_path) {
    absl::MutexLock lock(&mutex_);
    auto known = known_.Take(root_path);
    return known.has_value() ? *std::move(known)
                             : std::make_unique<fs::KnownTree>(kMaxKnownBytes);
  }

  void Keep(const std::string& root_path,
            std::unique_ptr<fs::KnownTree> known) {
    const size_t bytes = sizeof(fs::KnownTree) + known->bytes;
    absl::MutexLock lock(&mutex_);
    known_.Put(root_path, std::move(known), bytes);
  }

  const std::shared_ptr<const fs::Dir> base_;
  const std::string prefix_;
  const base::Clock clock_;
  const std::unique_ptr<base::ThreadPool> helpers_ = MakeHelpers();
  absl::Mutex mutex_;
  base::LruMap<std::unique_ptr<fs::KnownTree>> known_ ABSL_GUARDED_BY(mutex_){
      kMaxKnownBytes};
};

}  // namespace

core::UsageScanner MakeUsageScanner(std::shared_ptr<const fs::Dir> base,
                                    std::string base_path, base::Clock clock) {
  return [scanner = std::make_shared<Scanner>(std::move(base), base_path,
                                              std::move(clock))](
             const core::Workspace& workspace, bool counts_only,
             core::Cancelled cancelled) {
    return scanner->Scan(workspace, counts_only, cancelled);
  };
}

}  // namespace mlops::catalog
