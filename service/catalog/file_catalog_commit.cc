// Writing. Each sequence of steps leaves either the complete old state or the
// complete new one, wherever a crash interrupts it.
#include <algorithm>
#include <limits>
#include <memory>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/id.h"
#include "proto/cpp/base/status_macros.h"
#include "service/catalog/file_catalog.h"
#include "service/core/errors.h"
#include "service/core/iso_time.h"
#include "service/core/workspace_yaml.h"
#include "service/fs/atomic_file.h"
#include "service/fs/move_tree.h"
#include "service/fs/remove_tree.h"

namespace mlops::catalog {

using core::CommitResult;
using core::ProjectName;
using core::Workspace;
using core::WorkspacePtr;
using core::layout::FormatHiddenName;
using core::layout::FormatTrashName;
using core::layout::IsHiddenName;
using core::layout::kRecord;

namespace {

// Entries removed per step when the caller does not poll.
constexpr int64_t kRemoveStep = 10'000;
// Entries removed between two polls of `cancelled`.
constexpr int64_t kPurgeStep = 1'000;
// For Forget(): removes the entry even if another thread has just stored it.
constexpr uint64_t kWhateverVersion = std::numeric_limits<uint64_t>::max();

// Returns a new name in the trash for a workspace to be removed. The uid in it
// is random, not the workspace's, so that names never collide.
std::string DoomedName(const ProjectName& project) {
  return FormatTrashName({.delete_time = absl::UnixEpoch(),
                          .uid = base::RandomId(),
                          .project = project});
}

// Returns the name of a deleted workspace's directory in PlaceOf(). Takes it
// from the path instead of formatting it again, because an earlier release may
// have chosen another format.
std::string TrashNameOf(const Workspace& deleted) {
  return deleted.root_path.substr(deleted.root_path.rfind('/') + 1);
}

// Removes the temporary records that interrupted updates left in `dir`.
absl::Status RemoveLeftovers(fs::Dir& dir) {
  // Collect the names first, because removing entries disturbs the listing.
  std::vector<std::string> leftovers;
  RETURN_IF_ERROR(
      dir.ForEachEntry([&leftovers](absl::string_view name, fs::EntryType) {
        if (core::layout::IsRecordTempFile(name)) leftovers.emplace_back(name);
        return true;
      }));
  for (const std::string& name : leftovers) dir.RemoveFile(name).IgnoreError();
  return absl::OkStatus();
}

// Removes about `max_entries` entries below `dir`, but not `dir` itself.
absl::StatusOr<fs::RemovedTree> RemoveSome(fs::Dir& dir, int64_t max_entries) {
  std::vector<std::string> names;
  RETURN_IF_ERROR(dir.ForEachEntry([&](absl::string_view name, fs::EntryType) {
    names.emplace_back(name);
    return names.size() < static_cast<size_t>(max_entries);
  }));
  fs::RemovedTree all;
  for (const std::string& name : names) {
    if (all.entry_count >= max_entries) break;
    ASSIGN_OR_RETURN(const fs::RemovedTree one,
                     fs::RemoveTree(dir, name, max_entries - all.entry_count));
    all.file_count += one.file_count;
    all.size_bytes += one.size_bytes;
    all.entry_count += one.entry_count;
  }
  return all;
}

// Renames a directory to a name that must not exist yet. A file system may
// report a failure although the rename succeeded (NFS, when the reply is lost),
// so look where the directory is.
absl::Status RenameDir(fs::Dir& from, absl::string_view name, const fs::Dir& to,
                       absl::string_view to_name) {
  absl::Status renamed =
      from.Rename(name, to, to_name, fs::RenameMode::kNoReplace);
  if (renamed.ok() || absl::IsAlreadyExists(renamed) ||
      absl::IsNotFound(renamed))
    return renamed;
  if (absl::IsNotFound(from.Stat(name).status()) && to.Stat(to_name).ok())
    return absl::OkStatus();
  return renamed;
}

const ProjectName& ProjectOf(const core::Change& change) {
  return std::visit(
      [](const auto& what) -> const ProjectName& {
        if constexpr (requires { what.workspace; }) {
          return what.workspace.project;
        } else {
          return what.project;
        }
      },
      change);
}

}  // namespace

absl::StatusOr<CommitResult> FileCatalog::Commit(const core::Change& change) {
  RETURN_IF_ERROR(options_.health->Check());
  // A full disk still permits changes that need no new directory, such as a
  // deletion.
  if (absl::Status made = MakeServerDirs();
      !made.ok() && !absl::IsResourceExhausted(made))
    return made;
  auto result =
      std::visit([this](const auto& what) { return Apply(what); }, change);
  if (result.ok() || !base::GetReason(result.status()).empty() ||
      absl::IsCancelled(result.status()))
    return result;
  // An error without a reason comes straight from the file system: someone
  // removed or created an entry by hand between two steps.
  const std::string& project = ProjectOf(change).str();
  if (absl::IsNotFound(result.status()))
    return core::WorkspaceNotFound(project);
  return core::WorkspaceBusy(project, "a change by hand");
}

absl::Status FileCatalog::Move(fs::Dir& from, absl::string_view name,
                               fs::Dir& to, absl::string_view to_name) {
  absl::Status renamed = RenameDir(from, name, to, to_name);
  if (!fs::IsCrossDevice(renamed)) return renamed;
  RETURN_IF_ERROR(MakeServerDirs());
  // Remove the record from the old place before the other files, so that no one
  // ever sees half a workspace there.
  return fs::MoveTree({.from = from,
                       .name = std::string(name),
                       .to = to,
                       .to_name = std::string(to_name),
                       .staging = *staging_,
                       .staging_name = base::RandomId(),
                       .first = std::string(kRecord)},
                      [&] { return SyncOrFail(to); });
}

// --- Create: stage everything, then rename once ---

absl::StatusOr<CommitResult> FileCatalog::Apply(
    const core::CreateChange& change) {
  RETURN_IF_ERROR(MakeServerDirs());
  const ProjectName& project = change.workspace.project;
  const std::string record = core::EncodeWorkspace(change.workspace);
  const bool filled = !change.staged.empty();
  const std::string id = filled ? change.staged : base::RandomId();
  absl::Status status = StageWorkspace(id, filled, record);
  if (status.ok()) status = PlaceStaged(id, filled, project, record);
  if (!status.ok()) {
    // Remove what was staged of the failed workspace. The next start sweeps
    // whatever cannot be removed now. A filled directory belongs to the caller.
    if (!filled)
      fs::RemoveTree(*staging_, id, kRemoveStep).status().IgnoreError();
    return status;
  }
  return CommitResult{.workspace = PublishWritten(change.workspace, record)};
}

absl::Status FileCatalog::StageWorkspace(absl::string_view id, bool filled,
                                         absl::string_view record) {
  if (!filled) RETURN_IF_ERROR(staging_->MakeDir(id));
  ASSIGN_OR_RETURN(auto dir, staging_->OpenDir(id));
  // Only a filled directory may already have some of the five.
  for (absl::string_view name : core::kDirectories) {
    if (absl::Status made = dir->MakeDir(name);
        !made.ok() && !(filled && absl::IsAlreadyExists(made)))
      return made;
  }
  RETURN_IF_ERROR(fs::WriteNewFile(*dir, kRecord, record));
  // Sync before the rename, so that a crash never leaves half a workspace under
  // the final name. A failure here concerns only this request, because nothing
  // of the workspace is visible yet, so DiskHealth need not know.
  return dir->Sync();
}

absl::Status FileCatalog::PlaceStaged(absl::string_view id, bool filled,
                                      const ProjectName& project,
                                      absl::string_view record) {
  const absl::Status renamed = Move(*staging_, id, *base_, project.str());
  if (renamed.ok()) return SyncOrFail(base_sync_);
  if (!absl::IsAlreadyExists(renamed)) return renamed;
  // The name is taken by a workspace, or by a directory without a record. The
  // directory becomes this workspace, unless that would mix the files of both.
  const auto existing = Get(project);
  if (existing.ok())
    return core::WorkspaceExists(project.str(), (*existing)->uid);
  if (!absl::IsNotFound(existing.status())) return existing.status();
  if (filled) {
    return core::PathUnsuitable(
        project.str(), RootPath(project),
        "is a directory without workspace.yaml, and its files cannot be mixed "
        "with those of the new workspace: move it away, or create the "
        "workspace without a template");
  }
  RETURN_IF_ERROR(AdoptDirectory(project, record));
  fs::RemoveTree(*staging_, id, kRemoveStep).status().IgnoreError();
  return absl::OkStatus();
}

// Turns a directory without a record into a workspace. Writes the record last,
// once everything else is on disk, so that a crash never leaves half a
// workspace.
absl::Status FileCatalog::AdoptDirectory(const ProjectName& project,
                                         absl::string_view record) {
  ASSIGN_OR_RETURN(auto dir, base_->OpenDir(project.str()));
  for (absl::string_view name : core::kDirectories) {
    if (absl::Status made = dir->MakeDir(name);
        !made.ok() && !absl::IsAlreadyExists(made))
      return made;
  }
  const std::string temp = core::layout::RecordTempFile(base::RandomId());
  RETURN_IF_ERROR(fs::WriteNewFile(*dir, temp, record));
  // Make the five directories durable before the record appears.
  RETURN_IF_ERROR(SyncOrFail(*dir));
  // Never replace a record that someone has just put there by hand.
  if (absl::Status renamed =
          dir->Rename(temp, *dir, kRecord, fs::RenameMode::kNoReplace);
      !renamed.ok()) {
    dir->RemoveFile(temp).IgnoreError();
    return absl::IsAlreadyExists(renamed)
               ? core::WorkspaceBusy(project.str(), "create by hand")
               : renamed;
  }
  // The directory itself may be new as well, so sync its name too.
  RETURN_IF_ERROR(SyncOrFail(*dir));
  return SyncOrFail(base_sync_);
}

WorkspacePtr FileCatalog::PublishWritten(const Workspace& workspace,
                                         absl::string_view record) {
  Workspace stored = workspace;
  stored.etag = core::RecordEtag(record);
  auto pointer = std::make_shared<const Workspace>(std::move(stored));
  Entry entry{.workspace = pointer,
              .etag = pointer->etag,
              .read_time = options_.clock()};
  // This stat cannot hide an edit made since the rename, because the next Get
  // does not trust a stamp this young.
  if (auto stamp = base_->Stat(core::layout::RecordPath(workspace.project));
      stamp.ok())
    entry.stamp = *stamp;
  absl::MutexLock lock(&mutex_);
  Store(workspace.project, std::move(entry));
  return pointer;
}

// --- Replace: only the record ---

absl::StatusOr<CommitResult> FileCatalog::Apply(
    const core::ReplaceChange& change) {
  const ProjectName& project = change.workspace.project;
  // A matching etag in the index is enough to proceed, because the exchange
  // detects a conflict. A differing etag is not enough to reject the change,
  // because the index may be stale: read the file first.
  if (const Entry known = FindEntry(project);
      known.workspace == nullptr || known.etag != change.expected_etag) {
    ASSIGN_OR_RETURN(const WorkspacePtr current, Get(project));
    if (current->etag != change.expected_etag) {
      return core::EtagMismatch(project.str(), change.expected_etag,
                                current->etag);
    }
  }
  ASSIGN_OR_RETURN(auto dir, base_->OpenDir(project.str()));
  RETURN_IF_ERROR(RemoveLeftovers(*dir));
  const std::string record = core::EncodeWorkspace(change.workspace);
  const std::string etag = core::RecordEtag(record);
  {
    // A concurrent reader may find the new record before the index has it, and
    // must not log it as another program's change.
    absl::MutexLock lock(&mutex_);
    being_written_.insert(etag);
  }
  const absl::Status replaced = ReplaceRecord(*dir, change, record);
  CommitResult result;
  if (replaced.ok())
    result.workspace = PublishWritten(change.workspace, record);
  // Unmark the etag only once the index has the record.
  absl::MutexLock lock(&mutex_);
  being_written_.erase(etag);
  RETURN_IF_ERROR(replaced);
  return result;
}

// Exchanges the new record with the old one instead of renaming over it, to see
// exactly which record was replaced. If that is not the record that the update
// is based on, someone has edited the file meanwhile: puts the edit back.
absl::Status FileCatalog::ReplaceRecord(fs::Dir& dir,
                                        const core::ReplaceChange& change,
                                        absl::string_view record) {
  const std::string temp = core::layout::RecordTempFile(base::RandomId());
  // Copy the permissions of the old record, so that nobody else can read the
  // new one, not even in its temporary file.
  RETURN_IF_ERROR(fs::WriteNewFile(dir, temp, record, /*like=*/kRecord));
  const auto etag_of =
      [&dir](absl::string_view name) -> absl::StatusOr<std::string> {
    ASSIGN_OR_RETURN(const fs::FileContent content,
                     dir.ReadFile(name, core::kMaxRecordBytes));
    return core::RecordEtag(content.data);
  };
  const auto give_up = [&](absl::Status status) {
    dir.RemoveFile(temp).IgnoreError();
    return status;
  };
  const std::string& project = change.workspace.project.str();

  absl::Status renamed =
      dir.Rename(temp, dir, kRecord, fs::RenameMode::kExchange);
  if (absl::IsUnimplemented(renamed)) {
    // This file system cannot exchange files, so check right before the rename.
    // An edit in the microseconds between the two is lost.
    const auto current = etag_of(kRecord);
    if (!current.ok()) return give_up(current.status());
    if (*current != change.expected_etag)
      return give_up(
          core::EtagMismatch(project, change.expected_etag, *current));
    renamed = dir.Rename(temp, dir, kRecord, fs::RenameMode::kReplace);
    if (!renamed.ok()) return give_up(renamed);
    return SyncOrFail(dir);
  }
  if (!renamed.ok()) return give_up(renamed);
  // The temporary name now has the displaced record.
  const auto displaced = etag_of(temp);
  // Put back any record but the expected one.
  if (!displaced.ok() || *displaced != change.expected_etag) {
    RETURN_IF_ERROR(dir.Rename(temp, dir, kRecord, fs::RenameMode::kExchange));
    // Sync, or a crash could keep the first exchange and lose the second.
    RETURN_IF_ERROR(SyncOrFail(dir));
    if (base::GetReason(displaced.status()) == "IO_ERROR")
      return give_up(displaced.status());
    return give_up(core::EtagMismatch(project, change.expected_etag,
                                      displaced.value_or("")));
  }
  // Best effort: the new record is in place, and the next update removes an
  // orphaned temporary file.
  dir.RemoveFile(temp).IgnoreError();
  return SyncOrFail(dir);
}

// --- Delete, undelete, purge: renames between the base and the trash ---

fs::Dir& FileCatalog::PlaceOf(absl::string_view trash_name) {
  return IsHiddenName(trash_name) ? *base_ : *trash_;
}

absl::StatusOr<std::string> FileCatalog::SetAside(const Workspace& deleted,
                                                  bool permanent) {
  const ProjectName& project = deleted.project;
  std::string name = FormatTrashName({.delete_time = *deleted.delete_time,
                                      .purge_time = deleted.purge_time,
                                      .uid = deleted.uid,
                                      .project = project});
  // On a full disk the trash may exist even if MakeServerDirs() failed.
  absl::Status moved = MakeServerDirs();
  if (has_trash_.load(std::memory_order_acquire))
    moved = Move(*base_, project.str(), *trash_, name);
  if (moved.ok()) return name;
  if (!absl::IsResourceExhausted(moved)) return moved;
  if (!permanent) return core::NoSpaceInTrash(moved);
  // A permanent deletion must succeed on a full disk, since it frees space. A
  // rename within the base needs no inode and usually no new block.
  name = FormatHiddenName(base::RandomId(), project);
  absl::Status hidden = RenameDir(*base_, project.str(), *base_, name);
  if (absl::IsResourceExhausted(hidden)) hidden = MakeRoom(project, name);
  if (hidden.ok()) return name;
  return fs::IsCrossDevice(hidden) ? moved : hidden;
}

absl::Status FileCatalog::MakeRoom(const ProjectName& project,
                                   const std::string& name) {
  ASSIGN_OR_RETURN(const auto dir, base_->OpenDir(project.str()));
  // Remove the record first, and durably: half a workspace must not be served,
  // not even after a crash.
  ASSIGN_OR_RETURN(fs::RemovedTree all, fs::RemoveTree(*dir, kRecord, 1));
  Forget(project, kWhateverVersion);
  RETURN_IF_ERROR(SyncOrFail(*dir));
  absl::Status renamed;
  fs::RemovedTree step;
  // Remove only as much as the rename needs. The purge that removes the rest
  // can be cancelled, unlike this loop.
  do {
    ASSIGN_OR_RETURN(step, RemoveSome(*dir, kPurgeStep));
    all.file_count += step.file_count;
    all.size_bytes += step.size_bytes;
    renamed = RenameDir(*base_, project.str(), *base_, name);
  } while (absl::IsResourceExhausted(renamed) && step.entry_count > 0);
  absl::MutexLock lock(&mutex_);
  if (renamed.ok()) removed_early_[name] = all;
  return renamed;
}

absl::Status FileCatalog::CheckDeletable(
    const core::DeleteChange& change,
    const absl::StatusOr<WorkspacePtr>& current) {
  const std::string& project = change.project.str();
  // A workspace with a corrupt record can be deleted.
  if (!current.ok() && !absl::IsDataLoss(current.status()))
    return current.status();
  ASSIGN_OR_RETURN(const fs::FileStamp stamp, base_->Stat(project));
  if (stamp.type != fs::EntryType::kDirectory) {
    return core::PathUnsuitable(project, RootPath(change.project),
                                "is not a directory");
  }
  // The index has an etag even for a corrupt record.
  if (change.expected_etag.empty()) return absl::OkStatus();
  const std::string etag = FindEntry(change.project).etag;
  if (etag != change.expected_etag)
    return core::EtagMismatch(project, change.expected_etag, etag);
  return absl::OkStatus();
}

absl::StatusOr<CommitResult> FileCatalog::Apply(
    const core::DeleteChange& change) {
  const auto current = Get(change.project);
  RETURN_IF_ERROR(CheckDeletable(change, current));
  Workspace deleted = current.ok() ? **current
                                   : Workspace{.project = change.project,
                                               .uid = base::RandomId()};
  {
    absl::ReaderMutexLock lock(&mutex_);
    // The trash may already have this uid, for example if a backup of the
    // deleted workspace was restored.
    if (index_.Find(change.project.str(), deleted.uid) != nullptr)
      deleted.uid = base::RandomId();
    deleted.delete_time = index_.NextDeleteTime(
        change.project.str(), core::WholeMicros(options_.clock()));
  }
  deleted.purge_time =
      core::ClampTime(*deleted.delete_time + options_.purge_delay);
  ASSIGN_OR_RETURN(const std::string trash_name,
                   SetAside(deleted, change.permanent));
  const bool hidden = IsHiddenName(trash_name);
  // The directory has moved, so readers must stop finding it, even if the sync
  // fails.
  Forget(change.project, kWhateverVersion, &deleted);
  // Sync the new parent before the old one, so that a crash between the two
  // cannot lose the only name of the directory.
  absl::Status synced = hidden ? absl::OkStatus() : SyncOrFail(*trash_sync_);
  if (synced.ok()) synced = SyncOrFail(base_sync_);
  deleted.root_path = absl::StrCat(
      base_path_, "/", hidden ? "" : absl::StrCat(core::layout::kTrashDir, "/"),
      trash_name);
  auto pointer = std::make_shared<const Workspace>(std::move(deleted));
  {
    // Show it to the sweeper only now, after the sync. With a purge delay of 0,
    // the sweeper could otherwise remove files of a workspace that a crash
    // brings back.
    absl::MutexLock lock(&mutex_);
    purge_gate_.NoteDeleted(trash_name);
    index_.Put(pointer);
  }
  RETURN_IF_ERROR(synced);
  return CommitResult{.workspace = std::move(pointer)};
}

absl::StatusOr<CommitResult> FileCatalog::RemoveForGood(
    WorkspacePtr workspace, const std::string& trash_name,
    core::Cancelled cancelled) {
  CommitResult result{.workspace = std::move(workspace)};
  {
    // Count what MakeRoom() has already removed.
    absl::MutexLock lock(&mutex_);
    const fs::RemovedTree early = removed_early_[trash_name];
    removed_early_.erase(trash_name);
    result.file_count = early.file_count;
    result.size_bytes = early.size_bytes;
  }
  // The workspace can no longer be restored, so the sweeper must remove what
  // this call leaves behind.
  const auto leave_to_sweeper = [&](absl::Status status) {
    absl::MutexLock lock(&mutex_);
    removing_.push_back(trash_name);
    return status;
  };
  while (true) {
    if (cancelled())
      return leave_to_sweeper(
          absl::CancelledError("the rest is removed in the background"));
    const auto removed =
        fs::RemoveTree(PlaceOf(trash_name), trash_name, kPurgeStep);
    if (!removed.ok()) return leave_to_sweeper(removed.status());
    result.file_count += removed->file_count;
    result.size_bytes += removed->size_bytes;
    if (removed->complete) return result;
  }
}

// Without a record, the directory would come back but be no workspace.
absl::Status FileCatalog::CheckRestorable(const Workspace& deleted,
                                          const std::string& trash_name) const {
  const auto dir = trash_->OpenDir(trash_name);
  // Move() reports the missing directory.
  if (!dir.ok()) return absl::OkStatus();
  if (!absl::IsNotFound((*dir)->Stat(core::layout::kRecord).status()))
    return absl::OkStatus();
  return core::WorkspaceCorrupt(
      deleted.project.str(),
      absl::StrCat(deleted.root_path, "/", core::layout::kRecord), 0,
      absl::StrCat("was removed from the trash by hand; put it back, or move "
                   "the directory to ",
                   RootPath(deleted.project),
                   " and create the workspace, which keeps its files"));
}

absl::StatusOr<CommitResult> FileCatalog::Apply(
    const core::UndeleteChange& change) {
  const std::string& project = change.project.str();
  WorkspacePtr deleted;
  {
    absl::ReaderMutexLock lock(&mutex_);
    deleted = change.uid.empty() ? index_.FindLastDeleted(project)
                                 : index_.Find(project, change.uid);
  }
  // A hidden workspace cannot be restored: its caller is about to purge it.
  if (deleted == nullptr || IsHiddenName(TrashNameOf(*deleted)))
    return core::NotInTrash(project, change.uid, options_.purge_delay);
  const std::string trash_name = TrashNameOf(*deleted);
  RETURN_IF_ERROR(CheckRestorable(*deleted, trash_name));
  const absl::Status renamed = Move(*trash_, trash_name, *base_, project);
  // The name is taken by a workspace, or by an entry that has no uid.
  if (absl::IsAlreadyExists(renamed)) {
    const auto existing = Get(change.project);
    return core::WorkspaceExists(project,
                                 existing.ok() ? (*existing)->uid : "");
  }
  if (!renamed.ok() && !absl::IsNotFound(renamed)) return renamed;
  // The directory has left the trash, even if the syncs below fail.
  {
    absl::MutexLock lock(&mutex_);
    index_.Erase(project, deleted->uid);
    purge_gate_.Forget(trash_name);
  }
  // Someone has emptied the trash by hand.
  if (!renamed.ok())
    return core::NotInTrash(project, change.uid, options_.purge_delay);
  // Sync the new parent first, as in a deletion.
  RETURN_IF_ERROR(SyncOrFail(base_sync_));
  RETURN_IF_ERROR(SyncOrFail(*trash_sync_));
  // Store the entry unconditionally. Publish() would yield to a concurrent
  // reader, and then only the next Get would find this workspace.
  Entry entry = ReadEntry(change.project, Entry{});
  absl::StatusOr<WorkspacePtr> restored = entry.result();
  if (absl::IsNotFound(restored.status())) return restored.status();
  {
    absl::MutexLock lock(&mutex_);
    Store(change.project, std::move(entry));
  }
  RETURN_IF_ERROR(restored.status());
  return CommitResult{.workspace = *std::move(restored)};
}

// Renames a workspace in the trash so that it cannot be restored, not even
// partially after a crash. Returns the new name.
absl::StatusOr<std::string> FileCatalog::Doom(const Workspace& deleted) {
  const std::string old_name = TrashNameOf(deleted);
  // A hidden name already marks the workspace for removal.
  const bool hidden = IsHiddenName(old_name);
  std::string new_name = hidden ? old_name : DoomedName(deleted.project);
  const absl::Status moved =
      hidden ? absl::OkStatus() : Move(*trash_, old_name, *trash_, new_name);
  if (moved.ok() || absl::IsNotFound(moved)) {
    absl::MutexLock lock(&mutex_);
    purge_gate_.Forget(old_name);
  }
  RETURN_IF_ERROR(moved);
  return new_name;
}

absl::StatusOr<CommitResult> FileCatalog::Apply(
    const core::PurgeChange& change) {
  WorkspacePtr deleted;
  {
    absl::MutexLock lock(&mutex_);
    deleted = index_.Find(change.project.str(), change.uid);
    // Erase it first, so that no Undelete or second purge picks it meanwhile.
    if (deleted != nullptr) index_.Erase(change.project.str(), change.uid);
  }
  if (deleted == nullptr)
    return core::NotInTrash(change.project.str(), change.uid,
                            options_.purge_delay);
  const auto doomed = Doom(*deleted);
  // Someone has removed it from the trash by hand.
  if (absl::IsNotFound(doomed.status()))
    return core::NotInTrash(change.project.str(), change.uid,
                            options_.purge_delay);
  // It is still in the trash, so make it visible again.
  if (!doomed.ok()) {
    absl::MutexLock lock(&mutex_);
    index_.Put(deleted);
    return doomed.status();
  }
  // Remove no file before the new name is durable, as in DoomAll().
  if (!IsHiddenName(*doomed)) RETURN_IF_ERROR(SyncOrFail(*trash_sync_));
  return RemoveForGood(std::move(deleted), *doomed, change.cancelled);
}

absl::Status FileCatalog::DoomExpired() {
  constexpr size_t kMaxExpired = 100;
  std::vector<WorkspacePtr> expired;
  {
    absl::MutexLock lock(&mutex_);
    purge_gate_.Tick();
    const auto may_go = [this](const Workspace& workspace)
                            ABSL_NO_THREAD_SAFETY_ANALYSIS {
                              return purge_gate_.MayGo(TrashNameOf(workspace),
                                                       *workspace.delete_time,
                                                       *workspace.purge_time);
                            };
    expired = index_.FindPurgeable(may_go, kMaxExpired);
    // Take them out of the index, so that no one restores them meanwhile.
    for (const WorkspacePtr& workspace : expired)
      index_.Erase(workspace->project.str(), workspace->uid);
  }
  return DoomAll(expired);
}

absl::Status FileCatalog::DoomAll(const std::vector<WorkspacePtr>& workspaces) {
  if (workspaces.empty()) return absl::OkStatus();
  std::vector<std::string> doomed;
  absl::Status problem;
  for (const WorkspacePtr& workspace : workspaces) {
    auto name = Doom(*workspace);
    if (name.ok()) doomed.push_back(*std::move(name));
    // Someone may have removed it by hand, which is just as well.
    if (name.ok() || absl::IsNotFound(name.status())) continue;
    problem.Update(name.status());
    absl::MutexLock lock(&mutex_);
    index_.Put(workspace);
  }
  // Sync before the sweeper removes the first file: a workspace that a crash
  // brings back under its old name must be complete.
  if (has_trash_.load(std::memory_order_acquire))
    RETURN_IF_ERROR(SyncOrFail(*trash_sync_));
  absl::MutexLock lock(&mutex_);
  removing_.insert(removing_.end(), doomed.begin(), doomed.end());
  return problem;
}

absl::StatusOr<WorkspacePtr> FileCatalog::PurgeOldest() {
  RETURN_IF_ERROR(options_.health->Check());
  WorkspacePtr oldest;
  {
    absl::MutexLock lock(&mutex_);
    oldest = index_.FindOldestDeleted();
    // Take it out of the index, so that no one restores it meanwhile.
    if (oldest != nullptr) index_.Erase(oldest->project.str(), oldest->uid);
  }
  if (oldest == nullptr) return oldest;
  RETURN_IF_ERROR(DoomAll({oldest}));
  return oldest;
}

std::vector<std::string> FileCatalog::NextDoomed(size_t count) const {
  absl::ReaderMutexLock lock(&mutex_);
  return {removing_.begin(),
          removing_.begin() +
              static_cast<ptrdiff_t>(std::min(count, removing_.size()))};
}

absl::StatusOr<bool> FileCatalog::SweepTrash(int64_t max_entries) {
  constexpr size_t kMaxTrees = 100;
  if (!options_.health->Check().ok()) return false;
  absl::Status problem = DoomExpired();
  for (const std::string& name : NextDoomed(kMaxTrees)) {
    if (max_entries <= 0) break;
    const auto removed = fs::RemoveTree(PlaceOf(name), name, max_entries);
    problem.Update(removed.status());
    if (removed.ok()) max_entries -= removed->entry_count;
    // The front is still `name`: other threads only append, and an incomplete
    // tree has used up `max_entries`, which ends the loop.
    absl::MutexLock lock(&mutex_);
    if (!removed.ok() || removed->complete) removing_.pop_front();
    // Retry a tree that cannot be removed after all others, so that it does not
    // block them.
    if (!removed.ok()) removing_.push_back(name);
  }
  RETURN_IF_ERROR(problem);
  absl::ReaderMutexLock lock(&mutex_);
  return !removing_.empty();
}

}  // namespace mlops::catalog
