#include "service/core/status_cache.h"

#include <utility>

#include "absl/strings/str_cat.h"

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
  // A uid alone is not enough: corrupt records have none, and hand-made ones may share one.
  const std::string key = absl::StrCat(workspace.uid, " ", workspace.root_path);
  const absl::Time oldest = clock_() - max_staleness;
  {
    absl::MutexLock lock(&mutex_);
    if (WaitForScan(key, oldest, cancelled)) return entries_[key].usage;
    if (cancelled()) return absl::CancelledError("nobody waits for this status any more");
    MakeRoom();
    entries_[key].scanning = true;
  }
  absl::StatusOr<Usage> usage = scanner_(workspace, cancelled);
  absl::MutexLock lock(&mutex_);
  scan_ended_.SignalAll();
  Entry& entry = entries_[key];
  entry.scanning = false;
  if (usage.ok()) {
    entry.usage = *usage;
    entry.known = true;
  } else if (!entry.known) {
    entries_.erase(key);
  }
  return usage;
}

bool StatusCache::WaitForScan(const std::string& key, absl::Time oldest, Cancelled cancelled) {
  while (true) {
    const auto it = entries_.find(key);
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
