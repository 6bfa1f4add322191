#ifndef MLOPS_SERVICE_CATALOG_FILE_CATALOG_H_
#define MLOPS_SERVICE_CATALOG_FILE_CATALOG_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "service/base/clock.h"
#include "service/catalog/checkpoint.h"
#include "service/catalog/group_sync.h"
#include "service/catalog/purge_gate.h"
#include "service/catalog/record_log.h"
#include "service/core/catalog.h"
#include "service/core/change_log.h"
#include "service/core/disk_health.h"
#include "service/core/index.h"
#include "service/core/layout.h"
#include "service/fs/dir.h"
#include "service/fs/remove_tree.h"

namespace mlops::catalog {

// A catalog that uses the directory as its database:
// `<base>/<project>/workspace.yaml`. It keeps an index in memory that only ever
// follows the files. Get compares the stat of the record with the index and
// rereads the file if it has changed, so it immediately sees workspaces that
// were created, edited or removed by hand. List answers from the index. The
// owner keeps the index fresh by calling the maintenance methods below, as
// Upkeep does.
//
// Besides Catalog's errors, Commit returns INTERNAL/IO_ERROR permanently once a
// directory sync has failed, here or in another user of Options::health. The
// state on disk is then unknown until a restart reads it back, and healthy()
// returns false.
//
// Thread-safe. mutex_ is never held across a system call on files.
class FileCatalog : public core::Catalog {
 public:
  struct Options {
    // How long the trash keeps newly deleted workspaces.
    absl::Duration purge_delay = absl::Hours(72);
    // Must agree with the clock that the file system takes its times from.
    base::Clock clock = base::SystemClock();
    base::SteadyClock steady_clock = base::SystemSteadyClock();
    // Receives a line for each record that becomes unreadable or is changed
    // by another program. May be null.
    RecordLog::Sink log = nullptr;
    // Threads that Open() uses to read all records.
    int load_threads = 4;
    // Receives every change of a visible workspace, whether made by this
    // server or by hand, in the order in which the index changes. May be null;
    // otherwise it must outlive the catalog.
    core::ChangeLog* changes = nullptr;
    // Health of the disk below `base`.
    std::shared_ptr<core::DiskHealth> health =
        std::make_shared<core::DiskHealth>();
    // Whether to create and remove nothing below `base`. If true, `health` must
    // reject every change.
    bool read_only = false;
  };

  // Opens the catalog: removes orphaned entries from the staging directory, and
  // reads every record below `base`, whose real absolute path is `base_path`.
  // The caller must hold the base directory's lock unless `read_only` is set.
  // A full disk is not an error: a later change creates the missing
  // directories. Returns the errors of fs::Dir.
  static absl::StatusOr<std::unique_ptr<FileCatalog>> Open(
      std::shared_ptr<fs::Dir> base, std::string base_path, Options options);

  absl::StatusOr<core::WorkspacePtr> Get(
      const core::ProjectName& project) override;
  absl::StatusOr<core::ListPage> List(const core::ListQuery& query) override;
  absl::StatusOr<core::CommitResult> Commit(
      const core::Change& change) override;
  void Announce(const core::ProjectName& project) override;

  // Returns false once a directory sync has failed. From then on only reads
  // succeed, until a restart.
  bool healthy() const { return options_.health->ok(); }

  // Adds new projects to the index and drops those that are gone, if the base
  // directory has changed since the last call.
  absl::Status RefreshNames();

  // Returns the next `count` projects to refresh, in order of name. Starts over
  // after the last one.
  std::vector<core::ProjectName> NextProjects(size_t count);

  // Compares one record with its file and updates the index.
  void RefreshRecord(const core::ProjectName& project);

  // Marks expired workspaces in the trash for removal (PurgeGate decides which
  // have expired), and removes up to `max_entries` of their files and
  // directories. Returns true if there is more to do. A later call retries
  // workspaces that could not be removed, after all others. Call it at least
  // once a second, from one thread at a time. Returns the errors of fs::Dir.
  absl::StatusOr<bool> SweepTrash(int64_t max_entries);

  // Marks the workspace with the earliest deletion time for removal, even
  // before its purge time. Returns it, or null if the trash is empty.
  // SweepTrash() removes its files. Returns the errors of fs::Dir and
  // DiskHealth.
  absl::StatusOr<core::WorkspacePtr> PurgeOldest() ABSL_LOCKS_EXCLUDED(mutex_);

  // Returns the number of changes to entries since the checkpoint was written
  // or read. An entry that changed twice counts twice.
  uint64_t UnsavedChanges() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Returns the number of projects, including unreadable ones.
  size_t EntryCount() const ABSL_LOCKS_EXCLUDED(mutex_);

  struct Counts {
    size_t live = 0;
    // In the trash.
    size_t deleted = 0;
    // Workspaces whose records cannot be read.
    size_t unreachable = 0;
    // Workspaces that are being removed permanently.
    size_t removing = 0;
  };
  Counts counts() const ABSL_LOCKS_EXCLUDED(mutex_);

  // Saves the index and the history of changes, so that the next Open() starts
  // faster and continues that history. No-op if no record has changed since the
  // last call. The file is a cache: Open() trusts a saved record only if its
  // stamp still matches. Set `closing` at the end of a run, to save the file
  // even if Announce() made the only changes.
  absl::Status SaveCheckpoint(bool closing = false);

 private:
  // State of one directory in the base.
  struct Entry {
    // Null if `problem` is not OK.
    core::WorkspacePtr workspace;
    // NOT_FOUND if the directory has no record.
    absl::Status problem;
    // Stamp of the record when it was read.
    fs::FileStamp stamp;
    // Etag of the record's text, even if the text is malformed.
    std::string etag;
    absl::Time read_time = absl::InfinitePast();
    // The catalog's version when the entry last changed or, for a missing
    // entry, when it was looked up. See Publish().
    uint64_t version = 0;

    // Returns `workspace`, or `problem` if it is null.
    absl::StatusOr<core::WorkspacePtr> result() const;
    // Returns whether watchers see a workspace here, which includes one with an
    // unreadable record.
    bool visible() const;
  };

  // An entry to be stored in the index.
  struct Loaded {
    core::ProjectName project;
    Entry entry;
  };

  FileCatalog(std::shared_ptr<fs::Dir> base, std::string base_path,
              Options options);

  absl::Status OpenServerDirs() ABSL_LOCKS_EXCLUDED(dirs_mutex_);
  // Creates the server's directories, if Open() could not because the disk was
  // full. If this fails for lack of space too, the trash may exist nevertheless
  // (has_trash_).
  absl::Status MakeServerDirs() ABSL_LOCKS_EXCLUDED(dirs_mutex_);
  absl::Status SweepStaging();
  absl::Status LoadTrash();
  absl::Status LoadAll();
  // Returns the sorted names of entries in the base that may be workspaces.
  // Adds hidden names (layout::IsHiddenName) to `hidden` unless it is null.
  absl::StatusOr<std::vector<core::ProjectName>> ListNames(
      std::deque<std::string>* hidden = nullptr) const;
  // Returns "" if the checkpoint cannot be read.
  std::string ReadCheckpoint() const;
  // Returns the saved state of those `records` whose files have not changed,
  // and reads the others from their files. Omits records without a file.
  std::vector<Loaded> LoadSaved(std::vector<SavedRecord> records) const;
  // Returns an entry for each of `names`: from `saved` if present, otherwise
  // from its file.
  std::vector<Loaded> LoadRest(std::vector<core::ProjectName> names,
                               std::vector<std::vector<Loaded>> saved) const;
  // Returns how many of `loaded` were read from their files since `begin`.
  static size_t CountReadSince(const std::vector<Loaded>& loaded,
                               absl::Time begin);
  // Continues the saved history, if the checkpoint has one, and appends the
  // differences between `before`, the workspaces of each saved block, and
  // `loaded`.
  void RestoreHistory(
      const Checkpoint& checkpoint,
      const std::vector<std::vector<core::WorkspacePtr>>& before,
      const std::vector<Loaded>& loaded) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Fills the index, which must be empty except for workspaces in the trash.
  void StoreAll(std::vector<Loaded> loaded)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  core::WorkspacePtr LoadDeleted(const core::layout::TrashName& name) const;

  // Return the location of a project's files, for errors and values.
  std::string RootPath(const core::ProjectName& project) const;
  std::string RecordFile(const core::ProjectName& project) const;

  Entry FindEntry(const core::ProjectName& project) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  bool IsCurrent(const Entry& entry,
                 const absl::StatusOr<fs::FileStamp>& stamp) const;
  // Reads the record from disk. Reuses the values in `old` if the text is the
  // same.
  Entry ReadEntry(const core::ProjectName& project, const Entry& old) const;
  // Reads the record and updates the index.
  Entry Reload(const core::ProjectName& project, const Entry& old)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Returns whether the base has an entry of that name which could hold a
  // record, now or later.
  bool MayBecomeWorkspace(const core::ProjectName& project) const;
  // Logs that a record has become unreadable, or that another program has
  // changed it.
  void LogChange(const core::ProjectName& project, const Entry& old,
                 const Entry& entry) const;
  // Returns whether an in-flight update writes a record with that etag.
  bool IsBeingWritten(const std::string& etag) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Stores an entry that was just read, unless the index has changed it since
  // version `seen`, which the entry had before the read. Returns whether it
  // stored the entry.
  bool Publish(const core::ProjectName& project, uint64_t seen, Entry entry)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Store(const core::ProjectName& project, Entry entry)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Removes the entry from the index, under the same condition as Publish().
  // Reports `deleted` to watchers if it is given, otherwise the entry.
  void Forget(const core::ProjectName& project, uint64_t seen,
              const core::Workspace* deleted = nullptr)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Appends the difference between two states of an entry to the change log.
  void ReportChange(const core::ProjectName& project, const Entry& old,
                    const Entry& entry) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Returns the version at which the entry last changed. For a missing entry,
  // returns a version no earlier than its removal.
  uint64_t Version(const core::ProjectName& project) const
      ABSL_SHARED_LOCKS_REQUIRED(mutex_);

  absl::StatusOr<core::CommitResult> Apply(const core::CreateChange& change);
  absl::StatusOr<core::CommitResult> Apply(const core::ReplaceChange& change);
  absl::StatusOr<core::CommitResult> Apply(const core::DeleteChange& change);
  absl::StatusOr<core::CommitResult> Apply(const core::UndeleteChange& change);
  absl::StatusOr<core::CommitResult> Apply(const core::PurgeChange& change);

  // Moves a directory to a name that must not exist yet: with a rename or,
  // where the system cannot rename it, file by file.
  absl::Status Move(fs::Dir& from, absl::string_view name, fs::Dir& to,
                    absl::string_view to_name);
  // Completes the directory `id` below the staging directory. Creates it first
  // unless `filled`.
  absl::Status StageWorkspace(absl::string_view id, bool filled,
                              absl::string_view record);
  absl::Status PlaceStaged(absl::string_view id, bool filled,
                           const core::ProjectName& project,
                           absl::string_view record);
  absl::Status AdoptDirectory(const core::ProjectName& project,
                              absl::string_view record);
  absl::Status ReplaceRecord(fs::Dir& dir, const core::ReplaceChange& change,
                             absl::string_view record);
  // Returns the directory that contains a deleted workspace: the trash or, for
  // a hidden name, the base.
  fs::Dir& PlaceOf(absl::string_view trash_name);
  // Renames the directory of `deleted`, whose uid and times are set, into the
  // trash. If the trash has no room and the deletion is `permanent`, renames it
  // to a hidden name in the base instead. Returns its new name.
  absl::StatusOr<std::string> SetAside(const core::Workspace& deleted,
                                       bool permanent);
  // Renames a workspace to the hidden name `name` on a disk too full even for a
  // rename (Btrfs may refuse one). Removes files of the workspace, the record
  // first, until the rename succeeds. A crash meanwhile leaves a directory
  // without a record.
  absl::Status MakeRoom(const core::ProjectName& project,
                        const std::string& name) ABSL_LOCKS_EXCLUDED(mutex_);
  // Returns DATA_LOSS/WORKSPACE_CORRUPT if `deleted`, which is in the trash as
  // `trash_name`, has no record there.
  absl::Status CheckRestorable(const core::Workspace& deleted,
                               const std::string& trash_name) const;
  absl::Status CheckDeletable(
      const core::DeleteChange& change,
      const absl::StatusOr<core::WorkspacePtr>& current);
  absl::StatusOr<std::string> Doom(const core::Workspace& deleted);
  // Calls Doom() for up to a hundred workspaces that have expired in the trash.
  absl::Status DoomExpired();
  // Calls Doom() for workspaces that the caller has taken out of the index.
  // Puts back those that could not be doomed.
  absl::Status DoomAll(const std::vector<core::WorkspacePtr>& workspaces)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Returns the first `count` names to be removed.
  std::vector<std::string> NextDoomed(size_t count) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<core::CommitResult> RemoveForGood(
      core::WorkspacePtr workspace, const std::string& trash_name,
      core::Cancelled cancelled);
  // Stores the record just written in the index.
  core::WorkspacePtr PublishWritten(const core::Workspace& workspace,
                                    absl::string_view record);

  // Makes a rename durable. After a failure the server accepts no more changes.
  absl::Status SyncOrFail(GroupSync& sync) { return sync.Sync(); }
  absl::Status SyncOrFail(fs::Dir& dir) { return options_.health->Sync(dir); }

  const std::shared_ptr<fs::Dir> base_;
  const std::string base_path_;
  const Options options_;
  GroupSync base_sync_;
  // Guards the creation of missing directories.
  absl::Mutex dirs_mutex_;
  // Set by Open() or, if the disk was full then, by a later change before
  // it sets has_dirs_. May stay null in a read-only catalog.
  std::unique_ptr<fs::Dir> staging_;
  std::unique_ptr<fs::Dir> trash_;
  std::unique_ptr<fs::Dir> server_dir_;
  std::unique_ptr<GroupSync> trash_sync_;
  // True once trash_ and trash_sync_ exist.
  std::atomic<bool> has_trash_ = false;
  // True once staging_, trash_ and server_dir_ exist.
  std::atomic<bool> has_dirs_ = false;

  mutable RecordLog record_log_;

  mutable absl::Mutex mutex_;
  absl::btree_map<core::ProjectName, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  // The projects of entries_ that cannot be read.
  absl::btree_set<core::ProjectName> unreachable_ ABSL_GUARDED_BY(mutex_);
  // The workspaces in entries_ and in the trash.
  core::Index index_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_version_ ABSL_GUARDED_BY(mutex_) = 0;
  // last_version_ at the last removal of an entry.
  uint64_t last_forget_version_ ABSL_GUARDED_BY(mutex_) = 0;
  // last_version_ when the checkpoint was written.
  uint64_t checkpoint_version_ ABSL_GUARDED_BY(mutex_) = 0;
  // The last change in the checkpoint.
  int64_t checkpoint_sequence_ ABSL_GUARDED_BY(mutex_) = 0;
  // Etags of records that in-flight updates write.
  absl::flat_hash_set<std::string> being_written_ ABSL_GUARDED_BY(mutex_);
  PurgeGate purge_gate_ ABSL_GUARDED_BY(mutex_);
  // Names to be removed, in the trash or hidden in the base.
  std::deque<std::string> removing_ ABSL_GUARDED_BY(mutex_);
  // By hidden name, the files that MakeRoom() has removed of that workspace,
  // until RemoveForGood() reports them.
  absl::flat_hash_map<std::string, fs::RemovedTree> removed_early_
      ABSL_GUARDED_BY(mutex_);
  // The last project that NextProjects() returned.
  std::string last_project_ ABSL_GUARDED_BY(mutex_);
  // Stamp of the base directory when its names were read.
  fs::FileStamp names_stamp_ ABSL_GUARDED_BY(mutex_);
  absl::Time names_read_time_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
};

}  // namespace mlops::catalog

#endif  // MLOPS_SERVICE_CATALOG_FILE_CATALOG_H_
