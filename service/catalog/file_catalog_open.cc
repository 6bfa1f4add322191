// Starting: builds the index from the directory.
#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "proto/cpp/base/status_macros.h"
#include "service/base/thread_pool.h"
#include "service/catalog/checkpoint.h"
#include "service/catalog/file_catalog.h"
#include "service/core/iso_time.h"
#include "service/core/workspace_yaml.h"
#include "service/fs/remove_tree.h"

namespace mlops::catalog {

using core::ProjectName;
using core::Workspace;
using core::WorkspacePtr;
using core::layout::TrashName;

namespace {

constexpr int64_t kRemoveStep = 10'000;
// Records that a thread takes at a time.
constexpr size_t kRun = 64;
constexpr int64_t kMaxCheckpointBytes = int64_t{4} << 30;
constexpr absl::string_view kCheckpointTempFile = "checkpoint.new";

absl::Status WriteCheckpoint(fs::Dir& dir, absl::string_view bytes) {
  ASSIGN_OR_RETURN(const auto file, dir.CreateFile(kCheckpointTempFile));
  RETURN_IF_ERROR(file->Write(bytes));
  RETURN_IF_ERROR(file->Close());
  return dir.Rename(kCheckpointTempFile, dir, core::layout::kCheckpointFile,
                    fs::RenameMode::kReplace);
}

absl::StatusOr<std::unique_ptr<fs::Dir>> OpenOrMakeDir(fs::Dir& base,
                                                       absl::string_view name) {
  if (absl::Status made = base.MakeDir(name);
      !made.ok() && !absl::IsAlreadyExists(made))
    return made;
  return base.OpenDir(name);
}

}  // namespace

FileCatalog::FileCatalog(std::shared_ptr<fs::Dir> base, std::string base_path,
                         Options options)
    : base_(std::move(base)),
      base_path_(std::move(base_path)),
      options_(std::move(options)),
      base_sync_(base_.get(), options_.health.get()),
      record_log_(options_.log, options_.steady_clock),
      purge_gate_(options_.clock, options_.steady_clock) {}

absl::StatusOr<std::unique_ptr<FileCatalog>> FileCatalog::Open(
    std::shared_ptr<fs::Dir> base, std::string base_path, Options options) {
  auto catalog = std::unique_ptr<FileCatalog>(new FileCatalog(
      std::move(base), std::move(base_path), std::move(options)));
  RETURN_IF_ERROR(catalog->OpenServerDirs());
  RETURN_IF_ERROR(catalog->SweepStaging());
  // The trash comes first: LoadAll() then appends the hidden names to those
  // that LoadTrash() found.
  RETURN_IF_ERROR(catalog->LoadTrash());
  RETURN_IF_ERROR(catalog->LoadAll());
  return catalog;
}

absl::Status FileCatalog::OpenServerDirs() {
  if (options_.read_only) {
    if (auto dir = base_->OpenDir(core::layout::kTrashDir); dir.ok())
      trash_ = *std::move(dir);
    if (auto dir = base_->OpenDir(core::layout::kServerDir); dir.ok())
      server_dir_ = *std::move(dir);
    return absl::OkStatus();
  }
  // Directories that already exist are usable even if others could not be
  // created.
  absl::Status made = MakeServerDirs();
  return absl::IsResourceExhausted(made) ? absl::OkStatus() : made;
}

absl::Status FileCatalog::MakeServerDirs() {
  // Check without the lock first, because every commit calls this.
  if (has_dirs_.load(std::memory_order_acquire)) return absl::OkStatus();
  absl::MutexLock lock(&dirs_mutex_);
  if (has_dirs_.load(std::memory_order_relaxed)) return absl::OkStatus();
  const auto open = [this](absl::string_view name,
                           std::unique_ptr<fs::Dir>& dir) -> absl::Status {
    if (dir != nullptr) return absl::OkStatus();
    ASSIGN_OR_RETURN(dir, OpenOrMakeDir(*base_, name));
    return absl::OkStatus();
  };
  // Create the trash first: on a full disk, deleting needs it to free space.
  absl::Status made = open(core::layout::kTrashDir, trash_);
  if (made.ok()) made = open(core::layout::kStagingDir, staging_);
  if (made.ok()) made = open(core::layout::kServerDir, server_dir_);
  if (trash_ != nullptr && !has_trash_.load(std::memory_order_relaxed)) {
    trash_sync_ =
        std::make_unique<GroupSync>(trash_.get(), options_.health.get());
    // Without this sync, a power cut could lose the trash directory, together
    // with the workspaces moved there later.
    RETURN_IF_ERROR(SyncOrFail(*base_));
    has_trash_.store(true, std::memory_order_release);
  }
  if (made.ok()) has_dirs_.store(true, std::memory_order_release);
  return made;
}

absl::Status FileCatalog::SweepStaging() {
  if (staging_ == nullptr) return absl::OkStatus();
  // Collect the names first, because removing entries disturbs the listing.
  std::vector<std::string> leftovers;
  RETURN_IF_ERROR(staging_->ForEachEntry(
      [&leftovers](absl::string_view name, fs::EntryType) {
        leftovers.emplace_back(name);
        return true;
      }));
  for (const std::string& name : leftovers) {
    // RemoveTree() is bounded, so repeat it until the tree is gone.
    bool complete = false;
    while (!complete) {
      ASSIGN_OR_RETURN(const fs::RemovedTree removed,
                       fs::RemoveTree(*staging_, name, kRemoveStep));
      complete = removed.complete;
    }
  }
  return absl::OkStatus();
}

absl::Status FileCatalog::LoadTrash() {
  if (trash_ == nullptr) return absl::OkStatus();
  std::vector<TrashName> deleted;
  std::deque<std::string> removing;
  RETURN_IF_ERROR(
      trash_->ForEachEntry([&](absl::string_view text, fs::EntryType) {
        auto name = core::layout::ParseTrashName(text);
        // The last run did not finish this removal, so the sweeper continues
        // it. Entries with other names are not ours: leave them alone.
        if (name && name->being_removed()) {
          removing.emplace_back(text);
        } else if (name) {
          deleted.push_back(*std::move(name));
        }
        return true;
      }));
  std::vector<WorkspacePtr> workspaces(deleted.size());
  base::ParallelFor(deleted.size(), options_.load_threads, kRun,
                    [&](size_t i) { workspaces[i] = LoadDeleted(deleted[i]); });
  absl::MutexLock lock(&mutex_);
  for (WorkspacePtr& workspace : workspaces) index_.Put(std::move(workspace));
  removing_ = std::move(removing);
  return absl::OkStatus();
}

WorkspacePtr FileCatalog::LoadDeleted(const TrashName& name) const {
  const std::string trash_name = core::layout::FormatTrashName(name);
  Workspace workspace{.project = name.project};
  const std::string record =
      absl::StrCat(trash_name, "/", core::layout::kRecord);
  if (auto content = trash_->ReadFile(record, core::kMaxRecordBytes);
      content.ok()) {
    // Decode the record as if it were in the place it was deleted from, because
    // its settings refer to that place.
    auto decoded = core::DecodeWorkspace(
        content->data, {.project = name.project,
                        .root_path = RootPath(name.project),
                        .file = record,
                        .modify_time = content->stamp.modify_time});
    if (decoded.ok()) workspace = *std::move(decoded);
  }
  // The name overrides the record: the deletion may have chosen another uid.
  workspace.uid = name.uid;
  workspace.root_path =
      absl::StrCat(base_path_, "/", core::layout::kTrashDir, "/", trash_name);
  workspace.delete_time = name.delete_time;
  // Names written by the first release lack the purge time.
  workspace.purge_time = name.purge_time.value_or(
      core::ClampTime(name.delete_time + options_.purge_delay));
  return std::make_shared<const Workspace>(std::move(workspace));
}

absl::Status FileCatalog::LoadAll() {
  // Take the time and the stamp before reading anything, so that RefreshNames()
  // detects every change from now on.
  const absl::Time now = options_.clock();
  ASSIGN_OR_RETURN(const fs::FileStamp stamp, base_->StatSelf());
  const std::string bytes = ReadCheckpoint();
  const Checkpoint checkpoint(bytes, base_path_);
  absl::StatusOr<std::vector<ProjectName>> names;
  std::deque<std::string> hidden;
  std::vector<std::vector<Loaded>> saved(checkpoint.block_count());
  std::vector<std::vector<WorkspacePtr>> before(checkpoint.block_count());
  // Task 0 lists the names while the others decode the saved blocks.
  base::ParallelFor(saved.size() + 1, options_.load_threads, 1, [&](size_t i) {
    if (i == 0) {
      names = ListNames(&hidden);
    } else {
      std::vector<SavedRecord> records = checkpoint.Decode(i - 1);
      for (const SavedRecord& record : records)
        before[i - 1].push_back(record.workspace);
      saved[i - 1] = LoadSaved(std::move(records));
    }
  });
  RETURN_IF_ERROR(names.status());
  std::vector<Loaded> loaded = LoadRest(*std::move(names), std::move(saved));
  // Records that the checkpoint lacks count as unsaved changes, so that many of
  // them make a new checkpoint due.
  const size_t read_anew = CountReadSince(loaded, now);
  for (const Loaded& one : loaded) LogChange(one.project, Entry{}, one.entry);
  absl::MutexLock lock(&mutex_);
  // Restore the history first, because StoreAll() consumes `loaded`.
  RestoreHistory(checkpoint, before, loaded);
  StoreAll(std::move(loaded));
  checkpoint_version_ = last_version_ - read_anew;
  removing_.insert(removing_.end(), hidden.begin(), hidden.end());
  names_stamp_ = stamp;
  names_read_time_ = now;
  return absl::OkStatus();
}

void FileCatalog::RestoreHistory(
    const Checkpoint& checkpoint,
    const std::vector<std::vector<WorkspacePtr>>& before,
    const std::vector<Loaded>& loaded) {
  const bool damaged = std::any_of(
      before.begin(), before.end(),
      [](const std::vector<WorkspacePtr>& block) { return block.empty(); });
  // The content of a damaged block is unknown, so a workspace in it could
  // disappear unnoticed. Drop the history then: watchers start over.
  if (options_.changes == nullptr || damaged ||
      checkpoint.history().changes.empty())
    return;
  // One project in the state that the history leads to. The workspace is null
  // if its record could not be read.
  struct Saved {
    absl::string_view project;
    WorkspacePtr workspace;
    bool operator<(const Saved& other) const { return project < other.project; }
  };
  // Both parts are sorted by project, so merge them to look projects up below.
  std::vector<Saved> old;
  for (const auto& block : before) {
    for (const WorkspacePtr& workspace : block)
      old.push_back({workspace->project.str(), workspace});
  }
  const auto readable = static_cast<ptrdiff_t>(old.size());
  for (const std::string& project : checkpoint.history().unreachable)
    old.push_back({project, nullptr});
  std::inplace_merge(old.begin(), old.begin() + readable, old.end());
  auto history = core::DecodeHistory(
      checkpoint.history().changes,
      [&old](absl::string_view project) -> WorkspacePtr {
        const auto it =
            std::lower_bound(old.begin(), old.end(), Saved{.project = project});
        return it == old.end() || it->project != project ? nullptr
                                                         : it->workspace;
      });
  if (!history.ok()) return;
  options_.changes->Restore(*std::move(history));
  checkpoint_sequence_ = options_.changes->last();
  // Append the differences between the saved state and the files, in one pass
  // over both sorted sequences.
  const auto entry_of = [](const Saved& saved) {
    return saved.workspace != nullptr
               ? Entry{.workspace = saved.workspace}
               : Entry{.problem = absl::DataLossError("unreadable")};
  };
  auto next = old.begin();
  const auto report_gone = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (const auto project = ProjectName::Parse(next->project); project.ok())
      ReportChange(*project, entry_of(*next), Entry{});
    ++next;
  };
  for (const Loaded& one : loaded) {
    const absl::string_view name = one.project.str();
    while (next != old.end() && next->project < name) report_gone();
    Entry was;
    if (next != old.end() && next->project == name) was = entry_of(*next++);
    ReportChange(one.project, was, one.entry);
  }
  while (next != old.end()) report_gone();
}

size_t FileCatalog::CountReadSince(const std::vector<Loaded>& loaded,
                                   absl::Time begin) {
  return static_cast<size_t>(std::count_if(
      loaded.begin(), loaded.end(),
      [begin](const Loaded& one) { return one.entry.read_time >= begin; }));
}

std::vector<FileCatalog::Loaded> FileCatalog::LoadSaved(
    std::vector<SavedRecord> records) const {
  std::vector<Loaded> loaded;
  loaded.reserve(records.size());
  for (SavedRecord& record : records) {
    const ProjectName& project = record.workspace->project;
    Entry entry{.workspace = record.workspace,
                .stamp = record.stamp,
                .etag = record.workspace->etag,
                .read_time = record.read_time};
    const auto stamp = base_->Stat(core::layout::RecordPath(project));
    // The checkpoint is only a cache; the file is authoritative.
    if (absl::IsNotFound(stamp.status())) continue;
    if (!IsCurrent(entry, stamp)) entry = ReadEntry(project, entry);
    loaded.push_back({project, std::move(entry)});
  }
  return loaded;
}

std::vector<FileCatalog::Loaded> FileCatalog::LoadRest(
    std::vector<ProjectName> names,
    std::vector<std::vector<Loaded>> saved) const {
  std::vector<Loaded> loaded;
  loaded.reserve(names.size());
  std::vector<size_t> missing;
  // Both sequences are sorted by name, so walk them in step, and skip the saved
  // records whose directory is gone.
  auto block = saved.begin();
  size_t at = 0;
  for (ProjectName& name : names) {
    while (block != saved.end() &&
           (at == block->size() || (*block)[at].project < name)) {
      if (at < block->size()) {
        ++at;
      } else {
        ++block;
        at = 0;
      }
    }
    if (block != saved.end() && (*block)[at].project == name) {
      loaded.push_back(std::move((*block)[at++]));
    } else {
      missing.push_back(loaded.size());
      loaded.push_back({std::move(name), Entry{}});
    }
  }
  // Read in parallel, because each record costs several system calls.
  base::ParallelFor(missing.size(), options_.load_threads, kRun, [&](size_t i) {
    Loaded& one = loaded[missing[i]];
    one.entry = ReadEntry(one.project, Entry{});
  });
  return loaded;
}

absl::StatusOr<std::vector<ProjectName>> FileCatalog::ListNames(
    std::deque<std::string>* hidden) const {
  std::vector<ProjectName> names;
  RETURN_IF_ERROR(
      base_->ForEachEntry([&](absl::string_view name, fs::EntryType type) {
        if (hidden != nullptr && core::layout::IsHiddenName(name))
          hidden->emplace_back(name);
        auto project = ProjectName::Parse(name);
        if (project.ok() && type != fs::EntryType::kFile)
          names.push_back(*std::move(project));
        return true;
      }));
  std::sort(names.begin(), names.end());
  return names;
}

std::string FileCatalog::ReadCheckpoint() const {
  if (server_dir_ == nullptr) return "";
  auto content =
      server_dir_->ReadFile(core::layout::kCheckpointFile, kMaxCheckpointBytes);
  return content.ok() ? std::move(content->data) : "";
}

uint64_t FileCatalog::UnsavedChanges() const {
  absl::ReaderMutexLock lock(&mutex_);
  return last_version_ - checkpoint_version_;
}

size_t FileCatalog::EntryCount() const {
  absl::ReaderMutexLock lock(&mutex_);
  return entries_.size();
}

FileCatalog::Counts FileCatalog::counts() const {
  absl::ReaderMutexLock lock(&mutex_);
  return {.live = index_.live_count(),
          .deleted = index_.deleted_count(),
          .unreachable = unreachable_.size(),
          .removing = removing_.size()};
}

absl::Status FileCatalog::SaveCheckpoint(bool closing) {
  RETURN_IF_ERROR(options_.health->Check());
  RETURN_IF_ERROR(MakeServerDirs());
  std::vector<SavedRecord> records;
  SavedHistory saved_history;
  core::ChangeLog::History history;
  uint64_t version;
  // Copy the state under one lock, so that the history leads exactly to the
  // records. Encode and write the copy without the lock.
  {
    absl::ReaderMutexLock lock(&mutex_);
    const bool announced = options_.changes != nullptr &&
                           options_.changes->last() != checkpoint_sequence_;
    if (last_version_ == checkpoint_version_ && !(closing && announced))
      return absl::OkStatus();
    version = last_version_;
    if (options_.changes != nullptr) history = options_.changes->Save();
    for (const ProjectName& project : unreachable_)
      saved_history.unreachable.push_back(project.str());
    records.reserve(entries_.size());
    for (const auto& [project, entry] : entries_) {
      if (entry.workspace == nullptr) continue;
      records.push_back({.workspace = entry.workspace,
                         .stamp = entry.stamp,
                         .read_time = entry.read_time});
    }
  }
  if (!history.runs.empty())
    saved_history.changes = core::EncodeHistory(history);
  const std::string bytes =
      EncodeCheckpoint(records, base_path_, saved_history);
  // Do not sync: checksums detect a checkpoint that a power cut has damaged,
  // and losing it costs only one slow start.
  server_dir_->RemoveFile(kCheckpointTempFile).IgnoreError();
  if (absl::Status written = WriteCheckpoint(*server_dir_, bytes);
      !written.ok()) {
    // On a full disk, a partial checkpoint would take the little space that a
    // deletion has just freed.
    server_dir_->RemoveFile(kCheckpointTempFile).IgnoreError();
    return written;
  }
  // The file lacks changes made since the copy above, so they stay unsaved.
  absl::MutexLock lock(&mutex_);
  checkpoint_version_ = version;
  if (!history.runs.empty()) checkpoint_sequence_ = history.runs.back().last;
  return absl::OkStatus();
}

}  // namespace mlops::catalog
