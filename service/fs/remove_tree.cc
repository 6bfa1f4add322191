#include "service/fs/remove_tree.h"

#include <cerrno>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/id.h"
#include "proto/cpp/base/status_macros.h"

namespace mlops::fs {
namespace {

// Maximum number of directories open at once.
constexpr int kMaxDepth = 16;
// Maximum number of names held for each of them.
constexpr size_t kMaxNames = 256;
constexpr uint32_t kOwnerOnly = 0700;

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

// Returns whether the system refused because of a permission.
bool IsRefused(const absl::Status& status) {
  if (status.ok()) return false;
  const auto info = base::GetErrorInfo(status);
  return info && info->metadata.contains("errno") &&
         info->metadata.at("errno") == absl::StrCat(EACCES);
}

// State of one call of RemoveTree().
class Remover {
 public:
  Remover(Dir& top, int64_t max_entries)
      : top_(top), entries_left_(max_entries) {}

  // Removes the content of `dir`, which is `depth` levels below the top,
  // until it is empty or the budget is used up.
  absl::Status Empty(Dir& dir, int depth) {
    // Read a bounded number of names at a time; removing them may change
    // the order of the rest.
    while (entries_left_ > 0) {
      ASSIGN_OR_RETURN(const std::vector<Entry> entries, SomeEntries(dir));
      if (entries.empty()) return absl::OkStatus();
      for (const Entry& entry : entries) {
        if (entries_left_ <= 0) break;
        absl::Status removed = RemoveEntry(dir, entry, depth);
        // Make a read-only directory writable, or its content would stay
        // forever. Only its owner can do that.
        if (IsRefused(removed) && dir.SetMode(kOwnerOnly).ok())
          removed = RemoveEntry(dir, entry, depth);
        RETURN_IF_ERROR(removed);
      }
    }
    return absl::OkStatus();
  }

  // Removes an entry that is not a directory.
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

  absl::Status RemoveEntry(Dir& dir, const Entry& entry, int depth) {
    return entry.type == EntryType::kDirectory
               ? RemoveSubdir(dir, entry.name, depth)
               : RemoveFile(dir, entry.name);
  }

  absl::Status RemoveSubdir(Dir& dir, const std::string& name, int depth) {
    if (depth == kMaxDepth) {
      // Opening this level too would exceed the limit: move it to the top,
      // where a later round finds it.
      Count();
      return dir.Rename(name, top_, base::RandomId(), RenameMode::kNoReplace);
    }
    ASSIGN_OR_RETURN(const auto subdir, dir.OpenDir(name));
    RETURN_IF_ERROR(Empty(*subdir, depth + 1));
    // The budget ran out inside, so the directory is not empty.
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
  // Another call may have removed it meanwhile.
  if (absl::IsNotFound(top.status())) return RemovedTree{.complete = true};
  RETURN_IF_ERROR(top.status());
  Remover remover(**top, max_entries);
  RETURN_IF_ERROR(remover.Empty(**top, 1));
  RemovedTree result = remover.result();
  // The tree may not be empty yet.
  if (!remover.has_budget()) return result;
  if (absl::Status removed = dir.RemoveDir(path);
      !removed.ok() && !absl::IsNotFound(removed))
    return removed;
  ++result.entry_count;
  result.complete = true;
  return result;
}

}  // namespace mlops::fs
