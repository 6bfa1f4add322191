#include "service/catalog/usage_scan.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "service/base/status_macros.h"
#include "service/fs/scan.h"

namespace mlops::catalog {
namespace {

// Adds the tree `path` to `usage`; what cannot be counted becomes `problem`.
absl::Status AddTree(const fs::Dir& base, absl::string_view path, core::Cancelled cancelled,
                     core::DirectoryUsage& usage, absl::Status& problem) {
  const auto tree = fs::ScanTree(base, path, cancelled);
  if (absl::IsCancelled(tree.status())) return tree.status();
  if (absl::IsNotFound(tree.status())) return absl::OkStatus();
  if (!tree.ok()) {
    problem.Update(tree.status());
    return absl::OkStatus();
  }
  usage.exists = true;
  usage.file_count += tree->file_count;
  usage.size_bytes += tree->size_bytes;
  usage.modify_time = std::max(usage.modify_time, tree->modify_time);
  if (!tree->problems.empty()) problem.Update(tree->problems.front());
  return absl::OkStatus();
}

bool IsDirectoryOfWorkspace(absl::string_view name) {
  return std::find(core::kDirectories.begin(), core::kDirectories.end(), name) != core::kDirectories.end();
}

// Counts what lies beside the five directories.
absl::Status AddOthers(const fs::Dir& base, absl::string_view path, core::Cancelled cancelled, core::Usage& usage) {
  const auto root = base.OpenDir(path);
  if (!root.ok()) return absl::IsNotFound(root.status()) ? absl::OkStatus() : root.status();
  std::vector<std::string> subdirectories;
  RETURN_IF_ERROR((*root)->ForEachEntry([&](absl::string_view name, fs::EntryType type) {
    if (type == fs::EntryType::kDirectory && !IsDirectoryOfWorkspace(name)) subdirectories.emplace_back(name);
    if (type != fs::EntryType::kFile) return true;
    const auto stamp = (*root)->Stat(name);
    if (!stamp.ok()) return true;  // It vanished meanwhile.
    ++usage.others.file_count;
    usage.others.size_bytes += stamp->size_bytes;
    return true;
  }));
  for (const std::string& name : subdirectories) {
    RETURN_IF_ERROR(AddTree(**root, name, cancelled, usage.others, usage.problem));
  }
  return absl::OkStatus();
}

absl::StatusOr<core::Usage> Scan(const fs::Dir& base, absl::string_view path, absl::Time now,
                                 core::Cancelled cancelled) {
  core::Usage usage{.scan_time = now};
  for (size_t i = 0; i < core::kDirectories.size(); ++i) {
    RETURN_IF_ERROR(
        AddTree(base, absl::StrCat(path, "/", core::kDirectories[i]), cancelled, usage.directories[i], usage.problem));
  }
  const absl::Status others = AddOthers(base, path, cancelled, usage);
  if (absl::IsCancelled(others)) return others;
  usage.problem.Update(others);
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
