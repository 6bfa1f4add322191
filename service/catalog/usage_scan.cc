#include "service/catalog/usage_scan.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "service/base/status_macros.h"
#include "service/fs/scan.h"

namespace mlops::catalog {
namespace {

absl::StatusOr<core::Usage> Scan(const fs::Dir& base, absl::string_view path, absl::Time now,
                                 core::Cancelled cancelled) {
  core::Usage usage{.scan_time = now};
  for (size_t i = 0; i < core::kDirectories.size(); ++i) {
    const auto tree = fs::ScanTree(base, absl::StrCat(path, "/", core::kDirectories[i]), cancelled);
    if (absl::IsNotFound(tree.status())) continue;
    if (absl::IsCancelled(tree.status())) return tree.status();
    if (!tree.ok()) {
      usage.problem.Update(tree.status());
      continue;
    }
    usage.directories[i] = {.exists = true,
                            .file_count = tree->file_count,
                            .size_bytes = tree->size_bytes,
                            .modify_time = tree->modify_time};
    if (!tree->problems.empty()) usage.problem.Update(tree->problems.front());
  }
  return usage;
}

}  // namespace

core::UsageScanner MakeUsageScanner(std::shared_ptr<const fs::Dir> base, std::string base_path, base::Clock clock) {
  return [base = std::move(base), prefix = absl::StrCat(base_path, "/"), clock = std::move(clock)](
             const core::Workspace& workspace, core::Cancelled cancelled) {
    return Scan(*base, absl::StripPrefix(workspace.root_path, prefix), clock(), cancelled);
  };
}

}  // namespace mlops::catalog
