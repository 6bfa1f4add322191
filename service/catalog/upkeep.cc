#include "service/catalog/upkeep.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace mlops::catalog {
namespace {

// Ten thousand stats a second cost about 2 % of one core, and cover 100,000
// records every 10 seconds.
constexpr size_t kRecordsPerCall = 2'000;
constexpr int64_t kSweptPerCall = 2'000;
// A checkpoint is due after kCheckpointInterval, or once it lacks at least
// kManyChanges changes and an eighth of all records. A restart then reads at
// most that many records from their files, and a catalog that grows from
// nothing to n records writes about 8 n records in total.
constexpr absl::Duration kCheckpointInterval = absl::Minutes(1);
constexpr uint64_t kManyChanges = 1'000;
constexpr uint64_t kChangedPart = 8;
constexpr absl::Duration kRetryInterval = absl::Seconds(10);
// Adjusting a clock changes it by less than this between two calls.
constexpr absl::Duration kJump = absl::Seconds(2);

}  // namespace

Upkeep::Upkeep(FileCatalog* catalog, std::unique_ptr<fs::Watcher> watcher,
               Options options)
    : catalog_(catalog),
      watcher_(std::move(watcher)),
      options_(std::move(options)),
      next_checkpoint_(options_.steady_clock() + kCheckpointInterval),
      earliest_checkpoint_(options_.steady_clock()),
      last_time_(options_.clock()),
      last_steady_time_(options_.steady_clock()) {}

absl::Status Upkeep::RefreshNames() { return catalog_->RefreshNames(); }

absl::Status Upkeep::RefreshRecords() {
  // First the records that the watcher knows to have changed, then a share of
  // all records, for edits that it cannot see.
  for (const std::string& name : watcher_->TakeChanged()) {
    if (auto project = core::ProjectName::Parse(name); project.ok())
      catalog_->RefreshRecord(*project);
  }
  for (const core::ProjectName& project :
       catalog_->NextProjects(kRecordsPerCall)) {
    // Watch the record before reading it, so that no edit is missed in between.
    // Records that cannot be watched are polled by this loop.
    watcher_->Add(project.str());
    catalog_->RefreshRecord(project);
  }
  if (!watcher_->TakeOverflow()) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      "inotify lost events because too many arrived at once");
}

absl::Status Upkeep::SweepTrash() {
  return catalog_->SweepTrash(kSweptPerCall).status();
}

bool Upkeep::IsCheckpointDue() const {
  const absl::Duration now = options_.steady_clock();
  if (now < earliest_checkpoint_) return false;
  const uint64_t many =
      std::max<uint64_t>(kManyChanges, catalog_->EntryCount() / kChangedPart);
  return now >= next_checkpoint_ || catalog_->UnsavedChanges() >= many;
}

absl::Status Upkeep::SaveCheckpoint() {
  if (!IsCheckpointDue()) return absl::OkStatus();
  absl::Status saved = catalog_->SaveCheckpoint();
  const absl::Duration end = options_.steady_clock();
  // Delay the retry after a failure, because a disk may stay full for long.
  if (!saved.ok()) earliest_checkpoint_ = end + kRetryInterval;
  next_checkpoint_ = end + kCheckpointInterval;
  return saved;
}

absl::Status Upkeep::WatchClock() {
  const absl::Time now = options_.clock();
  const absl::Duration steady_now = options_.steady_clock();
  const absl::Duration jump =
      (now - last_time_) - (steady_now - last_steady_time_);
  last_time_ = now;
  last_steady_time_ = steady_now;
  if (absl::AbsDuration(jump) < kJump) return absl::OkStatus();
  const absl::Duration rounded =
      absl::Floor(jump + absl::Milliseconds(500), absl::Seconds(1));
  return absl::OutOfRangeError(
      absl::StrCat("by ", absl::FormatDuration(rounded), ", to ",
                   absl::FormatTime(now, absl::UTCTimeZone())));
}

}  // namespace mlops::catalog
