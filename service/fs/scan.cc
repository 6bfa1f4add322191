#include "service/fs/scan.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "service/base/status_macros.h"

namespace mlops::fs {
namespace {

constexpr size_t kMaxProblems = 10;
// Well below the length of path that a system call takes.
constexpr size_t kMaxPathBytes = 2048;

// A directory still to be read: by its path from an open one. Holding paths instead of descriptors bounds the latter;
// a new anchor is opened where a path would become too long.
struct Pending {
  std::shared_ptr<const Dir> anchor;
  std::string path;
};

class Scanner {
 public:
  explicit Scanner(uint64_t device) : device_(device) {}

  // Counts what is in `dir`; its directories are added to `pending`.
  absl::Status Read(const Dir& dir, const Pending& place, std::vector<Pending>& pending) {
    ASSIGN_OR_RETURN(const FileStamp self, dir.StatSelf());
    if (self.device != device_) return absl::OkStatus();
    usage_.modify_time = std::max(usage_.modify_time, self.modify_time);
    return dir.ForEachEntry([&](absl::string_view name, EntryType type) {
      if (type == EntryType::kDirectory) {
        pending.push_back({.anchor = place.anchor,
                           .path = place.path.empty() ? std::string(name) : absl::StrCat(place.path, "/", name)});
      } else if (type == EntryType::kFile) {
        CountFile(dir.Stat(name));
      }
      return true;
    });
  }

  void AddProblem(absl::Status problem) {
    if (usage_.problems.size() < kMaxProblems) usage_.problems.push_back(std::move(problem));
  }

  TreeUsage usage() && { return std::move(usage_); }

 private:
  void CountFile(const absl::StatusOr<FileStamp>& stamp) {
    if (absl::IsNotFound(stamp.status())) return;
    if (!stamp.ok()) return AddProblem(stamp.status());
    ++usage_.file_count;
    usage_.size_bytes += stamp->size_bytes;
    usage_.modify_time = std::max(usage_.modify_time, stamp->modify_time);
  }

  const uint64_t device_;
  TreeUsage usage_;
};

}  // namespace

absl::StatusOr<TreeUsage> ScanTree(const Dir& dir, absl::string_view path, absl::FunctionRef<bool()> cancelled) {
  ASSIGN_OR_RETURN(std::shared_ptr<const Dir> top, dir.OpenDir(path));
  ASSIGN_OR_RETURN(const FileStamp stamp, top->StatSelf());
  Scanner scanner(stamp.device);
  std::vector<Pending> pending;
  RETURN_IF_ERROR(scanner.Read(*top, {.anchor = top}, pending));
  while (!pending.empty()) {
    if (cancelled()) return absl::CancelledError("nobody waits for this scan any more");
    Pending next = std::move(pending.back());
    pending.pop_back();
    absl::StatusOr<std::shared_ptr<const Dir>> opened = next.anchor->OpenDir(next.path);
    if (absl::IsNotFound(opened.status())) continue;  // It vanished meanwhile.
    if (!opened.ok()) {
      scanner.AddProblem(opened.status());
      continue;
    }
    if (next.path.size() > kMaxPathBytes) next = {.anchor = *opened};
    if (absl::Status read = scanner.Read(**opened, next, pending); !read.ok()) scanner.AddProblem(std::move(read));
  }
  return std::move(scanner).usage();
}

}  // namespace mlops::fs
