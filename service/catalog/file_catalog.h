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
#include "service/core/disk_health.h"
#include "service/core/index.h"
#include "service/core/layout.h"
#include "service/fs/dir.h"

namespace mlops::catalog {

// The catalog whose database is the directory:
// `<base>/<project>/workspace.yaml`. It keeps an index in memory, which only
// ever follows the files. A Get compares one stat of the record with the index
// and reads the file if it changed, so that hand-made, edited and removed
// workspaces are seen at once; List answers from the index, which the owner
// keeps fresh by calling the maintenance methods below (Maintainer does).
//
// Besides Catalog's errors, Commit returns INTERNAL/IO_ERROR for ever once the
// sync of a directory has failed, here or for another who shares
// Options::health: what is on disk is then unknown until a restart has read it
// back (healthy() is false).
//
// Thread-safe. mutex_ is never held across a call of the file system.
class FileCatalog : public core::Catalog {
 public:
  struct Options {
    // How long the trash keeps what is deleted from now on.
    absl::Duration purge_delay = absl::Hours(72);
    // Must tell the file system's time.
    base::Clock clock = base::SystemClock();
    base::SteadyClock steady_clock = base::SystemSteadyClock();
    // Told of records that become unreadable or are changed by others.
    RecordLog::Sink log = nullptr;
    int load_threads = 4;  // For reading all records when opened.
    // Of the disk below `base`.
    std::shared_ptr<core::DiskHealth> health =
        std::make_shared<core::DiskHealth>();
    // Make and remove nothing below `base`; then `health` refuses every change.
    bool read_only = false;
  };

  // Reads every record below `base`, whose real absolute path is `base_path`,
  // and removes what a crash left in the staging directory. The caller holds
  // the base directory's lock, unless `read_only`. A full disk is no failure:
  // what has no room is made by a later change. Errors as fs::Dir.
  static absl::StatusOr<std::unique_ptr<FileCatalog>> Open(
      std::unique_ptr<fs::Dir> base, std::string base_path, Options options);

  absl::StatusOr<core::WorkspacePtr> Get(
      const core::ProjectName& project) override;
  absl::StatusOr<core::ListPage> List(const core::ListQuery& query) override;
  absl::StatusOr<core::CommitResult> Commit(
      const core::Change& change) override;

  // False once a directory could not be synced; then only reads succeed, until
  // a restart.
  bool healthy() const { return options_.health->ok(); }

  // Brings the index up to date with the names in the base directory, if that
  // changed since the last call.
  absl::Status RefreshNames();

  // The next `count` projects in order, from the start again after the last:
  // those to be refreshed next.
  std::vector<core::ProjectName> NextProjects(size_t count);

  // Compares one record with its file.
  void RefreshRecord(const core::ProjectName& project);

  // Removes up to `max_entries` files and directories of workspaces whose time
  // in the trash is over, which PurgeGate decides: to be called every second at
  // least. True if there is more to do. For one thread at a time. What could
  // not be removed is tried again, after the rest, by later calls. Errors as
  // fs::Dir.
  absl::StatusOr<bool> SweepTrash(int64_t max_entries);

  // How many entries changed since the checkpoint was written or read; those
  // that changed twice count twice.
  uint64_t UnsavedChanges() const ABSL_LOCKS_EXCLUDED(mutex_);
  // How many projects there are, unreadable ones included.
  size_t EntryCount() const ABSL_LOCKS_EXCLUDED(mutex_);

  // Writes what the index holds to a file from which the next Open() starts
  // faster. Does nothing if nothing changed since. The file is a cache, trusted
  // only as far as the stamps in it match.
  absl::Status SaveCheckpoint();

 private:
  // What is known about one directory in the base.
  struct Entry {
    core::WorkspacePtr workspace;  // Null if there is a problem.
    absl::Status problem;          // NOT_FOUND if it has no record.
    fs::FileStamp stamp;           // Of the record, when it was read.
    // Of the text that was read, also of an ill-formed one.
    std::string etag;
    absl::Time read_time = absl::InfinitePast();
    // Of the catalog when the entry changed last, or was missed; see Publish().
    uint64_t version = 0;

    absl::StatusOr<core::WorkspacePtr> result() const;
  };

  // An entry on its way into the index.
  struct Loaded {
    core::ProjectName project;
    Entry entry;
  };

  FileCatalog(std::unique_ptr<fs::Dir> base, std::string base_path,
              Options options);

  absl::Status OpenServerDirs() ABSL_LOCKS_EXCLUDED(dirs_mutex_);
  // Makes those of the server's directories that are missing, because the disk
  // was full.
  absl::Status MakeServerDirs() ABSL_LOCKS_EXCLUDED(dirs_mutex_);
  absl::Status SweepStaging();
  absl::Status LoadTrash();
  absl::Status LoadAll();
  // The directories in the base that can be workspaces, sorted.
  absl::StatusOr<std::vector<core::ProjectName>> ListNames() const;
  // "" if it cannot be had.
  std::string ReadCheckpoint() const;
  // What was saved of some records, where the file did not change since; where
  // it did, what is in the file. Without those that are gone.
  std::vector<Loaded> LoadSaved(std::vector<SavedRecord> records) const;
  // All of `names`, each from `saved` or, if it is not there, from its file.
  std::vector<Loaded> LoadRest(std::vector<core::ProjectName> names,
                               std::vector<std::vector<Loaded>> saved) const;
  // How many of these were read from their files.
  static size_t CountReadSince(const std::vector<Loaded>& loaded,
                               absl::Time begin);
  // Fills the index, which has no workspaces yet but those in the trash.
  void StoreAll(std::vector<Loaded> loaded)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  core::WorkspacePtr LoadDeleted(const core::layout::TrashName& name) const;

  // Where a project's files are, for errors and values.
  std::string RootPath(const core::ProjectName& project) const;
  std::string RecordFile(const core::ProjectName& project) const;

  Entry FindEntry(const core::ProjectName& project) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  bool IsCurrent(const Entry& entry,
                 const absl::StatusOr<fs::FileStamp>& stamp) const;
  // Reads the record from disk. What is known in `old` is kept if the text is
  // the same.
  Entry ReadEntry(const core::ProjectName& project, const Entry& old) const;
  // Reads the record and puts it into the index.
  Entry Reload(const core::ProjectName& project, const Entry& old)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether there is something of that name that could hold a record now or
  // later.
  bool MayBecomeWorkspace(const core::ProjectName& project) const;
  // Logs what others did to a record.
  void LogChange(const core::ProjectName& project, const Entry& old,
                 const Entry& entry) const;
  // Whether an update that has not ended yet writes a record with that etag.
  bool IsBeingWritten(const std::string& etag) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Puts what was read into the index, unless somebody else changed the entry
  // since version `seen` was looked up. True if it did.
  bool Publish(const core::ProjectName& project, uint64_t seen, Entry entry)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Store(const core::ProjectName& project, Entry entry)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes the entry out of the index, with the same condition.
  void Forget(const core::ProjectName& project, uint64_t seen)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // When the entry changed last; for one that is not there no earlier than when
  // it went.
  uint64_t Version(const core::ProjectName& project) const
      ABSL_SHARED_LOCKS_REQUIRED(mutex_);

  absl::StatusOr<core::CommitResult> Apply(const core::CreateChange& change);
  absl::StatusOr<core::CommitResult> Apply(const core::ReplaceChange& change);
  absl::StatusOr<core::CommitResult> Apply(const core::DeleteChange& change);
  absl::StatusOr<core::CommitResult> Apply(const core::UndeleteChange& change);
  absl::StatusOr<core::CommitResult> Apply(const core::PurgeChange& change);

  // Moves a directory to where nothing is yet: by a rename or, where the system
  // cannot do that, name by name.
  absl::Status Move(fs::Dir& from, absl::string_view name, fs::Dir& to,
                    absl::string_view to_name);
  absl::Status StageWorkspace(absl::string_view id, absl::string_view record);
  absl::Status PlaceStaged(absl::string_view id,
                           const core::ProjectName& project,
                           absl::string_view record);
  absl::Status AdoptDirectory(const core::ProjectName& project,
                              absl::string_view record);
  absl::Status ReplaceRecord(fs::Dir& dir, const core::ReplaceChange& change,
                             absl::string_view record);
  absl::Status CheckDeletable(
      const core::DeleteChange& change,
      const absl::StatusOr<core::WorkspacePtr>& current);
  absl::StatusOr<std::string> Doom(const core::Workspace& deleted);
  // Dooms what has been in the trash for long enough, some of it at a time.
  absl::Status DoomExpired();
  // The first names in the trash that are to be removed.
  std::vector<std::string> NextDoomed(size_t count) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<core::CommitResult> RemoveForGood(
      core::WorkspacePtr workspace, const std::string& trash_name,
      core::Cancelled cancelled);
  // Puts the record just written into the index.
  core::WorkspacePtr PublishWritten(const core::Workspace& workspace,
                                    absl::string_view record);

  // Makes a rename durable; a failure ends all writing.
  absl::Status SyncOrFail(GroupSync& sync) { return sync.Sync(); }
  absl::Status SyncOrFail(fs::Dir& dir) { return options_.health->Sync(dir); }

  const std::unique_ptr<fs::Dir> base_;
  const std::string base_path_;
  const Options options_;
  GroupSync base_sync_;
  absl::Mutex dirs_mutex_;  // Of those who make what is missing.
  // Set by Open() or, if there was no room, before has_dirs_. Where the catalog
  // is read only they may stay null.
  std::unique_ptr<fs::Dir> staging_;
  std::unique_ptr<fs::Dir> trash_;
  std::unique_ptr<fs::Dir> server_dir_;
  std::unique_ptr<GroupSync> trash_sync_;
  std::atomic<bool> has_dirs_ = false;  // All of them.

  mutable RecordLog record_log_;

  mutable absl::Mutex mutex_;
  absl::btree_map<core::ProjectName, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  // Of entries_, those that cannot be read.
  absl::btree_set<core::ProjectName> unreachable_ ABSL_GUARDED_BY(mutex_);
  // Workspaces of entries_, and of the trash.
  core::Index index_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_version_ ABSL_GUARDED_BY(mutex_) = 0;
  // last_version_ when an entry went.
  uint64_t last_forget_version_ ABSL_GUARDED_BY(mutex_) = 0;
  // last_version_ when the checkpoint was written.
  uint64_t checkpoint_version_ ABSL_GUARDED_BY(mutex_) = 0;
  // Etags of records that updates write now.
  absl::flat_hash_set<std::string> being_written_ ABSL_GUARDED_BY(mutex_);
  PurgeGate purge_gate_ ABSL_GUARDED_BY(mutex_);
  // Names in the trash to be removed.
  std::deque<std::string> removing_ ABSL_GUARDED_BY(mutex_);
  // Where NextProjects() goes on.
  std::string last_project_ ABSL_GUARDED_BY(mutex_);
  // Of the base directory when its names were read.
  fs::FileStamp names_stamp_ ABSL_GUARDED_BY(mutex_);
  absl::Time names_read_time_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
};

}  // namespace mlops::catalog

#endif  // MLOPS_SERVICE_CATALOG_FILE_CATALOG_H_
