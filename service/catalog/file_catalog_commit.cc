// Writing: sequences that leave either the old state or the new one, complete,
// wherever a crash interrupts them.
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
constexpr uint64_t kWhateverVersion = std::numeric_limits<uint64_t>::max();

// Returns a new name in the trash for a workspace to be removed.
// Its uid is random, not the workspace's, so that names never collide.
std::string DoomedName(const ProjectName& project) {
  return FormatTrashName({.delete_time = absl::UnixEpoch(),
                          .uid = base::RandomId(),
                          .project = project});
}

// Returns the name of a deleted workspace in its place (PlaceOf()). An earlier
// release may have chosen it, so it is not formatted anew.
std::string TrashNameOf(const Workspace& deleted) {
  return deleted.root_path.substr(deleted.root_path.rfind('/') + 1);
}

// Removes the temporary records that interrupted updates left in `dir`.
absl::Status RemoveLeftovers(fs::Dir& dir) {
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

// Renames a directory to a name that must not exist yet. A file system
// may report a failure although it has done the rename (NFS, when the answer
// is lost), so check the result.
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
  // Without room for new directories, some changes are possible nevertheless.
  if (absl::Status made = MakeServerDirs();
      !made.ok() && !absl::IsResourceExhausted(made))
    return made;
  auto result =
      std::visit([this](const auto& what) { return Apply(what); }, change);
  if (result.ok() || !base::GetReason(result.status()).empty() ||
      absl::IsCancelled(result.status()))
    return result;
  // Errors without a reason come from the file system alone: someone removed
  // or created an entry by hand between two steps.
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
  // The record leaves the old place first, so that no one ever sees
  // half a workspace.
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
    // Leave nothing of a workspace that could not be created. The next start
    // sweeps whatever cannot be removed now. A filled directory belongs to its
    // caller.
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
  for (absl::string_view name : core::kDirectories) {
    if (absl::Status made = dir->MakeDir(name);
        !made.ok() && !(filled && absl::IsAlreadyExists(made)))
      return made;
  }
  RETURN_IF_ERROR(fs::WriteNewFile(*dir, kRecord, record));
  // A failed sync here does not end all writing, because nothing of this
  // workspace is visible yet.
  return dir->Sync();
}

absl::Status FileCatalog::PlaceStaged(absl::string_view id, bool filled,
                                      const ProjectName& project,
                                      absl::string_view record) {
  const absl::Status renamed = Move(*staging_, id, *base_, project.str());
  if (renamed.ok()) return SyncOrFail(base_sync_);
  if (!absl::IsAlreadyExists(renamed)) return renamed;
  // The name is taken: by a workspace, or by a directory without a record,
  // which becomes this workspace unless that would mix the files of both.
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

// Makes a workspace of a directory without a record. Writes the record last,
// once everything else is on disk, so that a crash never leaves
// half a workspace.
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
  // The five directories must be durable before the record appears.
  RETURN_IF_ERROR(SyncOrFail(*dir));
  if (absl::Status renamed =
          dir->Rename(temp, *dir, kRecord, fs::RenameMode::kNoReplace);
      !renamed.ok()) {
    dir->RemoveFile(temp).IgnoreError();
    return absl::IsAlreadyExists(renamed)
               ? core::WorkspaceBusy(project.str(), "create by hand")
               : renamed;
  }
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
  // This stat cannot hide an edit made since our rename, because the next Get
  // does not trust so young a stamp.
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
  // detects a conflict. It is not enough to reject the change:
  // read the file first.
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
    // A reader that finds the new record before the index has it must not log
    // it as another program's change.
    absl::MutexLock lock(&mutex_);
    being_written_.insert(etag);
  }
  const absl::Status replaced = ReplaceRecord(*dir, change, record);
  CommitResult result;
  if (replaced.ok())
    result.workspace = PublishWritten(change.workspace, record);
  absl::MutexLock lock(&mutex_);
  being_written_.erase(etag);
  RETURN_IF_ERROR(replaced);
  return result;
}

// Exchanges the new record with the old one instead of renaming over it,
// which shows exactly what was replaced. If that is not the record the update
// was made from, someone edited the file meanwhile, and the edit is put back.
absl::Status FileCatalog::ReplaceRecord(fs::Dir& dir,
                                        const core::ReplaceChange& change,
                                        absl::string_view record) {
  const std::string temp = core::layout::RecordTempFile(base::RandomId());
  // The new record, including its temporary file, must be readable only by
  // those who may read the old one.
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
    // Without an exchange, check right before the rename. An edit
    // in the microseconds between the two is lost.
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
  const auto displaced = etag_of(temp);
  // The displaced record is not the expected one: put it back.
  if (!displaced.ok() || *displaced != change.expected_etag) {
    RETURN_IF_ERROR(dir.Rename(temp, dir, kRecord, fs::RenameMode::kExchange));
    // Otherwise a crash could keep the first exchange and lose the second.
    RETURN_IF_ERROR(SyncOrFail(dir));
    if (base::GetReason(displaced.status()) == "IO_ERROR")
      return give_up(displaced.status());
    return give_up(core::EtagMismatch(project, change.expected_etag,
                                      displaced.value_or("")));
  }
  // The new record is in place, so a temporary file that cannot be removed
  // does no harm.
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
  absl::Status moved = MakeServerDirs();
  if (has_trash_.load(std::memory_order_acquire))
    moved = Move(*base_, project.str(), *trash_, name);
  if (moved.ok()) return name;
  if (!absl::IsResourceExhausted(moved)) return moved;
  if (!permanent) return core::NoSpaceInTrash(moved);
  // A rename within the base needs neither an inode nor, usually, a block.
  name = FormatHiddenName(base::RandomId(), project);
  absl::Status hidden = RenameDir(*base_, project.str(), *base_, name);
  if (absl::IsResourceExhausted(hidden)) hidden = MakeRoom(project, name);
  if (hidden.ok()) return name;
  return fs::IsCrossDevice(hidden) ? moved : hidden;
}

absl::Status FileCatalog::MakeRoom(const ProjectName& project,
                                   const std::string& name) {
  ASSIGN_OR_RETURN(const auto dir, base_->OpenDir(project.str()));
  // Half a workspace must not be served, not even after a crash.
  ASSIGN_OR_RETURN(fs::RemovedTree all, fs::RemoveTree(*dir, kRecord, 1));
  Forget(project, kWhateverVersion);
  RETURN_IF_ERROR(SyncOrFail(*dir));
  absl::Status renamed;
  fs::RemovedTree step;
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
    // The trash may already have this uid, for example from a backup.
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
  // The directory has moved, so readers must stop finding it, even
  // if the sync fails.
  Forget(change.project, kWhateverVersion, &deleted);
  absl::Status synced = hidden ? absl::OkStatus() : SyncOrFail(*trash_sync_);
  if (synced.ok()) synced = SyncOrFail(base_sync_);
  deleted.root_path = absl::StrCat(
      base_path_, "/", hidden ? "" : absl::StrCat(core::layout::kTrashDir, "/"),
      trash_name);
  auto pointer = std::make_shared<const Workspace>(std::move(deleted));
  {
    // Only now may the sweeper find it. With a purge delay of 0, it would
    // otherwise remove files that a crash could still bring back.
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
    absl::MutexLock lock(&mutex_);
    const fs::RemovedTree early = removed_early_[trash_name];
    removed_early_.erase(trash_name);
    result.file_count = early.file_count;
    result.size_bytes = early.size_bytes;
  }
  // The workspace can no longer be restored; the sweeper removes the rest.
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

absl::StatusOr<CommitResult> FileCatalog::Apply(
    const core::UndeleteChange& change) {
  const std::string& project = change.project.str();
  WorkspacePtr deleted;
  {
    absl::ReaderMutexLock lock(&mutex_);
    deleted = change.uid.empty() ? index_.FindLastDeleted(project)
                                 : index_.Find(project, change.uid);
  }
  // A hidden workspace is about to be purged.
  if (deleted == nullptr || IsHiddenName(TrashNameOf(*deleted)))
    return core::NotInTrash(project, change.uid, options_.purge_delay);
  const std::string trash_name = TrashNameOf(*deleted);
  const absl::Status renamed = Move(*trash_, trash_name, *base_, project);
  // The name is taken by a workspace, or by another entry without a uid.
  if (absl::IsAlreadyExists(renamed)) {
    const auto existing = Get(change.project);
    return core::WorkspaceExists(project,
                                 existing.ok() ? (*existing)->uid : "");
  }
  if (!renamed.ok() && !absl::IsNotFound(renamed)) return renamed;
  {
    absl::MutexLock lock(&mutex_);
    index_.Erase(project, deleted->uid);
    purge_gate_.Forget(trash_name);
  }
  // Someone emptied the trash by hand.
  if (!renamed.ok())
    return core::NotInTrash(project, change.uid, options_.purge_delay);
  RETURN_IF_ERROR(SyncOrFail(base_sync_));
  RETURN_IF_ERROR(SyncOrFail(*trash_sync_));
  // Store the entry unconditionally. Publish() would yield to a concurrent
  // reader and leave it to the next Get to find this workspace.
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
  // A hidden name says already that the workspace is to be removed.
  const bool hidden = IsHiddenName(old_name);
  std::string new_name = hidden ? old_name : DoomedName(deleted.project);
  if (!hidden) RETURN_IF_ERROR(Move(*trash_, old_name, *trash_, new_name));
  absl::MutexLock lock(&mutex_);
  purge_gate_.Forget(old_name);
  return new_name;
}

absl::StatusOr<CommitResult> FileCatalog::Apply(
    const core::PurgeChange& change) {
  WorkspacePtr deleted;
  {
    absl::MutexLock lock(&mutex_);
    deleted = index_.Find(change.project.str(), change.uid);
    // Erased first, so that no Undelete or second purge picks it meanwhile.
    if (deleted != nullptr) index_.Erase(change.project.str(), change.uid);
  }
  if (deleted == nullptr)
    return core::NotInTrash(change.project.str(), change.uid,
                            options_.purge_delay);
  const auto doomed = Doom(*deleted);
  if (absl::IsNotFound(doomed.status()))
    return core::NotInTrash(change.project.str(), change.uid,
                            options_.purge_delay);
  // It is still in the trash, so make it visible again.
  if (!doomed.ok()) {
    absl::MutexLock lock(&mutex_);
    index_.Put(deleted);
    return doomed.status();
  }
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
    // Taken out of the index, so that no one restores them meanwhile.
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
    if (name.ok() || absl::IsNotFound(name.status())) continue;
    problem.Update(name.status());
    absl::MutexLock lock(&mutex_);
    index_.Put(workspace);
  }
  // Remove no file before the new names are durable: a workspace that a crash
  // brings back must be complete.
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
    // Taken out of the index, so that no one restores it meanwhile.
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
    absl::MutexLock lock(&mutex_);
    if (!removed.ok() || removed->complete) removing_.pop_front();
    // A tree that cannot be removed must not block the others.
    if (!removed.ok()) removing_.push_back(name);
  }
  RETURN_IF_ERROR(problem);
  absl::ReaderMutexLock lock(&mutex_);
  return !removing_.empty();
}

}  // namespace mlops::catalog
