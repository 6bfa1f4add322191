#include "service/fs/remove_tree.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "proto/cpp/base/id.h"
#include "proto/cpp/base/status_macros.h"

namespace mlops::fs {
namespace {

constexpr int kMaxDepth = 16;      // Directories open at once.
constexpr size_t kMaxNames = 256;  // Names held for each of them.

struct Entry {
  std::string name;
  EntryType type;
};

absl::StatusOr<std::vector<Entry>> SomeEntries(const Dir& dir) {
  std::vector<Entry> entries;
  RETURN_IF_ERROR(
      dir.ForEachEntry([&entries](absl::string_view name, EntryType type) {
        entries.push_back({.name = std::string(name), .type = type});
        return entries.size() < kMaxNames;
      }));
  return entries;
}

// One call of RemoveTree.
class Remover {
 public:
  Remover(Dir& top, int64_t max_entries)
      : top_(top), entries_left_(max_entries) {}

  // Removes what is in `dir`, `depth` levels below the top, until nothing is
  // left or the budget is used up.
  absl::Status Empty(Dir& dir, int depth) {
    while (entries_left_ > 0) {
      ASSIGN_OR_RETURN(const std::vector<Entry> entries, SomeEntries(dir));
      if (entries.empty()) return absl::OkStatus();
      for (const Entry& entry : entries) {
        if (entries_left_ <= 0) break;
        RETURN_IF_ERROR(entry.type == EntryType::kDirectory
                            ? RemoveSubdir(dir, entry.name, depth)
                            : RemoveFile(dir, entry.name));
      }
    }
    return absl::OkStatus();
  }

  // Removes what is no directory.
  absl::Status RemoveFile(Dir& dir, const std::string& name) {
    const auto stamp = dir.Stat(name);
    Count();
    absl::Status removed = dir.RemoveFile(name);
    if (absl::IsNotFound(removed)) return absl::OkStatus();
    RETURN_IF_ERROR(removed);
    if (stamp.ok() && stamp->type == EntryType::kFile) {
      ++result_.file_count;
      result_.size_bytes += stamp->size_bytes;
    }
    return absl::OkStatus();
  }

  bool has_budget() const { return entries_left_ > 0; }
  RemovedTree result() const { return result_; }

 private:
  void Count() {
    --entries_left_;
    ++result_.entry_count;
  }

  absl::Status RemoveSubdir(Dir& dir, const std::string& name, int depth) {
    if (depth == kMaxDepth) {
      // Too deep to hold it open as well: it is moved to the top, where it is
      // found again.
      Count();
      return dir.Rename(name, top_, base::RandomId(), RenameMode::kNoReplace);
    }
    ASSIGN_OR_RETURN(const auto subdir, dir.OpenDir(name));
    RETURN_IF_ERROR(Empty(*subdir, depth + 1));
    if (entries_left_ <= 0) return absl::OkStatus();
    Count();
    return dir.RemoveDir(name);
  }

  Dir& top_;
  int64_t entries_left_;
  RemovedTree result_;
};

}  // namespace

absl::StatusOr<RemovedTree> RemoveTree(Dir& dir, absl::string_view path,
                                       int64_t max_entries) {
  const auto stamp = dir.Stat(path);
  if (absl::IsNotFound(stamp.status())) return RemovedTree{.complete = true};
  RETURN_IF_ERROR(stamp.status());
  if (stamp->type != EntryType::kDirectory) {
    Remover remover(dir, max_entries);
    RETURN_IF_ERROR(remover.RemoveFile(dir, std::string(path)));
    RemovedTree result = remover.result();
    result.complete = true;
    return result;
  }
  const auto top = dir.OpenDir(path);
  if (absl::IsNotFound(top.status())) return RemovedTree{.complete = true};
  RETURN_IF_ERROR(top.status());
  Remover remover(**top, max_entries);
  RETURN_IF_ERROR(remover.Empty(**top, 1));
  RemovedTree result = remover.result();
  if (!remover.has_budget()) return result;
  if (absl::Status removed = dir.RemoveDir(path);
      !removed.ok() && !absl::IsNotFound(removed))
    return removed;
  ++result.entry_count;
  result.complete = true;
  return result;
}

}  // namespace mlops::fs
