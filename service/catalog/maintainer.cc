#include "service/catalog/maintainer.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace mlops::catalog {
namespace {

constexpr absl::Duration kTick = absl::Milliseconds(200);
// Ten thousand stats a second cost about 2 % of one core, and cover 100,000
// records every 10 seconds.
constexpr size_t kRecordsPerTick = 2'000;
constexpr int64_t kSweptPerTick = 2'000;
// A checkpoint is due after kCheckpointInterval, or once it lacks
// at least kManyChanges changes that are also an eighth of all records.
// A restart then reads at most an eighth of the records from their files,
// and a catalog that grows from nothing to n records writes some 8 n in total.
constexpr std::chrono::minutes kCheckpointInterval(1);
constexpr uint64_t kManyChanges = 1'000;
constexpr uint64_t kChangedPart = 8;
// Expensive work may take at most a tenth of the time.
constexpr int kRestPerWork = 10;
constexpr std::chrono::seconds kRetryInterval(10);
// Adjusting a clock changes it by less than this within a tick.
constexpr absl::Duration kJump = absl::Seconds(2);

}  // namespace

Maintainer::Maintainer(FileCatalog* catalog,
                       std::unique_ptr<fs::Watcher> watcher, Options options)
    : catalog_(catalog),
      watcher_(std::move(watcher)),
      options_(std::move(options)),
      next_checkpoint_(Monotonic::now() + kCheckpointInterval),
      earliest_checkpoint_(Monotonic::now()),
      last_time_(options_.clock()),
      last_monotonic_(Monotonic::now()),
      thread_([this] { Run(); }) {}

Maintainer::~Maintainer() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
  // Best effort, like everything below: the files are authoritative,
  // and the next tick or start tries again.
  Report("cannot save the checkpoint", catalog_->SaveCheckpoint());
}

bool Maintainer::StopWithin(absl::Duration duration) {
  absl::MutexLock lock(&mutex_);
  return mutex_.AwaitWithTimeout(absl::Condition(&stopping_), duration);
}

void Maintainer::Report(absl::string_view what,
                        const absl::Status& problem) const {
  if (!problem.ok() && options_.report) options_.report(what, problem);
}

void Maintainer::RefreshNames() {
  const auto begin = Monotonic::now();
  if (begin < next_names_) return;
  Report("cannot read the names in the base directory",
         catalog_->RefreshNames());
  // A large base that changes all the time would otherwise be listed
  // continuously.
  const auto end = Monotonic::now();
  next_names_ = end + (end - begin) * (kRestPerWork - 1);
}

void Maintainer::RefreshRecords() {
  for (const std::string& name : watcher_->TakeChanged()) {
    if (auto project = core::ProjectName::Parse(name); project.ok())
      catalog_->RefreshRecord(*project);
  }
  if (watcher_->TakeOverflow()) {
    Report("edits by hand may be detected late",
           absl::ResourceExhaustedError(
               "inotify lost events because too many arrived at once"));
  }
  for (const core::ProjectName& project :
       catalog_->NextProjects(kRecordsPerTick)) {
    // Watch the record before reading it, so that no edit is missed in between.
    // Records that cannot be watched are polled by this loop.
    watcher_->Add(project.str());
    catalog_->RefreshRecord(project);
  }
}

void Maintainer::SweepTrash() {
  Report("cannot empty the trash",
         catalog_->SweepTrash(kSweptPerTick).status());
}

bool Maintainer::IsCheckpointDue() const {
  const auto now = Monotonic::now();
  if (now < earliest_checkpoint_) return false;
  const uint64_t many =
      std::max<uint64_t>(kManyChanges, catalog_->EntryCount() / kChangedPart);
  return now >= next_checkpoint_ || catalog_->UnsavedChanges() >= many;
}

void Maintainer::SaveCheckpoint() {
  if (!IsCheckpointDue()) return;
  // A failure is not retried at once, since a full disk may last.
  const auto begin = Monotonic::now();
  const absl::Status saved = catalog_->SaveCheckpoint();
  Report("cannot save the checkpoint", saved);
  const auto end = Monotonic::now();
  earliest_checkpoint_ = end + (end - begin) * (kRestPerWork - 1);
  if (!saved.ok())
    earliest_checkpoint_ = std::max(earliest_checkpoint_, end + kRetryInterval);
  next_checkpoint_ = end + kCheckpointInterval;
}

// Reports jumps of the wall clock. Times in the trash and stamps of files
// depend on it, so a jump explains much odd behaviour.
void Maintainer::WatchClock() {
  const absl::Time now = options_.clock();
  const auto monotonic = Monotonic::now();
  const absl::Duration jump =
      (now - last_time_) - absl::FromChrono(monotonic - last_monotonic_);
  last_time_ = now;
  last_monotonic_ = monotonic;
  if (absl::AbsDuration(jump) < kJump) return;
  const absl::Duration rounded =
      absl::Floor(jump + absl::Milliseconds(500), absl::Seconds(1));
  Report("the clock jumped", absl::OutOfRangeError(absl::StrCat(
                                 "by ", absl::FormatDuration(rounded), ", to ",
                                 absl::FormatTime(now, absl::UTCTimeZone()))));
}

void Maintainer::Run() {
  while (!StopWithin(kTick)) {
    WatchClock();
    RefreshNames();
    RefreshRecords();
    SweepTrash();
    if (options_.chore) options_.chore();
    SaveCheckpoint();
  }
}

}  // namespace mlops::catalog
