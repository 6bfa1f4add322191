#include "service/core/status_cache.h"

#include <utility>

namespace mlops::core {

int64_t Usage::file_count() const {
  int64_t sum = 0;
  for (const DirectoryUsage& directory : directories) sum += directory.file_count;
  return sum;
}

int64_t Usage::size_bytes() const {
  int64_t sum = 0;
  for (const DirectoryUsage& directory : directories) sum += directory.size_bytes;
  return sum;
}

StatusCache::StatusCache(UsageScanner scanner, base::Clock clock, size_t max_entries)
    : scanner_(std::move(scanner)), clock_(std::move(clock)), max_entries_(max_entries) {}

absl::StatusOr<Usage> StatusCache::Get(const Workspace& workspace, absl::Duration max_staleness, Cancelled cancelled) {
  const std::string& uid = workspace.uid;
  const absl::Time oldest = clock_() - max_staleness;
  {
    absl::MutexLock lock(&mutex_);
    if (WaitForScan(uid, oldest, cancelled)) return entries_[uid].usage;
    if (cancelled()) return absl::CancelledError("nobody waits for this status any more");
    MakeRoom();
    entries_[uid].scanning = true;
  }
  absl::StatusOr<Usage> usage = scanner_(workspace, cancelled);
  absl::MutexLock lock(&mutex_);
  scan_ended_.SignalAll();
  Entry& entry = entries_[uid];
  entry.scanning = false;
  if (usage.ok()) {
    entry.usage = *usage;
    entry.known = true;
  } else if (!entry.known) {
    entries_.erase(uid);
  }
  return usage;
}

bool StatusCache::WaitForScan(const std::string& uid, absl::Time oldest, Cancelled cancelled) {
  while (true) {
    const auto it = entries_.find(uid);
    if (it == entries_.end()) return false;
    if (it->second.known && it->second.usage.scan_time >= oldest) return true;
    if (!it->second.scanning || cancelled()) return false;
    // Woken by the end of any scan, and now and then to ask whether somebody still waits.
    scan_ended_.WaitWithTimeout(&mutex_, absl::Milliseconds(100));
  }
}

void StatusCache::MakeRoom() {
  if (entries_.size() < max_entries_) return;
  // Any entry that is not in use may go: a lost count costs one scan.
  for (auto it = entries_.begin(); it != entries_.end(); ++it) {
    if (!it->second.scanning) {
      entries_.erase(it);
      return;
    }
  }
}

}  // namespace mlops::core
