#ifndef MLOPS_SERVICE_CORE_CHANGE_LOG_H_
#define MLOPS_SERVICE_CORE_CHANGE_LOG_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "service/core/project_name.h"
#include "service/core/resume_token.h"
#include "service/core/workspace.h"

namespace mlops::core {

enum class ChangeKind { kCreated, kUpdated, kDeleted };

// A change of one project. Immutable and shared.
struct LoggedChange {
  // Increases by one with every change. The first has 1.
  int64_t sequence = 0;
  ChangeKind kind = ChangeKind::kUpdated;
  // The state after the change, or a later state; never null. For a deleted
  // workspace it has only the project and, if known, the uid and the times. For
  // a workspace with an unreadable record it has only the project.
  WorkspacePtr workspace;
};
using LoggedChangePtr = std::shared_ptr<const LoggedChange>;

// Returns a workspace with nothing but the project's name.
WorkspacePtr UnreadableWorkspace(const ProjectName& project);

// Remembers which projects changed, in the order of their last changes, for
// watchers that pull. It keeps the last change of each project, and also its
// creation, so that no watcher sees an update before the creation. A watcher
// that has missed earlier changes gets the current state instead. When the
// changes take more than `max_bytes`, the log forgets the oldest, and watchers
// that needed them have lost their position. Watchers are cursors, which cost
// this class nothing.
//
// A position survives a restart if the next server knows every change since.
// Each server process is a run with a random id. A run that loads the saved
// history of an earlier run continues its sequence and becomes its descendant.
// It accepts the earlier run's positions up to the moment of the save, which
// all descendants share, and no later ones: after a crash or in a copied base
// directory, later changes of the earlier run are unknown.
//
// Thread-safe. No method except WaitBeyond() blocks on anything but a short
// lock. The lock is a leaf, so callers may hold other locks.
class ChangeLog {
 public:
  static constexpr size_t kDefaultBytes = size_t{16} << 20;

  explicit ChangeLog(size_t max_bytes = kDefaultBytes);

  // Appends a change; `workspace` is the state after it, or the state before
  // a deletion. Takes about a microsecond.
  void Append(ChangeKind kind, WorkspacePtr workspace)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Returns the sequence of the last change, or 0.
  int64_t last() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Returns the position of a watcher that knows every change up to `sequence`.
  // Leaves `view` and `listed_through` unset.
  ResumePoint PointAt(int64_t sequence) const ABSL_LOCKS_EXCLUDED(mutex_);
  // Returns the sequence that `point` means in this run. Returns
  // OUT_OF_RANGE/RESUME_TOKEN_EXPIRED if changes after it are unknown.
  absl::StatusOr<int64_t> Resume(const ResumePoint& point) const
      ABSL_LOCKS_EXCLUDED(mutex_);

  // The result of Next().
  struct Found {
    // The first wanted change after the cursor; null if there is none.
    LoggedChangePtr change;
    // The new cursor: it skips unwanted changes, but not `change`.
    int64_t cursor = 0;
    // Whether the search ended early, so that it should continue at `cursor`.
    bool more = false;
  };
  // Searches up to `max_changes` changes after `cursor` for the first one whose
  // project is wanted. Returns OUT_OF_RANGE/RESUME_TOKEN_EXPIRED if the log has
  // forgotten changes after `cursor`.
  absl::StatusOr<Found> Next(
      int64_t cursor, absl::FunctionRef<bool(absl::string_view project)> wants,
      int max_changes) const ABSL_LOCKS_EXCLUDED(mutex_);

  // Like Next(), but looks up each of `projects`, which should be few, so the
  // time does not depend on the number of other changes.
  absl::StatusOr<Found> NextOf(
      int64_t cursor, absl::Span<const ProjectName> projects,
      absl::FunctionRef<bool(absl::string_view project)> wants) const
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Waits until last() exceeds `sequence`, `timeout` has passed, or Interrupt()
  // was called. Returns whether there is a new change.
  bool WaitBeyond(int64_t sequence, absl::Duration timeout) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Ends all current waits, and makes later ones return at once.
  void Interrupt() ABSL_LOCKS_EXCLUDED(mutex_);

  // Whether `sequence` is in the older half of the sequences that the log still
  // knows, so that a watcher there may soon lose its position.
  bool IsOld(int64_t sequence) const ABSL_LOCKS_EXCLUDED(mutex_);

  // Returns an estimate of the memory in use, in bytes.
  size_t bytes() const ABSL_LOCKS_EXCLUDED(mutex_);

  // A copy of the log's state, which shares the changes.
  struct History {
    struct Run {
      std::string id;
      // The last change that the run and its descendants have in common.
      int64_t last = 0;
    };
    // The runs that made the changes, oldest first. The last one is the run
    // that saved the history.
    std::vector<Run> runs;
    int64_t forgotten = 0;
    std::vector<LoggedChangePtr> changes;
  };
  History Save() const ABSL_LOCKS_EXCLUDED(mutex_);

  // Continues a saved history. Must precede every other call.
  void Restore(History history) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // The changes of one project.
  struct Of {
    // 0 if it is deleted, or its creation was forgotten.
    int64_t created = 0;
    int64_t last = 0;
  };

  // Adds a change to the maps, and drops those that it supersedes.
  void Put(LoggedChangePtr change) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Removes a change from changes_. No-op if it is 0.
  void Drop(int64_t sequence) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ForgetOldest() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Returns the saved runs and this one.
  std::vector<History::Run> Runs() const ABSL_SHARED_LOCKS_REQUIRED(mutex_);

  const size_t max_bytes_;
  // The id of this run.
  const std::string run_;
  mutable absl::Mutex mutex_;
  // The runs that this one continues, oldest first.
  std::vector<History::Run> ancestors_ ABSL_GUARDED_BY(mutex_);
  absl::btree_map<int64_t, LoggedChangePtr> changes_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::string, Of> by_project_ ABSL_GUARDED_BY(mutex_);
  int64_t last_ ABSL_GUARDED_BY(mutex_) = 0;
  // The last change that ForgetOldest() dropped, in this run or an earlier one.
  int64_t forgotten_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool interrupted_ ABSL_GUARDED_BY(mutex_) = false;
};

// Encodes a history, without the workspaces that still exist.
std::string EncodeHistory(const ChangeLog::History& history);

// Decodes the output of EncodeHistory(). `find` must return the state that a
// workspace had when the history was saved, or null if its record could not be
// read. Returns INVALID_ARGUMENT (without a reason) if `text` is malformed.
absl::StatusOr<ChangeLog::History> DecodeHistory(
    absl::string_view text,
    absl::FunctionRef<WorkspacePtr(absl::string_view project)> find);

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_CHANGE_LOG_H_
