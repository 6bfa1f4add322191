// Reading: Get, List, and keeping the index up to date with the files.
// See file_catalog_commit.cc for writing.
#include "service/catalog/file_catalog.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/status_macros.h"
#include "service/core/errors.h"
#include "service/core/workspace_yaml.h"

namespace mlops::catalog {

using core::ProjectName;
using core::Workspace;
using core::WorkspacePtr;

namespace {

// Converts an error of the file system, which knows only paths, to the error
// that the Catalog contract promises for `project`.
absl::Status RecordError(const absl::Status& status, const ProjectName& project,
                         const std::string& file) {
  if (absl::IsNotFound(status)) return core::WorkspaceNotFound(project.str());
  if (absl::IsOutOfRange(status)) {
    return core::WorkspaceCorrupt(
        project.str(), file, 0,
        absl::StrCat("is larger than ", core::kMaxRecordBytes, " bytes"));
  }
  auto info = base::GetErrorInfo(status).value_or(base::ErrorInfo{});
  if (info.reason == "PATH_UNSUITABLE") {
    return core::PathUnsuitable(project.str(), info.metadata["path"],
                                info.metadata["problem"]);
  }
  if (info.metadata["errno"] == absl::StrCat(EACCES))
    return core::WorkspaceCorrupt(project.str(), file, 0, "permission denied");
  return status;
}

// Returns why the entry at `path`, of type `type`, is not a `wanted`.
std::string Misfit(const fs::Dir& base, absl::string_view path,
                   fs::EntryType type, absl::string_view wanted) {
  if (type != fs::EntryType::kSymlink) return absl::StrCat("is not a ", wanted);
  return base.IsBrokenLink(path)
             ? "is a broken symbolic link: its target does not exist"
             : "is a symbolic link";
}

// Returns whether the problem lasts as long as the file stays unchanged. Any
// other error may be transient.
bool IsLasting(const absl::Status& problem) {
  return absl::IsDataLoss(problem) ||
         base::GetReason(problem) == "PATH_UNSUITABLE";
}

bool IsUnreachable(const absl::Status& problem) {
  return !problem.ok() && !absl::IsNotFound(problem);
}

// Returns whether two records of one project are equal. The etag is a hash of
// the whole file, but the times may come from the file's stamp.
bool AreSame(const WorkspacePtr& a, const WorkspacePtr& b) {
  if (a == nullptr || b == nullptr) return a == b;
  return a == b ||
         (a->etag == b->etag && a->uid == b->uid &&
          a->create_time == b->create_time && a->update_time == b->update_time);
}

}  // namespace

absl::StatusOr<WorkspacePtr> FileCatalog::Entry::result() const {
  if (workspace == nullptr) return problem;
  return workspace;
}

bool FileCatalog::Entry::visible() const {
  return workspace != nullptr || IsUnreachable(problem);
}

std::string FileCatalog::RootPath(const ProjectName& project) const {
  return absl::StrCat(base_path_, "/", project.str());
}

std::string FileCatalog::RecordFile(const ProjectName& project) const {
  return absl::StrCat(base_path_, "/", core::layout::RecordPath(project));
}

absl::StatusOr<WorkspacePtr> FileCatalog::Get(const ProjectName& project) {
  const auto stamp = base_->Stat(core::layout::RecordPath(project));
  {
    // Serve the common case under the lock, to copy only the result and not the
    // whole entry.
    absl::ReaderMutexLock lock(&mutex_);
    const auto it = entries_.find(project);
    if (it != entries_.end() && IsCurrent(it->second, stamp))
      return it->second.result();
  }
  const Entry entry = FindEntry(project);
  if (IsCurrent(entry, stamp)) return entry.result();
  return Reload(project, entry).result();
}

absl::StatusOr<core::ListPage> FileCatalog::List(const core::ListQuery& query) {
  absl::ReaderMutexLock lock(&mutex_);
  core::ListPage page = index_.Page(query);
  // Only the first page lists the unreachable projects.
  if (query.after) return page;
  for (const ProjectName& project : unreachable_) {
    if (page.unreachable.size() == core::kMaxUnreachable) break;
    page.unreachable.push_back(project.str());
  }
  return page;
}

FileCatalog::Entry FileCatalog::FindEntry(const ProjectName& project) const {
  absl::ReaderMutexLock lock(&mutex_);
  const auto it = entries_.find(project);
  if (it != entries_.end()) return it->second;
  return Entry{.problem = core::WorkspaceNotFound(project.str()),
               .version = last_version_};
}

bool FileCatalog::IsCurrent(const Entry& entry,
                            const absl::StatusOr<fs::FileStamp>& stamp) const {
  if (!stamp.ok())
    return absl::IsNotFound(stamp.status()) && absl::IsNotFound(entry.problem);
  // A stamp as young as the read cannot rule out a later edit in the same tick.
  return *stamp == entry.stamp && !fs::MayBeRacy(*stamp, entry.read_time);
}

FileCatalog::Entry FileCatalog::ReadEntry(const ProjectName& project,
                                          const Entry& old) const {
  const std::string file = RecordFile(project);
  // Take the time before the read, so that IsCurrent() distrusts any stamp
  // written during it.
  Entry entry{.read_time = options_.clock()};
  const auto content =
      base_->ReadFile(core::layout::RecordPath(project), core::kMaxRecordBytes);
  if (!content.ok()) {
    entry.problem = RecordError(content.status(), project, file);
    // An error names one path. Two names lead to the record; report the first
    // one that is unsuitable.
    const auto root = base_->Stat(project.str());
    const auto record = base_->Stat(core::layout::RecordPath(project));
    if (root.ok() && root->type != fs::EntryType::kDirectory) {
      entry.problem = core::PathUnsuitable(
          project.str(), RootPath(project),
          Misfit(*base_, project.str(), root->type, "directory"));
    } else if (record.ok() && record->type == fs::EntryType::kSymlink) {
      entry.problem =
          core::PathUnsuitable(project.str(), file,
                               Misfit(*base_, core::layout::RecordPath(project),
                                      record->type, "file"));
    }
    // Keep the stamp only of a lasting problem. Without a stamp the next Get
    // rereads the file, because the failure may be transient.
    if (record.ok() && IsLasting(entry.problem)) entry.stamp = *record;
    return entry;
  }
  entry.stamp = content->stamp;
  entry.etag = core::RecordEtag(content->data);
  // The same text in the same file decodes to the same values. Another file may
  // have other times, which a hand-made record takes from the stamp.
  if (entry.etag == old.etag && old.stamp.inode == entry.stamp.inode) {
    entry.workspace = old.workspace;
    entry.problem = old.problem;
    return entry;
  }
  auto workspace = core::DecodeWorkspace(
      content->data, {.project = project,
                      .root_path = RootPath(project),
                      .file = file,
                      .modify_time = content->stamp.modify_time});
  if (workspace.ok()) {
    entry.workspace = std::make_shared<const Workspace>(*std::move(workspace));
  } else {
    entry.problem = workspace.status();
  }
  return entry;
}

FileCatalog::Entry FileCatalog::Reload(const ProjectName& project,
                                       const Entry& old) {
  Entry entry = ReadEntry(project, old);
  const bool passing = !entry.problem.ok() &&
                       !absl::IsNotFound(entry.problem) &&
                       !IsLasting(entry.problem);
  // Keep listing a workspace that was readable before a transient failure; only
  // this caller gets the error.
  if (passing && old.workspace != nullptr) return entry;
  // Do not keep an entry, and poll its file, for a name that cannot become a
  // workspace.
  if (entry.workspace == nullptr && !MayBecomeWorkspace(project)) {
    Forget(project, old.version);
  } else if (Publish(project, old.version, entry)) {
    LogChange(project, old, entry);
  }
  return entry;
}

void FileCatalog::LogChange(const ProjectName& project, const Entry& old,
                            const Entry& entry) const {
  if (IsUnreachable(entry.problem)) {
    // Log a lasting problem once, not on every read.
    if (entry.problem == old.problem) return;
    record_log_.Write(
        absl::StrCat("workspace ", project.str(),
                     " cannot be read: ", entry.problem.message()));
  } else if (old.workspace != nullptr && entry.workspace != nullptr &&
             entry.etag != old.etag && !IsBeingWritten(entry.etag)) {
    record_log_.Write(
        absl::StrCat("workspace ", project.str(),
                     ": another program changed its record, etag ", old.etag,
                     " to ", entry.etag));
  }
}

bool FileCatalog::IsBeingWritten(const std::string& etag) const {
  absl::ReaderMutexLock lock(&mutex_);
  return being_written_.contains(etag);
}

bool FileCatalog::MayBecomeWorkspace(const ProjectName& project) const {
  // A regular file in the base, such as a README, cannot become a workspace.
  const auto stamp = base_->Stat(project.str());
  return stamp.ok() ? stamp->type != fs::EntryType::kFile
                    : !absl::IsNotFound(stamp.status());
}

bool FileCatalog::Publish(const ProjectName& project, uint64_t seen,
                          Entry entry) {
  absl::MutexLock lock(&mutex_);
  // Another thread has changed the entry since `seen`, so the one that this
  // caller has read may be stale.
  if (Version(project) > seen) return false;
  Store(project, std::move(entry));
  return true;
}

uint64_t FileCatalog::Version(const ProjectName& project) const {
  const auto it = entries_.find(project);
  return it == entries_.end() ? last_forget_version_ : it->second.version;
}

void FileCatalog::Store(const ProjectName& project, Entry entry) {
  entry.version = ++last_version_;
  // Keep the old workspace if only the stamp has changed, so that the index
  // needs no update.
  Entry& stored = entries_.try_emplace(project).first->second;
  if (AreSame(entry.workspace, stored.workspace))
    entry.workspace = stored.workspace;
  ReportChange(project, stored, entry);
  if (entry.workspace == nullptr) {
    index_.Erase(project.str());
  } else if (entry.workspace != stored.workspace) {
    index_.Put(entry.workspace);
  }
  if (IsUnreachable(entry.problem)) {
    unreachable_.insert(project);
  } else {
    unreachable_.erase(project);
  }
  stored = std::move(entry);
}

void FileCatalog::StoreAll(std::vector<Loaded> loaded) {
  std::vector<WorkspacePtr> workspaces;
  workspaces.reserve(loaded.size());
  for (Loaded& one : loaded) {
    one.entry.version = ++last_version_;
    if (one.entry.workspace != nullptr)
      workspaces.push_back(one.entry.workspace);
    if (IsUnreachable(one.entry.problem)) unreachable_.insert(one.project);
    // `loaded` is sorted by name, so the end is always the right hint.
    entries_.emplace_hint(entries_.end(), std::move(one.project),
                          std::move(one.entry));
  }
  index_.AddAll(workspaces, options_.load_threads);
}

void FileCatalog::ReportChange(const ProjectName& project, const Entry& old,
                               const Entry& entry) const {
  if (options_.changes == nullptr) return;
  using core::ChangeKind;
  // The log needs a workspace even for an unreadable record.
  const auto shown = [&project](const WorkspacePtr& workspace) {
    return workspace != nullptr ? workspace
                                : core::UnreadableWorkspace(project);
  };
  if (!entry.visible()) {
    if (old.visible())
      options_.changes->Append(ChangeKind::kDeleted, shown(old.workspace));
    return;
  }
  // A new uid means another workspace: someone has replaced the directory.
  const bool replaced = old.workspace != nullptr &&
                        entry.workspace != nullptr &&
                        old.workspace->uid != entry.workspace->uid;
  if (!old.visible() || replaced) {
    options_.changes->Append(ChangeKind::kCreated, shown(entry.workspace));
  } else if (!AreSame(old.workspace, entry.workspace)) {
    options_.changes->Append(ChangeKind::kUpdated, shown(entry.workspace));
  }
}

void FileCatalog::Announce(const ProjectName& project) {
  // The exclusive lock keeps the log in the order of the index: no later state
  // can get in between the lookup and the append.
  absl::MutexLock lock(&mutex_);
  const auto it = entries_.find(project);
  if (options_.changes == nullptr || it == entries_.end() ||
      it->second.workspace == nullptr)
    return;
  options_.changes->Append(core::ChangeKind::kUpdated, it->second.workspace);
}

void FileCatalog::Forget(const ProjectName& project, uint64_t seen,
                         const Workspace* deleted) {
  absl::MutexLock lock(&mutex_);
  const auto it = entries_.find(project);
  // Another thread has stored the entry since this caller's read failed.
  if (Version(project) > seen || it == entries_.end()) return;
  Entry old = std::move(it->second);
  entries_.erase(it);
  // Watchers learn the deletion's times and, if it changed, the new uid.
  if (deleted != nullptr && old.workspace != nullptr)
    old.workspace = std::make_shared<const Workspace>(*deleted);
  ReportChange(project, old, Entry{});
  unreachable_.erase(project);
  index_.Erase(project.str());
  // A missing entry has no version. This one stands for all of them, so that
  // Publish() rejects a record that was read before the removal.
  last_forget_version_ = ++last_version_;
}

absl::Status FileCatalog::RefreshNames() {
  // Take the time and the stamp before listing, so that the next call detects
  // an entry that appears while the list is read.
  const absl::Time now = options_.clock();
  ASSIGN_OR_RETURN(const fs::FileStamp stamp, base_->StatSelf());
  {
    absl::MutexLock lock(&mutex_);
    if (stamp == names_stamp_ && !fs::MayBeRacy(stamp, names_read_time_))
      return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const std::vector<ProjectName> names, ListNames());
  // Names in the directory but not in the index, or vice versa.
  std::vector<ProjectName> differing;
  {
    absl::MutexLock lock(&mutex_);
    names_stamp_ = stamp;
    names_read_time_ = now;
    // Compare two sorted sequences in one pass.
    auto known = entries_.begin();
    for (const ProjectName& name : names) {
      for (; known != entries_.end() && known->first < name; ++known)
        differing.push_back(known->first);
      if (known != entries_.end() && known->first == name) {
        ++known;
      } else {
        differing.push_back(name);
      }
    }
    for (; known != entries_.end(); ++known) differing.push_back(known->first);
  }
  // Reload outside the lock, because it reads files. RefreshRecord() is not
  // enough: it takes a missing record for unchanged, even if the directory is
  // gone too.
  for (const ProjectName& project : differing)
    Reload(project, FindEntry(project));
  return absl::OkStatus();
}

std::vector<ProjectName> FileCatalog::NextProjects(size_t count) {
  std::vector<ProjectName> next;
  absl::MutexLock lock(&mutex_);
  // Resume by name, because entries may have come and gone since the last call.
  auto it = entries_.begin();
  if (auto from = ProjectName::Parse(last_project_); from.ok())
    it = entries_.upper_bound(*from);
  for (; it != entries_.end() && next.size() < count; ++it)
    next.push_back(it->first);
  last_project_ = it == entries_.end() ? "" : next.back().str();
  return next;
}

void FileCatalog::RefreshRecord(const ProjectName& project) {
  Get(project).status().IgnoreError();
}

}  // namespace mlops::catalog
