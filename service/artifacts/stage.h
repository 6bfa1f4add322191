#ifndef MLOPS_SERVICE_ARTIFACTS_STAGE_H_
#define MLOPS_SERVICE_ARTIFACTS_STAGE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "service/core/disk_health.h"
#include "service/core/template.h"
#include "service/core/usage.h"
#include "service/fs/dir.h"

// Directories below `.staging` that are filled with the files of a new
// workspace, which then appears by one rename:
//
//   ASSIGN_OR_RETURN(auto tree, stage.Begin());
//   ASSIGN_OR_RETURN(auto file, tree->root().CreateFile("models/a"));
//   ... file->Write(data) ...
//   RETURN_IF_ERROR(tree->Finish(std::move(file)));
//   RETURN_IF_ERROR(tree->Sync(cancelled));
//   ASSIGN_OR_RETURN(auto workspace, authority->Create(
//       {.project = project, .staged = tree->name()}));
namespace mlops::artifacts {

// One such directory. The destructor removes it unless it has become
// a workspace; the next start of the server removes those that a crash left.
// Not thread-safe.
class StagedTree : public core::StagedFiles {
 public:
  // Number of files up to which syncing each of them is cheaper than syncing
  // the whole file system.
  static constexpr int64_t kSyncEach = 64;

  ~StagedTree() override;
  StagedTree(const StagedTree&) = delete;
  StagedTree& operator=(const StagedTree&) = delete;

  // The name in the staging directory, for core::CreateArgs::staged.
  const std::string& name() const override { return name_; }
  // The directory to fill. The five directories do not exist yet;
  // those that the caller does not create are added by the catalog.
  // Nobody but the server's user can enter it before Sync().
  fs::Dir& root() { return *root_; }

  // Closes a file that was created below root(). Sync() makes it durable,
  // if that has not happened yet.
  absl::Status Finish(std::unique_ptr<fs::File> file);

  // Makes everything below root() durable. Call it once, after the last change.
  // Returns CANCELLED once `cancelled` returns true, and the errors of fs::Dir.
  // A failure concerns only this tree, because no client has seen it.
  absl::Status Sync(core::Cancelled cancelled = core::NeverCancelled);

 private:
  friend class Stage;
  StagedTree(std::shared_ptr<fs::Dir> staging, std::string name,
             std::unique_ptr<fs::Dir> root, uint32_t mode)
      : staging_(std::move(staging)),
        name_(std::move(name)),
        root_(std::move(root)),
        mode_(mode),
        can_sync_all_(root_->CanSyncAll()) {}

  absl::Status SyncDirs(core::Cancelled cancelled);

  const std::shared_ptr<fs::Dir> staging_;
  const std::string name_;
  const std::unique_ptr<fs::Dir> root_;
  // The permissions that a new workspace gets.
  const uint32_t mode_;
  const bool can_sync_all_;
  int64_t file_count_ = 0;
};

// Creates staged directories. Thread-safe.
class Stage {
 public:
  // `base` is the base directory.
  Stage(std::shared_ptr<fs::Dir> base, std::shared_ptr<core::DiskHealth> health)
      : base_(std::move(base)), health_(std::move(health)) {}

  // Returns a new, empty directory. Returns the errors of DiskHealth::Check()
  // and of fs::Dir.
  absl::StatusOr<std::unique_ptr<StagedTree>> Begin()
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  absl::StatusOr<std::shared_ptr<fs::Dir>> OpenStaging()
      ABSL_LOCKS_EXCLUDED(mutex_);

  const std::shared_ptr<fs::Dir> base_;
  const std::shared_ptr<core::DiskHealth> health_;
  absl::Mutex mutex_;
  // Null until the first Begin().
  std::shared_ptr<fs::Dir> staging_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mlops::artifacts

#endif  // MLOPS_SERVICE_ARTIFACTS_STAGE_H_
