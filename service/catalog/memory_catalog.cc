#include "service/catalog/memory_catalog.h"

#include <memory>
#include <utility>
#include <variant>

#include "proto/cpp/base/id.h"
#include "proto/cpp/base/status_macros.h"
#include "service/core/errors.h"
#include "service/core/iso_time.h"
#include "service/core/workspace_yaml.h"

namespace mlops::catalog {

using core::Workspace;
using core::WorkspacePtr;

namespace {

// Returns the workspace with the etag that its record would have.
WorkspacePtr Stored(Workspace workspace) {
  workspace.etag = core::RecordEtag(core::EncodeWorkspace(workspace));
  return std::make_shared<const Workspace>(std::move(workspace));
}

absl::Status CheckEtag(const Workspace& current, absl::string_view expected) {
  if (expected.empty() || expected == current.etag) return absl::OkStatus();
  return core::EtagMismatch(current.project.str(), expected, current.etag);
}

}  // namespace

MemoryCatalog::MemoryCatalog(base::Clock clock, absl::Duration purge_delay,
                             core::ChangeLog* changes)
    : clock_(std::move(clock)), purge_delay_(purge_delay), changes_(changes) {}

absl::StatusOr<WorkspacePtr> MemoryCatalog::Get(
    const core::ProjectName& project) {
  absl::ReaderMutexLock lock(&mutex_);
  WorkspacePtr found = index_.Find(project.str());
  if (found == nullptr) return core::WorkspaceNotFound(project.str());
  return found;
}

absl::StatusOr<core::ListPage> MemoryCatalog::List(
    const core::ListQuery& query) {
  absl::ReaderMutexLock lock(&mutex_);
  return index_.Page(query);
}

absl::StatusOr<core::CommitResult> MemoryCatalog::Commit(
    const core::Change& change) {
  absl::MutexLock lock(&mutex_);
  const auto apply = [this](const auto& what) ABSL_EXCLUSIVE_LOCKS_REQUIRED(
                         mutex_) { return Apply(what); };
  ASSIGN_OR_RETURN(WorkspacePtr workspace, std::visit(apply, change));
  return core::CommitResult{.workspace = std::move(workspace)};
}

void MemoryCatalog::Announce(const core::ProjectName& project) {
  absl::MutexLock lock(&mutex_);
  if (const WorkspacePtr workspace = index_.Find(project.str()))
    Report(core::ChangeKind::kUpdated, workspace);
}

absl::StatusOr<WorkspacePtr> MemoryCatalog::Apply(
    const core::CreateChange& change) {
  const std::string& project = change.workspace.project.str();
  if (WorkspacePtr old = index_.Find(project))
    return core::WorkspaceExists(project, old->uid);
  WorkspacePtr workspace = Stored(change.workspace);
  index_.Put(workspace);
  Report(core::ChangeKind::kCreated, workspace);
  return workspace;
}

absl::StatusOr<WorkspacePtr> MemoryCatalog::Apply(
    const core::ReplaceChange& change) {
  const std::string& project = change.workspace.project.str();
  WorkspacePtr old = index_.Find(project);
  if (old == nullptr) return core::WorkspaceNotFound(project);
  RETURN_IF_ERROR(CheckEtag(*old, change.expected_etag));
  WorkspacePtr workspace = Stored(change.workspace);
  index_.Put(workspace);
  Report(core::ChangeKind::kUpdated, workspace);
  return workspace;
}

absl::StatusOr<WorkspacePtr> MemoryCatalog::Apply(
    const core::DeleteChange& change) {
  WorkspacePtr old = index_.Find(change.project.str());
  if (old == nullptr) return core::WorkspaceNotFound(change.project.str());
  RETURN_IF_ERROR(CheckEtag(*old, change.expected_etag));
  Workspace deleted = *old;
  // The trash may already have this uid, for example if a backup of the deleted
  // workspace was restored.
  if (index_.Find(change.project.str(), deleted.uid) != nullptr)
    deleted.uid = base::RandomId();
  deleted.delete_time =
      index_.NextDeleteTime(change.project.str(), core::WholeMicros(clock_()));
  deleted.purge_time = core::ClampTime(*deleted.delete_time + purge_delay_);
  auto workspace = std::make_shared<const Workspace>(std::move(deleted));
  // Put() replaces a workspace only within the trash, so remove the live one.
  index_.Erase(change.project.str());
  index_.Put(workspace);
  Report(core::ChangeKind::kDeleted, workspace);
  return workspace;
}

absl::StatusOr<WorkspacePtr> MemoryCatalog::Apply(
    const core::UndeleteChange& change) {
  const std::string& project = change.project.str();
  WorkspacePtr deleted = change.uid.empty() ? index_.FindLastDeleted(project)
                                            : index_.Find(project, change.uid);
  if (deleted == nullptr)
    return core::NotInTrash(project, change.uid, purge_delay_);
  if (WorkspacePtr live = index_.Find(project))
    return core::WorkspaceExists(project, live->uid);
  Workspace restored = *deleted;
  restored.delete_time.reset();
  restored.purge_time.reset();
  auto workspace = std::make_shared<const Workspace>(std::move(restored));
  index_.Erase(project, deleted->uid);
  index_.Put(workspace);
  Report(core::ChangeKind::kCreated, workspace);
  return workspace;
}

absl::StatusOr<WorkspacePtr> MemoryCatalog::Apply(
    const core::PurgeChange& change) {
  WorkspacePtr deleted = index_.Find(change.project.str(), change.uid);
  if (deleted == nullptr)
    return core::NotInTrash(change.project.str(), change.uid, purge_delay_);
  // Report nothing: for watchers, the workspace is gone since its deletion.
  index_.Erase(change.project.str(), change.uid);
  return deleted;
}

}  // namespace mlops::catalog
