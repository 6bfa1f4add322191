#include "service/artifacts/copy_tree.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/cpp/base/status_macros.h"
#include "service/artifacts/consistent_copy.h"
#include "service/artifacts/relative_path.h"
#include "service/core/errors.h"

namespace mlops::artifacts {
namespace {

// Bytes copied between two polls of `cancelled`.
constexpr int64_t kCopyStep = int64_t{8} << 20;

class TreeCopier {
 public:
  TreeCopier(const TreeCopy& copy, core::Cancelled cancelled,
             absl::FunctionRef<void(const CopyProgress&)> report)
      : copy_(copy), cancelled_(cancelled), report_(report) {}

  absl::StatusOr<CopyProgress> Run() {
    for (const std::string& name : copy_.directories) {
      RETURN_IF_ERROR(EnterDir(name));
      while (!levels_.empty()) RETURN_IF_ERROR(CopyLevel());
    }
    return progress_;
  }

 private:
  struct Entry {
    std::string name;
    fs::EntryType type;
  };
  // A directory that is being copied.
  struct Level {
    // Relative to the workspace.
    std::string path;
    // Entries still to copy; the last one is next.
    std::vector<Entry> left;
  };
  // The directories of the innermost level. The others are reopened by path,
  // so that a deep tree does not exhaust the descriptors.
  struct Open {
    std::unique_ptr<fs::Dir> from, to;
  };

  absl::Status CheckWanted() {
    return cancelled_() ? absl::CancelledError("the call was cancelled")
                        : absl::OkStatus();
  }

  absl::StatusOr<Open> OpenLevel(const std::string& path) {
    Open open;
    ASSIGN_OR_RETURN(open.from, copy_.from.OpenDir(path));
    ASSIGN_OR_RETURN(open.to, copy_.to.root().OpenDir(path));
    return open;
  }

  // Begins to copy a directory. No-op if it has vanished.
  absl::Status EnterDir(const std::string& path) {
    auto from = copy_.from.OpenDir(path);
    if (absl::IsNotFound(from.status())) return absl::OkStatus();
    RETURN_IF_ERROR(from.status());
    Level level{.path = path};
    RETURN_IF_ERROR(
        (*from)->ForEachEntry([&](absl::string_view name, fs::EntryType type) {
          level.left.push_back({std::string(name), type});
          return true;
        }));
    RETURN_IF_ERROR(copy_.to.root().MakeDir(path));
    levels_.push_back(std::move(level));
    return absl::OkStatus();
  }

  // Copies entries of the innermost level up to the next directory, or leaves
  // the level if it has no more.
  absl::Status CopyLevel() {
    const std::string path = levels_.back().path;
    absl::StatusOr<Open> open = OpenLevel(path);
    if (absl::IsNotFound(open.status())) {
      // It vanished after it was entered.
      levels_.pop_back();
      return absl::OkStatus();
    }
    RETURN_IF_ERROR(open.status());
    while (!levels_.back().left.empty()) {
      RETURN_IF_ERROR(CheckWanted());
      const Entry entry = std::move(levels_.back().left.back());
      levels_.back().left.pop_back();
      const std::string entry_path = absl::StrCat(path, "/", entry.name);
      if (entry.type == fs::EntryType::kDirectory) return EnterDir(entry_path);
      absl::Status copied = CopyEntry(*open, entry, entry_path);
      if (!copied.ok() && !absl::IsNotFound(copied)) return copied;
    }
    // Set the time last, because each new entry changes it.
    ASSIGN_OR_RETURN(const fs::FileStamp stamp, open->from->StatSelf());
    RETURN_IF_ERROR(open->to->TakeAccess(*open->from));
    RETURN_IF_ERROR(open->to->SetModifyTime(stamp.modify_time));
    levels_.pop_back();
    return absl::OkStatus();
  }

  absl::Status CopyEntry(const Open& open, const Entry& entry,
                         const std::string& path) {
    switch (entry.type) {
      case fs::EntryType::kFile:
        return CopyFile(open, entry.name, path);
      case fs::EntryType::kSymlink: {
        ASSIGN_OR_RETURN(const auto target, open.from->ReadLink(entry.name));
        // Something else has replaced the link: omit it, like an entry
        // that vanished.
        if (!target) return absl::NotFoundError(path);
        return open.to->MakeSymlink(entry.name, *target);
      }
      case fs::EntryType::kDirectory:
      case fs::EntryType::kOther:
        break;
    }
    return core::PathUnsuitable(copy_.project.str(), ShowPath(path),
                                "is a device, FIFO or socket, which cannot be "
                                "copied: remove it first");
  }

  absl::Status CopyFile(const Open& open, const std::string& name,
                        const std::string& path) {
    // It is copied together with its database.
    if (BelongsToDatabase(*open.from, name)) return absl::OkStatus();
    const CopyProgress before = progress_;
    std::vector<std::string> made;
    const auto begin_anew = [&]() -> absl::Status {
      for (const std::string& part : std::exchange(made, {}))
        RETURN_IF_ERROR(open.to->RemoveFile(part));
      progress_ = before;
      return absl::OkStatus();
    };
    absl::Status copied = ReadConsistently(
        *open.from, name, copy_.project.str(), ShowPath(path), cancelled_,
        [&](const StableFile& file) -> absl::Status {
          // Remove what an earlier, inconsistent attempt has left.
          RETURN_IF_ERROR(begin_anew());
          for (const StableFile::Part& part : file.parts()) {
            made.push_back(part.name);
            RETURN_IF_ERROR(CopyPart(*open.to, part));
          }
          return absl::OkStatus();
        });
    // The file vanished after an attempt, so omit it.
    if (absl::IsNotFound(copied)) RETURN_IF_ERROR(begin_anew());
    return copied;
  }

  absl::Status CopyPart(fs::Dir& to, const StableFile::Part& part) {
    ASSIGN_OR_RETURN(auto target, to.CreateFile(part.name));
    // Stop at the size at which the file was opened: a file that grew is copied
    // again anyway, and the transactions that a log holds now are enough.
    int64_t offset = 0;
    while (offset < part.stamp.size_bytes) {
      const int64_t wanted =
          std::min(kCopyStep, part.stamp.size_bytes - offset);
      ASSIGN_OR_RETURN(const int64_t copied,
                       target->CopyFrom(*part.reader, offset, wanted));
      offset += copied;
      progress_.size_bytes += copied;
      if (copied < wanted) break;
      report_(progress_);
      RETURN_IF_ERROR(CheckWanted());
    }
    ++progress_.file_count;
    RETURN_IF_ERROR(target->TakeAccess(*part.reader));
    RETURN_IF_ERROR(target->SetModifyTime(part.stamp.modify_time));
    RETURN_IF_ERROR(copy_.to.Finish(std::move(target)));
    report_(progress_);
    return absl::OkStatus();
  }

  const TreeCopy& copy_;
  const core::Cancelled cancelled_;
  const absl::FunctionRef<void(const CopyProgress&)> report_;
  CopyProgress progress_;
  std::vector<Level> levels_;
};

}  // namespace

absl::StatusOr<CopyProgress> CopyTree(
    const TreeCopy& copy, core::Cancelled cancelled,
    absl::FunctionRef<void(const CopyProgress&)> report) {
  return TreeCopier(copy, cancelled, report).Run();
}

}  // namespace mlops::artifacts
