#ifndef MLOPS_SERVICE_CATALOG_MEMORY_CATALOG_H_
#define MLOPS_SERVICE_CATALOG_MEMORY_CATALOG_H_

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "service/base/clock.h"
#include "service/core/catalog.h"
#include "service/core/change_log.h"
#include "service/core/index.h"

namespace mlops::catalog {

// A catalog without files. It defines the behaviour that all catalogs share.
// Destroying it loses its content. Thread-safe.
class MemoryCatalog : public core::Catalog {
 public:
  // Sets the purge_time of deleted workspaces to `purge_delay` after their
  // deletion, but only a PurgeChange removes them. `changes` may be null;
  // otherwise it must outlive this object.
  explicit MemoryCatalog(base::Clock clock = base::SystemClock(),
                         absl::Duration purge_delay = absl::Hours(72),
                         core::ChangeLog* changes = nullptr);

  absl::StatusOr<core::WorkspacePtr> Get(
      const core::ProjectName& project) override;
  absl::StatusOr<core::ListPage> List(const core::ListQuery& query) override;
  absl::StatusOr<core::CommitResult> Commit(
      const core::Change& change) override;
  void Announce(const core::ProjectName& project) override;

 private:
  void Report(core::ChangeKind kind, const core::WorkspacePtr& workspace)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (changes_ != nullptr) changes_->Append(kind, workspace);
  }

  absl::StatusOr<core::WorkspacePtr> Apply(const core::CreateChange& change)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<core::WorkspacePtr> Apply(const core::ReplaceChange& change)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<core::WorkspacePtr> Apply(const core::DeleteChange& change)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<core::WorkspacePtr> Apply(const core::UndeleteChange& change)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<core::WorkspacePtr> Apply(const core::PurgeChange& change)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const base::Clock clock_;
  const absl::Duration purge_delay_;
  core::ChangeLog* const changes_;
  absl::Mutex mutex_;
  core::Index index_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mlops::catalog

#endif  // MLOPS_SERVICE_CATALOG_MEMORY_CATALOG_H_
