#include "service/core/usage_ledger.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "proto/cpp/base/status_macros.h"
#include "service/core/errors.h"

namespace mlops::core {
namespace {

// Scans of one workspace take at most one part in this many of the time.
constexpr int kScanShare = 20;
// Maximum size of the set of workspaces that exceed their quota.
constexpr size_t kMaxOver = 100'000;

// As in StatusCache: a uid alone is not unique.
std::string KeyOf(const Workspace& workspace) {
  return absl::StrCat(workspace.uid, " ", workspace.root_path);
}

// Growth() returns only what the change adds, Shrinkage() only what it frees.
Amount Growth(const Amount& change) {
  return {.file_count = std::max<int64_t>(change.file_count, 0),
          .size_bytes = std::max<int64_t>(change.size_bytes, 0)};
}
Amount Shrinkage(const Amount& change) { return Growth(Amount() - change); }

}  // namespace

UsageLedger::UsageLedger(UsageScanner scanner, Options options)
    : scanner_(std::move(scanner)),
      options_(std::move(options)),
      idle_(options_.max_bytes) {}

UsageLedger::Entry& UsageLedger::Acquire(const std::string& key,
                                         const Workspace& workspace) {
  std::unique_ptr<Entry>& entry = used_[key];
  if (entry == nullptr) {
    auto idle = idle_.Take(key);
    entry = idle ? *std::move(idle) : std::make_unique<Entry>();
  }
  ++entry->users;
  // The quota may have changed since the entry was last used, even by hand.
  entry->project = workspace.project.str();
  entry->quota = workspace.quota;
  return *entry;
}

void UsageLedger::Release(const std::string& key) {
  const auto it = used_.find(key);
  if (--it->second->users > 0) return;
  std::unique_ptr<Entry> entry = std::move(it->second);
  used_.erase(it);
  // Keep only entries whose use is known.
  if (!entry->loaded) return;
  const size_t bytes = sizeof(Entry) + entry->project.capacity();
  idle_.Put(key, std::move(entry), bytes);
}

bool UsageLedger::Judge(const std::string& key, const Entry& entry) {
  if (entry.loaded && IsOverQuota(entry.quota, entry.used))
    return over_.size() < kMaxOver && over_.insert(key).second;
  return over_.erase(key) > 0;
}

void UsageLedger::Flipped(const Workspace& workspace) const {
  if (options_.on_flip != nullptr) options_.on_flip(workspace);
}

bool UsageLedger::IsOlder(const Entry& entry, absl::Duration age) const {
  return options_.clock() - entry.scan_begun >
         std::max(age, kScanShare * entry.scan_time);
}

UsageLedger::ScanStart UsageLedger::BeginScan(Entry& entry) {
  ++entry.scanning;
  ++entry.scan_events;
  return {.begun = options_.clock(),
          .grown = entry.grown,
          .in_flight = entry.in_flight};
}

absl::StatusOr<Usage> UsageLedger::FinishScan(const std::string& key,
                                              Entry& entry,
                                              const ScanStart& start,
                                              const Workspace& workspace,
                                              Cancelled cancelled) {
  absl::StatusOr<Usage> usage = scanner_(workspace, false, cancelled);
  bool flipped = false;
  {
    absl::MutexLock lock(&mutex_);
    --entry.scanning;
    ++entry.scan_events;
    // Wake the waiting callers even after a failure, so that one of them scans.
    scan_ended_.SignalAll();
    // Ignore this scan if a later one has already set the count.
    if (!usage.ok() || start.begun < entry.scan_begun) return usage;
    // It is unknown whether the scan saw files that were added during it, or
    // that were becoming visible when it began. Add both: counting a file twice
    // is safe, but missing one could exceed the quota.
    entry.used =
        AmountOf(*usage) + (entry.grown - start.grown) + start.in_flight;
    entry.loaded = true;
    entry.scan_begun = start.begun;
    entry.scan_time = options_.clock() - start.begun;
    flipped = Judge(key, entry);
  }
  if (flipped) Flipped(workspace);
  return usage;
}

absl::StatusOr<std::optional<UsageLedger::ScanStart>> UsageLedger::AwaitLoaded(
    Entry& entry, Cancelled cancelled) {
  absl::MutexLock lock(&mutex_);
  while (true) {
    // Only one caller scans. The others continue with an old count if there is
    // one, and otherwise wait.
    if (entry.scanning == 0 &&
        (!entry.loaded || IsOlder(entry, options_.max_age)))
      return BeginScan(entry);
    if (entry.loaded) return std::nullopt;
    if (cancelled())
      return absl::CancelledError("the caller cancelled this change");
    // The timeout serves only to poll `cancelled`.
    scan_ended_.WaitWithTimeout(&mutex_, absl::Milliseconds(100));
  }
}

std::unique_ptr<UsageLedger::Hold> UsageLedger::MakeHold(
    WorkspacePtr workspace) {
  std::string key = KeyOf(*workspace);
  absl::MutexLock lock(&mutex_);
  Entry& entry = Acquire(key, *workspace);
  return std::make_unique<Hold>(this, std::move(key), std::move(workspace),
                                &entry);
}

absl::StatusOr<std::unique_ptr<UsageLedger::Hold>> UsageLedger::BeginGrowth(
    WorkspacePtr workspace, Cancelled cancelled) {
  if (!workspace->quota.limits()) return nullptr;
  std::unique_ptr<Hold> hold = MakeHold(std::move(workspace));
  RETURN_IF_ERROR(hold->Load(cancelled));
  return hold;
}

std::unique_ptr<UsageLedger::Hold> UsageLedger::BeginShrinking(
    WorkspacePtr workspace) {
  if (!workspace->quota.limits()) return nullptr;
  return MakeHold(std::move(workspace));
}

absl::StatusOr<Usage> UsageLedger::Scan(const Workspace& workspace,
                                        bool counts_only, Cancelled cancelled) {
  // Only a full scan of a live workspace can correct the count. If there is no
  // quota, someone may just have removed it by hand.
  const bool counts = !counts_only && !workspace.delete_time.has_value();
  if (!counts || !workspace.quota.limits()) {
    if (counts) NoteQuota(workspace);
    return scanner_(workspace, counts_only, cancelled);
  }
  const std::string key = KeyOf(workspace);
  Entry* entry = nullptr;
  ScanStart start;
  {
    absl::MutexLock lock(&mutex_);
    entry = &Acquire(key, workspace);
    start = BeginScan(*entry);
  }
  absl::StatusOr<Usage> usage =
      FinishScan(key, *entry, start, workspace, cancelled);
  absl::MutexLock lock(&mutex_);
  Release(key);
  return usage;
}

void UsageLedger::NoteQuota(const Workspace& workspace) {
  const std::string key = KeyOf(workspace);
  bool flipped = false;
  {
    absl::MutexLock lock(&mutex_);
    const auto it = used_.find(key);
    const std::unique_ptr<Entry>* const found =
        it != used_.end() ? &it->second : idle_.Find(key);
    // Without an entry the use is unknown, so nothing says that it exceeds the
    // quota.
    if (found == nullptr) {
      flipped = over_.erase(key) > 0;
    } else {
      (*found)->quota = workspace.quota;
      flipped = Judge(key, **found);
    }
  }
  if (flipped) Flipped(workspace);
}

void UsageLedger::Forget(const Workspace& workspace) {
  const std::string key = KeyOf(workspace);
  absl::MutexLock lock(&mutex_);
  over_.erase(key);
  idle_.Take(key);
  // Changes in progress still hold the entry. They will find that the workspace
  // is gone.
  if (const auto it = used_.find(key); it != used_.end()) {
    it->second->loaded = false;
    // FinishScan() ignores the scans that are running.
    it->second->scan_begun = options_.clock();
  }
}

bool UsageLedger::is_over(const Workspace& workspace) const {
  if (!workspace.quota.limits()) return false;
  const std::string key = KeyOf(workspace);
  absl::MutexLock lock(&mutex_);
  return over_.contains(key);
}

int64_t UsageLedger::over_quota_count() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<int64_t>(over_.size());
}

size_t UsageLedger::bytes() const {
  absl::MutexLock lock(&mutex_);
  return idle_.bytes();
}

// --- Holds -------------------------------------------------------------------

UsageLedger::Hold::~Hold() {
  bool flipped = false;
  {
    absl::MutexLock lock(&ledger_->mutex_);
    entry_->reserved -= reserved_;
    // The change of Place() was counted but did not happen.
    entry_->used -= Growth(placing_);
    entry_->in_flight -= Growth(placing_);
    flipped = ledger_->Judge(key_, *entry_);
    ledger_->Release(key_);
  }
  if (flipped) ledger_->Flipped(*workspace_);
}

absl::Status UsageLedger::Hold::Load(Cancelled cancelled) {
  ASSIGN_OR_RETURN(const auto start, ledger_->AwaitLoaded(*entry_, cancelled));
  if (!start) return absl::OkStatus();
  return Scan(*start, cancelled);
}

absl::Status UsageLedger::Hold::Scan(const ScanStart& start,
                                     Cancelled cancelled) {
  absl::Status scanned =
      ledger_->FinishScan(key_, *entry_, start, *workspace_, cancelled)
          .status();
  // The workspace was deleted during the scan.
  return absl::IsNotFound(scanned)
             ? WorkspaceNotFound(workspace_->project.str())
             : scanned;
}

absl::Status UsageLedger::Hold::TryReserve(const Amount& wanted) {
  absl::MutexLock lock(&ledger_->mutex_);
  // The new reservation replaces this hold's earlier one, so leave that out.
  const Amount used = entry_->used + entry_->reserved - reserved_;
  RETURN_IF_ERROR(CheckQuota(entry_->project, entry_->quota, used, wanted));
  entry_->reserved -= reserved_;
  reserved_ = Growth(wanted);
  entry_->reserved += reserved_;
  return absl::OkStatus();
}

absl::Status UsageLedger::Hold::Reserve(const Amount& wanted,
                                        Cancelled cancelled) {
  absl::Status refused = TryReserve(wanted);
  if (refused.ok()) return refused;
  ScanStart start;
  {
    absl::MutexLock lock(&ledger_->mutex_);
    if (!ledger_->IsOlder(*entry_, ledger_->options_.min_age)) return refused;
    start = ledger_->BeginScan(*entry_);
  }
  // Other programs may have removed files, so scan before refusing the change.
  RETURN_IF_ERROR(Scan(start, cancelled));
  return TryReserve(wanted);
}

absl::Status UsageLedger::Hold::Place(const Amount& change) {
  absl::MutexLock lock(&ledger_->mutex_);
  // The use may be unknown after BeginShrinking(), or if the workspace was
  // deleted. Then there is nothing to check against.
  if (entry_->loaded) {
    const Amount used = entry_->used + entry_->reserved - reserved_;
    RETURN_IF_ERROR(CheckQuota(entry_->project, entry_->quota, used, change));
  }
  // The growth counts from now on. With `grown` and `in_flight`, FinishScan()
  // corrects both a scan that sees the change and one that does not.
  entry_->reserved -= reserved_;
  reserved_ = Amount();
  entry_->used += Growth(change);
  entry_->grown += Growth(change);
  entry_->in_flight += Growth(change);
  placing_ = change;
  scan_events_ = entry_->scan_events;
  return absl::OkStatus();
}

void UsageLedger::Hold::Placed() {
  absl::MutexLock lock(&ledger_->mutex_);
  entry_->in_flight -= Growth(placing_);
  Subtract(Shrinkage(placing_));
  placing_ = Amount();
}

void UsageLedger::Hold::Removed(const Amount& removed) {
  absl::MutexLock lock(&ledger_->mutex_);
  Subtract(removed);
}

void UsageLedger::Hold::Subtract(const Amount& freed) {
  // A scan that began or ended meanwhile may already have missed these files.
  // Subtracting them again would make the count too low, so leave the
  // correction to the next scan.
  if (entry_->scan_events == scan_events_) entry_->used -= freed;
}

}  // namespace mlops::core
