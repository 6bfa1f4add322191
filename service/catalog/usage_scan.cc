#include "service/catalog/usage_scan.h"

#include <algorithm>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "service/base/status_macros.h"
#include "service/base/thread_pool.h"
#include "service/fs/scan.h"

namespace mlops::catalog {
namespace {

// The threads that help with large trees, whoever scans them.
constexpr int kMaxHelpers = 3;
constexpr size_t kMaxQueuedHelp = 16;

std::shared_ptr<base::ThreadPool> MakeHelpers() {
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  if (cores < 2) return nullptr;
  return std::make_shared<base::ThreadPool>(std::min(cores - 1, kMaxHelpers), kMaxQueuedHelp);
}

core::DirectoryUsage ToUsage(const fs::TreeUsage& tree, absl::Status& problem) {
  if (!tree.problems.empty()) problem.Update(tree.problems.front());
  return {.exists = tree.exists,
          .file_count = tree.file_count,
          .size_bytes = tree.size_bytes,
          .modify_time = tree.modify_time};
}

absl::StatusOr<core::Usage> Scan(const fs::Dir& base, absl::string_view path, const fs::ScanOptions& options,
                                 core::Cancelled cancelled) {
  ASSIGN_OR_RETURN(const std::vector<fs::TreeUsage> trees, fs::ScanTree(base, path, options, cancelled));
  core::Usage usage{.scan_time = options.now};
  for (size_t i = 0; i < core::kDirectories.size(); ++i) usage.directories[i] = ToUsage(trees[i], usage.problem);
  usage.others = ToUsage(trees.back(), usage.problem);
  return usage;
}

}  // namespace

core::UsageScanner MakeUsageScanner(std::shared_ptr<const fs::Dir> base, std::string base_path, base::Clock clock) {
  return [base = std::move(base), prefix = absl::StrCat(base_path, "/"), clock = std::move(clock),
          helpers = MakeHelpers()](const core::Workspace& workspace, core::Cancelled cancelled) {
    const fs::ScanOptions options{.groups = core::kDirectories, .helpers = helpers.get(), .now = clock()};
    return Scan(*base, absl::StripPrefix(workspace.root_path, prefix), options, cancelled);
  };
}

}  // namespace mlops::catalog
