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

// Tracks how much workspaces with a quota use, without a scan per change. The
// first change of a workspace scans it. After that, each change through the
// service adjusts the count, and each full scan, for any purpose, replaces it.
//
// Changes through the service never make the count too low: files added during
// a scan count in addition to those that the scan found, until the next scan.
// The count lacks files that other programs write until the next scan.
// Therefore the ledger rescans a growing workspace once its last scan is older
// than `max_age`, and refuses a change only after a scan that is at most
// `min_age` old. Scans of one workspace take at most a twentieth of the time:
// if a scan takes long, both ages are at least 20 times its duration.
//
// Thread-safe. Holds no lock during a scan.
class UsageLedger {
 public:
  struct Options {
    base::SteadyClock clock = base::SystemSteadyClock();
    absl::Duration max_age = absl::Minutes(1);
    absl::Duration min_age = absl::Seconds(1);
    // Memory for counts of workspaces that are not being changed: enough for
    // about 50,000.
    size_t max_bytes = size_t{16} << 20;
    // Called when the ledger finds that a workspace exceeds its quota, and when
    // it no longer does, except because it was deleted. is_over() already
    // returns the new answer. Calls may overlap. The ledger does not hold its
    // lock during the call, but its caller may hold another. May be null.
    std::function<void(const Workspace&)> on_flip;
  };
  class Hold;

  explicit UsageLedger(UsageScanner scanner)
      : UsageLedger(std::move(scanner), Options()) {}
  UsageLedger(UsageScanner scanner, Options options);
  UsageLedger(const UsageLedger&) = delete;
  UsageLedger& operator=(const UsageLedger&) = delete;

  // Begins a change that may make `workspace` larger. Scans the workspace if
  // its use is unknown or the last scan is older than `max_age`. Returns null
  // if the workspace has no quota. Returns the scanner's errors, and CANCELLED
  // if `cancelled` returns true while this call scans or waits for a scan.
  absl::StatusOr<std::unique_ptr<Hold>> BeginGrowth(WorkspacePtr workspace,
                                                    Cancelled cancelled);
  // Begins a change that cannot make `workspace` larger. Never scans. Returns
  // null if the workspace has no quota.
  std::unique_ptr<Hold> BeginShrinking(WorkspacePtr workspace);

  // Scans a workspace for any purpose. A scan with sizes of a workspace outside
  // the trash also corrects the count.
  absl::StatusOr<Usage> Scan(const Workspace& workspace, bool counts_only,
                             Cancelled cancelled);

  // Records that the workspace's quota was set, changed or removed.
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
  // The state of one workspace.
  struct Entry {
    std::string project;
    Quota quota;
    // Whether `used` is known.
    bool loaded = false;
    Amount used;
    // Reserved by holds for changes that are not on disk yet.
    Amount reserved;
    // Growth of all changes so far. The difference between two moments is the
    // growth in between, for example during a scan.
    Amount grown;
    // Growth of the changes that are becoming visible right now, which a scan
    // may or may not see.
    Amount in_flight;
    // When the scan on which `used` is based began, and how long it took.
    absl::Duration scan_begun = -absl::InfiniteDuration();
    absl::Duration scan_time = absl::ZeroDuration();
    // Number of scans in progress.
    int scanning = 0;
    // Increases when a scan begins and when it ends.
    uint64_t scan_events = 0;
    // Number of holds, plus scans without a hold.
    int users = 0;
  };
  // The state of an entry when a scan begins.
  struct ScanStart {
    absl::Duration begun;
    Amount grown;
    Amount in_flight;
  };

  // Returns the entry, and counts the caller as a user that must call
  // Release().
  Entry& Acquire(const std::string& key, const Workspace& workspace)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Release(const std::string& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Records whether the workspace exceeds its quota. Returns whether that has
  // changed; if so, call Flipped() after unlocking.
  bool Judge(const std::string& key, const Entry& entry)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Flipped(const Workspace& workspace) const ABSL_LOCKS_EXCLUDED(mutex_);
  // Returns whether the last scan is older than `age`.
  bool IsOlder(const Entry& entry, absl::Duration age) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  ScanStart BeginScan(Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Scans the workspace after BeginScan(). The caller must be a user of
  // `entry`.
  absl::StatusOr<Usage> FinishScan(const std::string& key, Entry& entry,
                                   const ScanStart& start,
                                   const Workspace& workspace,
                                   Cancelled cancelled)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Waits until the use is known. If this caller must scan the workspace,
  // begins the scan and returns its start.
  absl::StatusOr<std::optional<ScanStart>> AwaitLoaded(Entry& entry,
                                                       Cancelled cancelled)
      ABSL_LOCKS_EXCLUDED(mutex_);
  std::unique_ptr<Hold> MakeHold(WorkspacePtr workspace)
      ABSL_LOCKS_EXCLUDED(mutex_);

  const UsageScanner scanner_;
  const Options options_;
  mutable absl::Mutex mutex_;
  absl::CondVar scan_ended_;
  // Entries with users: at most one per change or scan in progress.
  absl::flat_hash_map<std::string, std::unique_ptr<Entry>> used_
      ABSL_GUARDED_BY(mutex_);
  base::LruMap<std::unique_ptr<Entry>> idle_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_set<std::string> over_ ABSL_GUARDED_BY(mutex_);
};

// One change of a workspace that has a quota. Not thread-safe, but different
// holds are independent. The ledger must outlive it. A change calls Reserve()
// any number of times, Place() right before it becomes visible, and Placed()
// once it is. Destroying the hold undoes reservations, and a Place() that was
// not followed by Placed().
class UsageLedger::Hold {
 public:
  // Only UsageLedger makes holds. It has already counted this user of `entry`.
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

  // Loads how much the workspace uses, as BeginGrowth() promises.
  absl::Status Load(Cancelled cancelled);

  // Reserves room for the change, in place of an earlier reservation, so that
  // other changes cannot take it. If the change does not fit, rescans unless
  // the last scan is recent. Returns RESOURCE_EXHAUSTED/NO_SPACE if it still
  // does not fit; the earlier reservation then stays.
  absl::Status Reserve(const Amount& wanted,
                       Cancelled cancelled = NeverCancelled);

  // Checks the change again right before it happens, and counts its growth.
  // Placed() counts the space that it frees. Never scans, so it may be called
  // under a lock. Returns RESOURCE_EXHAUSTED/NO_SPACE if it does not fit.
  absl::Status Place(const Amount& change);
  // Records that the change of Place() has happened.
  void Placed();

  // Records that files were removed.
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
  // Entry::scan_events when this change began. After a later scan event, it is
  // unknown whether the scan still saw the files that this change removes.
  uint64_t scan_events_;
};

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_USAGE_LEDGER_H_
