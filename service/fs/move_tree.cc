#include "service/fs/move_tree.h"

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/status_macros.h"
#include "service/fs/remove_tree.h"

namespace mlops::fs {
namespace {

// Bounds the recursion and the open descriptors: two per level.
constexpr int kMaxDepth = 200;
constexpr int kMergeTries = 3;
constexpr int64_t kRemoveStep = 10'000;

struct Names {
  std::vector<std::string> directories;
  std::vector<std::string> others;
};

// Reads all names before anything is linked or removed, because both may change
// what a directory that is being read returns.
absl::StatusOr<Names> ReadNames(const Dir& dir) {
  Names names;
  RETURN_IF_ERROR(
      dir.ForEachEntry([&names](absl::string_view name, EntryType type) {
        (type == EntryType::kDirectory ? names.directories : names.others)
            .emplace_back(name);
        return true;
      }));
  return names;
}

absl::Status TooDeep(absl::string_view name) {
  const std::string problem = absl::StrCat(
      "is more than ", kMaxDepth, " directories deep, and cannot be renamed");
  return base::MakeError(
      absl::StatusCode::kFailedPrecondition,
      absl::StrCat(base::Echo(name), ": ", problem),
      {.reason = "PATH_UNSUITABLE",
       .metadata = {{"path", std::string(name)}, {"problem", problem}}});
}

// Builds in `to` the directories of `from`, with a hard link to each file.
absl::Status Link(Dir& from, Dir& to, int depth) {
  ASSIGN_OR_RETURN(const Names names, ReadNames(from));
  for (const std::string& name : names.others) {
    // An entry that has vanished need not be moved.
    if (absl::Status linked = from.Link(name, to, name);
        !linked.ok() && !absl::IsNotFound(linked))
      return linked;
  }
  for (const std::string& name : names.directories) {
    if (depth == kMaxDepth) return TooDeep(name);
    const auto source = from.OpenDir(name);
    if (absl::IsNotFound(source.status())) continue;
    RETURN_IF_ERROR(source.status());
    RETURN_IF_ERROR(to.MakeDirLike(name, **source));
    ASSIGN_OR_RETURN(const auto target, to.OpenDir(name));
    RETURN_IF_ERROR(Link(**source, *target, depth + 1));
  }
  return to.Sync();
}

// Removes the name `name` from `from`. If the file is not in `to` yet,
// moves it there.
absl::Status MergeFile(Dir& from, Dir& to, absl::string_view name) {
  const auto source = from.Stat(name);
  if (absl::IsNotFound(source.status())) return absl::OkStatus();
  RETURN_IF_ERROR(source.status());
  const auto target = to.Stat(name);
  const bool same = target.ok() && target->inode == source->inode &&
                    target->device == source->device;
  if (!same) RETURN_IF_ERROR(from.Rename(name, to, name, RenameMode::kReplace));
  // rename(2) does nothing if both names belong to the same file,
  // so remove the old one.
  absl::Status removed = from.RemoveFile(name);
  return absl::IsNotFound(removed) ? absl::OkStatus() : removed;
}

absl::Status Merge(Dir& from, Dir& to, int depth);

absl::Status MergeDir(Dir& from, Dir& to, absl::string_view name, int depth) {
  if (depth == kMaxDepth) return TooDeep(name);
  const auto source = from.OpenDir(name);
  if (absl::IsNotFound(source.status())) return absl::OkStatus();
  RETURN_IF_ERROR(source.status());
  // The new tree already has the directory, unless it was created meanwhile.
  if (absl::Status made = to.MakeDirLike(name, **source);
      !made.ok() && !absl::IsAlreadyExists(made))
    return made;
  ASSIGN_OR_RETURN(const auto target, to.OpenDir(name));
  RETURN_IF_ERROR(Merge(**source, *target, depth + 1));
  return from.RemoveDir(name);
}

// Moves the content of `from` to `to` until `from` is empty.
absl::Status Merge(Dir& from, Dir& to, int depth) {
  ASSIGN_OR_RETURN(const Names names, ReadNames(from));
  for (const std::string& name : names.others)
    RETURN_IF_ERROR(MergeFile(from, to, name));
  // Sync the files' new names before removing the directories they were in.
  if (!names.others.empty()) RETURN_IF_ERROR(to.Sync());
  for (const std::string& name : names.directories)
    RETURN_IF_ERROR(MergeDir(from, to, name, depth));
  return absl::OkStatus();
}

absl::Status RemoveOld(const TreeMove& move) {
  const auto source = move.from.OpenDir(move.name);
  if (absl::IsNotFound(source.status())) return absl::OkStatus();
  RETURN_IF_ERROR(source.status());
  ASSIGN_OR_RETURN(const auto target, move.to.OpenDir(move.to_name));
  // Durably remove this file before any other, so that a crash never leaves
  // it in an incomplete old tree.
  if (!move.first.empty()) {
    RETURN_IF_ERROR(MergeFile(**source, *target, move.first));
    RETURN_IF_ERROR((*source)->Sync());
  }
  // Repeat if someone adds an entry to a directory that is about to be removed.
  absl::Status removed;
  for (int i = 0; i < kMergeTries; ++i) {
    removed = Merge(**source, *target, 1);
    if (removed.ok()) removed = move.from.RemoveDir(move.name);
    if (!absl::IsAlreadyExists(removed)) break;
  }
  return removed;
}

absl::Status MakeNew(const TreeMove& move) {
  ASSIGN_OR_RETURN(const auto source, move.from.OpenDir(move.name));
  RETURN_IF_ERROR(move.staging.MakeDirLike(move.staging_name, *source));
  // Build the tree under a hidden name, so that it appears whole or not at all.
  ASSIGN_OR_RETURN(const auto staged, move.staging.OpenDir(move.staging_name));
  RETURN_IF_ERROR(Link(*source, *staged, 1));
  return move.staging.Rename(move.staging_name, move.to, move.to_name,
                             move.mode);
}

}  // namespace

absl::Status MoveTree(const TreeMove& move,
                      absl::FunctionRef<absl::Status()> sync) {
  if (absl::Status made = MakeNew(move); !made.ok()) {
    // The owner of the staging directory sweeps whatever is left.
    RemoveTree(move.staging, move.staging_name, kRemoveStep)
        .status()
        .IgnoreError();
    return made;
  }
  RETURN_IF_ERROR(sync());
  return RemoveOld(move);
}

}  // namespace mlops::fs
