#include "service/core/status_cache.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace mlops::core {

int64_t Usage::file_count() const {
  int64_t sum = 0;
  for (const DirectoryUsage& directory : directories)
    sum += directory.file_count;
  return sum;
}

int64_t Usage::size_bytes() const {
  int64_t sum = 0;
  for (const DirectoryUsage& directory : directories)
    sum += directory.size_bytes;
  return sum;
}

void Usage::KeepCountsOnly() {
  counts_only = true;
  const auto strip = [](DirectoryUsage& directory) {
    directory.size_bytes = 0;
    directory.modify_time = absl::InfinitePast();
  };
  for (DirectoryUsage& directory : directories) strip(directory);
  strip(others);
}

namespace {

// Returns the key of a count without sizes, which the cache keeps separately.
std::string CountsKey(const std::string& key) {
  return absl::StrCat(key, " counts");
}

}  // namespace

StatusCache::StatusCache(UsageScanner scanner, base::SteadyClock clock,
                         size_t max_bytes)
    : scanner_(std::move(scanner)),
      clock_(std::move(clock)),
      usages_(max_bytes) {}

absl::StatusOr<Usage> StatusCache::Get(const Workspace& workspace,
                                       const StatusArgs& args,
                                       Cancelled cancelled) {
  // A uid alone is not unique: a workspace with a corrupt record has none, and
  // hand-made records may share one.
  const std::string key = absl::StrCat(workspace.uid, " ", workspace.root_path);
  const std::string scan_key = args.counts_only ? CountsKey(key) : key;
  const absl::Duration oldest = clock_() - args.max_staleness;
  absl::Duration begun;
  {
    absl::MutexLock lock(&mutex_);
    while (true) {
      if (std::optional<Usage> known = Find(key, oldest, args.counts_only))
        return *std::move(known);
      if (cancelled())
        return absl::CancelledError("the caller cancelled this status");
      // Only one caller scans. The others wait, then look again.
      if (scanning_.insert(scan_key).second) break;
      // The end of any scan wakes this caller. The timeout serves only to poll
      // `cancelled`.
      scan_ended_.WaitWithTimeout(&mutex_, absl::Milliseconds(100));
    }
    // Take the time before the scan, so that the result never counts as newer
    // than it is.
    begun = clock_();
  }
  absl::StatusOr<Usage> usage =
      scanner_(workspace, args.counts_only, cancelled);
  absl::MutexLock lock(&mutex_);
  // Wake the waiting callers even after a failure, so that one of them retries.
  scanning_.erase(scan_key);
  scan_ended_.SignalAll();
  if (usage.ok())
    usages_.Put(scan_key, {.usage = *usage, .begun = begun},
                usage->problem.message().size());
  return usage;
}

std::optional<Usage> StatusCache::Find(const std::string& key,
                                       absl::Duration oldest,
                                       bool counts_only) {
  const Known* known = usages_.Find(key);
  if (known != nullptr && known->begun > oldest) {
    Usage usage = known->usage;
    if (counts_only) usage.KeepCountsOnly();
    return usage;
  }
  // A full count also serves callers that need only counts, but not vice versa.
  if (!counts_only) return std::nullopt;
  known = usages_.Find(CountsKey(key));
  if (known == nullptr || known->begun <= oldest) return std::nullopt;
  return known->usage;
}

size_t StatusCache::bytes() const {
  absl::MutexLock lock(&mutex_);
  return usages_.bytes();
}

}  // namespace mlops::core
