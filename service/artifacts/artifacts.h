#ifndef MLOPS_SERVICE_ARTIFACTS_ARTIFACTS_H_
#define MLOPS_SERVICE_ARTIFACTS_ARTIFACTS_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "service/artifacts/checksum_cache.h"
#include "service/artifacts/claims.h"
#include "service/artifacts/dir_names.h"
#include "service/artifacts/placer.h"
#include "service/artifacts/reader.h"
#include "service/artifacts/tree.h"
#include "service/artifacts/upload_writer.h"
#include "service/artifacts/uploads.h"
#include "service/core/catalog.h"
#include "service/core/disk_health.h"
#include "service/core/leases.h"
#include "service/core/usage.h"
#include "service/core/usage_ledger.h"
#include "service/fs/dir.h"

namespace mlops::artifacts {

struct ListArtifactsArgs {
  core::ProjectName project;
  // Absent: the workspace itself.
  std::optional<RelativePath> path;
  bool recursive = false;
  int page_size = 0;
  std::string page_token;
};

struct ArtifactPage {
  std::vector<Artifact> artifacts;
  std::string next_page_token;
};

struct ReadArgs {
  core::ProjectName project;
  RelativePath path;
  int64_t offset = 0;
  // Maximum number of bytes; 0 means to the end of the file.
  int64_t limit = 0;
  std::string etag;
};

struct DeleteArtifactArgs {
  core::ProjectName project;
  RelativePath path;
  bool force = false;
  std::string etag;
  bool allow_missing = false;
  // Fence of the caller's lease; 0 if the caller has none.
  int64_t fence = 0;
};

// Arguments of Move and Copy.
struct TransferArgs {
  core::ProjectName project;
  RelativePath path;
  RelativePath destination;
  bool create_only = false;
  // If not "", must be the etag of the artifact at `path`.
  std::string etag;
  int64_t fence = 0;
};

struct DeletedArtifacts {
  int64_t file_count = 0;
  int64_t size_bytes = 0;
};

// Reads and changes the files of workspaces. Each method implements one RPC,
// or starts its stream; workspace_service.proto lists the errors. After
// the sync of a directory has failed, here or in another object that shares
// UploadOptions::health, all changes return INTERNAL/IO_ERROR. Thread-safe.
//
// Holds no lock across a stream, or while it reads or writes content.
// Where the file system cannot rename a directory, moving or deleting one holds
// the project's lock: for the whole move, but only for one step of a deletion
// at a time.
class Artifacts {
 public:
  // `catalog` must outlive this; `base` is the base directory of the catalog.
  Artifacts(core::Catalog* catalog, std::shared_ptr<const fs::Dir> base,
            const UploadOptions& options = {});

  absl::StatusOr<Artifact> Get(const core::ProjectName& project,
                               const RelativePath& path, bool checksum,
                               core::Cancelled cancelled);
  absl::StatusOr<ArtifactPage> List(const ListArtifactsArgs& args);
  absl::StatusOr<std::unique_ptr<ArtifactReader>> OpenForRead(
      const ReadArgs& args);
  absl::StatusOr<std::unique_ptr<UploadWriter>> OpenForWrite(
      const WriteArgs& args, core::Cancelled cancelled = core::NeverCancelled);
  // Discards the upload that a first message with `discard` names;
  // see Uploads::Discard().
  absl::StatusOr<std::optional<Artifact>> DiscardUpload(const WriteArgs& args);
  absl::StatusOr<UploadState> GetUpload(const core::ProjectName& project,
                                        const std::string& upload_id);
  // If the caller cancels the deletion of a directory, SweepSome() removes
  // the rest. If the file system cannot rename the directory, the rest stays,
  // and the error message says so.
  absl::StatusOr<DeletedArtifacts> Delete(const DeleteArtifactArgs& args,
                                          core::Cancelled cancelled);
  absl::StatusOr<Artifact> Move(const TransferArgs& args);
  absl::StatusOr<Artifact> Copy(const TransferArgs& args,
                                core::Cancelled cancelled);
  absl::StatusOr<Artifact> MakeDirectory(const core::ProjectName& project,
                                         const RelativePath& path,
                                         int64_t fence = 0);

  // Waits until every change that Leases::Check() has permitted is done.
  // Not an RPC.
  void AwaitChanges(const core::ProjectName& project) {
    placer_.AwaitChanges(project);
  }

  // Returns the number of unfinished uploads that SweepSome() found when it
  // last visited all workspaces.
  int64_t unfinished_uploads() const {
    return unfinished_uploads_.load(std::memory_order_relaxed);
  }
  // Return the memory used by the cache of checksums and by the cache
  // of directory names, in bytes.
  size_t checksum_cache_bytes() const { return checksums_.bytes(); }
  size_t name_cache_bytes() const { return dir_names_.bytes(); }

  // Performs one bounded step of cleanup. First removes directories
  // whose Delete() was cancelled, one after the other until they are gone;
  // then removes expired uploads and leftovers of crashes, visiting all
  // workspaces in turn. Must be called a few times a second by one thread.
  void SweepSome();

 private:
  // Open() opens a workspace. OpenForChange() also checks the disk's health,
  // and that the lease with this fence permits changes. It remembers the fence
  // for Placer, which checks it again at the moment of the change, and sets
  // `workspace` to the record unless that is null.
  absl::StatusOr<ArtifactTree> Open(const core::ProjectName& project) const;
  absl::StatusOr<ArtifactTree> OpenForChange(
      const core::ProjectName& project, int64_t fence,
      core::WorkspacePtr* workspace = nullptr) const;
  // Begin a change that counts against a quota. Return null if the workspace
  // has none.
  absl::StatusOr<std::unique_ptr<core::UsageLedger::Hold>> BeginGrowth(
      core::WorkspacePtr workspace, core::Cancelled cancelled);
  std::unique_ptr<core::UsageLedger::Hold> BeginShrinking(
      core::WorkspacePtr workspace);
  absl::StatusOr<Artifact> Checksum(const ArtifactTree& tree,
                                    const RelativePath& path,
                                    core::Cancelled cancelled);
  // Location of a directory while its content is removed.
  struct Aside {
    fs::Dir* dir = nullptr;
    std::string name;
    // Whether the directory kept its own path. No sweep finds the rest there
    // if the removal is interrupted.
    bool in_place = false;
    // Owns `dir` unless the caller does.
    std::unique_ptr<fs::Dir> opened;
  };
  // Renames the directory `name` in `parent` to a name that only the sweeper
  // looks for, if the file system permits that and has room. The caller has
  // claimed `id` and holds the workspace's lock (Placer::Change()).
  static absl::StatusOr<Aside> SetAside(const ArtifactTree& tree,
                                        fs::Dir& parent, absl::string_view name,
                                        const std::string& id);
  // Deletes a directory: sets it aside, then removes it in steps.
  absl::StatusOr<DeletedArtifacts> RemoveAside(const ArtifactTree& tree,
                                               fs::Dir& parent,
                                               const DeleteArtifactArgs& args,
                                               core::UsageLedger::Hold* hold,
                                               core::Cancelled cancelled);
  // Removes leftovers in one workspace and subtracts their number from
  // `budget`.
  Uploads::Swept SweepProject(const core::ProjectName& project,
                              int64_t* budget);
  void SweepUnfinished(int64_t* budget) ABSL_LOCKS_EXCLUDED(unfinished_mutex_);
  void SweepInTurn(int64_t* budget);
  void AddUnfinished(const core::ProjectName& project)
      ABSL_LOCKS_EXCLUDED(unfinished_mutex_);
  absl::Status CopyBytes(fs::File& to, ArtifactReader& from,
                         core::Cancelled cancelled) const;

  core::Catalog* const catalog_;
  const std::shared_ptr<const fs::Dir> base_;
  const base::Clock clock_;
  const base::SteadyClock steady_clock_;
  const std::shared_ptr<core::DiskHealth> health_;
  const std::shared_ptr<core::UsageLedger> ledger_;
  const core::Leases* const leases_;
  ChecksumCache checksums_;
  DirNamesCache dir_names_;
  Claims claims_;
  Placer placer_;
  Uploads uploads_;

  // Workspaces in which SweepSome() has more to remove immediately.
  absl::Mutex unfinished_mutex_;
  absl::flat_hash_set<core::ProjectName> unfinished_
      ABSL_GUARDED_BY(unfinished_mutex_);
  std::atomic<int64_t> unfinished_uploads_ = 0;
  // The next three are used only by SweepSome().
  absl::Duration next_round_ = -absl::InfiniteDuration();
  // The last workspace visited in this round.
  std::optional<core::OrderKey> swept_;
  // The number of unfinished uploads found in this round.
  int64_t unfinished_in_round_ = 0;
};

}  // namespace mlops::artifacts

#endif  // MLOPS_SERVICE_ARTIFACTS_ARTIFACTS_H_
