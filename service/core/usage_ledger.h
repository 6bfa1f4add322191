#ifndef MLOPS_SERVICE_CORE_USAGE_LEDGER_H_
#define MLOPS_SERVICE_CORE_USAGE_LEDGER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "service/base/clock.h"
#include "service/base/lru_map.h"
#include "service/core/quota.h"
#include "service/core/usage.h"
#include "service/core/workspace.h"

namespace mlops::core {

// Knows how much the workspaces that have a quota use, without a scan
// per change. A workspace is scanned at its first change; after that each
// change through the service adjusts the count, and each scan, whoever asked
// for it, replaces it.
//
// The count is never too low because of changes through the service: what
// changes while a scan runs counts in addition to what the scan found, until
// the next scan. Files that other programs write are missing until the next
// scan. Therefore a growing workspace is scanned again once its last scan is
// `max_age` old, and a change is refused only after a scan that is at most
// `min_age` old. Scans of one workspace take at most a twentieth of the time:
// for one whose scan takes long, both ages are at least 20 times that.
//
// Thread-safe. Holds no lock during a scan.
class UsageLedger {
 public:
  struct Options {
    base::SteadyClock clock = base::SystemSteadyClock();
    absl::Duration max_age = absl::Minutes(1);
    absl::Duration min_age = absl::Seconds(1);
    // Memory for counts of workspaces that are not being changed: enough
    // for some 50,000.
    size_t max_bytes = size_t{16} << 20;
    // Called when it becomes known that a workspace uses more than its quota,
    // and when it no longer does, except by its deletion. is_over() already
    // returns the new answer. Calls may overlap. Called without the ledger's
    // lock, but possibly under a lock of the caller. May be null.
    std::function<void(const Workspace&)> on_flip;
  };
  class Hold;

  explicit UsageLedger(UsageScanner scanner)
      : UsageLedger(std::move(scanner), Options()) {}
  UsageLedger(UsageScanner scanner, Options options);
  UsageLedger(const UsageLedger&) = delete;
  UsageLedger& operator=(const UsageLedger&) = delete;

  // Begins a change that may make `workspace` larger. Scans the workspace
  // if its use is unknown or was last scanned long ago. Returns null
  // if the workspace has no quota. Returns the scanner's errors, and CANCELLED
  // if `cancelled` returns true while this call scans or waits for a scan.
  absl::StatusOr<std::unique_ptr<Hold>> BeginGrowth(WorkspacePtr workspace,
                                                    Cancelled cancelled);
  // Begins a change that makes `workspace` at most smaller. Never scans.
  // Returns null if the workspace has no quota.
  std::unique_ptr<Hold> BeginShrinking(WorkspacePtr workspace);

  // Scans a workspace for any purpose, and corrects the count.
  absl::StatusOr<Usage> Scan(const Workspace& workspace, bool counts_only,
                             Cancelled cancelled);

  // Tells that the workspace's quota was set, changed or removed.
  void NoteQuota(const Workspace& workspace);
  // Forgets a workspace, because it was deleted.
  void Forget(const Workspace& workspace);

  // Returns whether the workspace used more than its quota when it was last
  // scanned or changed.
  bool is_over(const Workspace& workspace) const;
  // Returns the number of such workspaces.
  int64_t over_quota_count() const;
  // Returns the memory in use, in bytes.
  size_t bytes() const;

 private:
  // What is known about one workspace.
  struct Entry {
    std::string project;
    Quota quota;
    // Whether `used` is known.
    bool loaded = false;
    Amount used;
    // What holds have reserved for changes that are not on disk yet.
    Amount reserved;
    // Growth of all changes so far. Tells what was added during a scan.
    Amount grown;
    // Growth of the changes that are being made visible right now, which a scan
    // may or may not see.
    Amount in_flight;
    // When the scan began that `used` is based on, and how long it took.
    absl::Duration scan_begun = -absl::InfiniteDuration();
    absl::Duration scan_time = absl::ZeroDuration();
    // Number of scans in progress.
    int scanning = 0;
    // Increases when a scan begins and when it ends.
    uint64_t scan_events = 0;
    // Number of holds, and of scans that no hold waits for.
    int users = 0;
  };
  // The state of an entry when a scan begins.
  struct ScanStart {
    absl::Duration begun;
    Amount grown;
    Amount in_flight;
  };

  // Returns the entry and counts a user, which must call Release().
  Entry& Acquire(const std::string& key, const Workspace& workspace)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Release(const std::string& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Records whether the workspace is over its quota. Returns whether that has
  // changed: then call Flipped() after unlocking.
  bool Judge(const std::string& key, const Entry& entry)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Flipped(const Workspace& workspace) const ABSL_LOCKS_EXCLUDED(mutex_);
  // Returns whether the last scan is older than `age`.
  bool IsOlder(const Entry& entry, absl::Duration age) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  ScanStart BeginScan(Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Scans the workspace of an entry that the caller uses, after BeginScan().
  absl::StatusOr<Usage> FinishScan(const std::string& key, Entry& entry,
                                   const ScanStart& start,
                                   const Workspace& workspace,
                                   Cancelled cancelled)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Waits until the use is known, and returns the start of the scan if this
  // caller must find out.
  absl::StatusOr<std::optional<ScanStart>> AwaitLoaded(Entry& entry,
                                                       Cancelled cancelled)
      ABSL_LOCKS_EXCLUDED(mutex_);
  std::unique_ptr<Hold> MakeHold(WorkspacePtr workspace)
      ABSL_LOCKS_EXCLUDED(mutex_);

  const UsageScanner scanner_;
  const Options options_;
  mutable absl::Mutex mutex_;
  absl::CondVar scan_ended_;
  // Entries with users. As many as there are changes and scans in progress.
  absl::flat_hash_map<std::string, std::unique_ptr<Entry>> used_
      ABSL_GUARDED_BY(mutex_);
  base::LruMap<std::unique_ptr<Entry>> idle_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_set<std::string> over_ ABSL_GUARDED_BY(mutex_);
};

// One change of a workspace that has a quota. Not thread-safe, but different
// holds are independent. The ledger must outlive it. A change calls Reserve()
// any number of times, Place() right before it becomes visible, and Placed()
// once it is. Destroying the hold takes back what is not on disk.
class UsageLedger::Hold {
 public:
  // Made by UsageLedger, which has counted this user of `entry`.
  Hold(UsageLedger* ledger, std::string key, WorkspacePtr workspace,
       Entry* entry)
      : ledger_(ledger),
        key_(std::move(key)),
        workspace_(std::move(workspace)),
        entry_(entry),
        scan_events_(entry->scan_events) {}
  ~Hold();
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;

  // Finds out how much the workspace uses, as BeginGrowth() promises.
  absl::Status Load(Cancelled cancelled);

  // Sets what the change will add, so that other changes cannot take the room
  // meanwhile. If it does not fit, scans unless the last scan is recent, and
  // returns RESOURCE_EXHAUSTED/NO_SPACE if it still does not fit;
  // the reservation then stays as it was.
  absl::Status Reserve(const Amount& wanted,
                       Cancelled cancelled = NeverCancelled);

  // Checks the change again as it is about to happen, and counts it. Never
  // scans, so that it may be called under a lock. What the change frees counts
  // once it is Placed(). Returns RESOURCE_EXHAUSTED/NO_SPACE.
  absl::Status Place(const Amount& change);
  // Tells that the change of Place() happened.
  void Placed();

  // Tells that files were removed.
  void Removed(const Amount& removed);

 private:
  absl::Status Scan(const ScanStart& start, Cancelled cancelled);
  // Reserves without a scan.
  absl::Status TryReserve(const Amount& wanted);
  void Subtract(const Amount& freed)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(ledger_->mutex_);

  UsageLedger* const ledger_;
  const std::string key_;
  const WorkspacePtr workspace_;
  Entry* const entry_;  // Its content is guarded by the ledger's mutex.
  Amount reserved_;
  // The change of Place(), until it is Placed().
  Amount placing_;
  // Entry::scan_events when this change began. After a later scan it is unknown
  // whether the scan still saw what this change removes.
  uint64_t scan_events_;
};

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_USAGE_LEDGER_H_
