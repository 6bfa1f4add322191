#include "service/catalog/maintainer.h"

#include <string>
#include <utility>

#include "service/base/clock.h"

namespace mlops::catalog {
namespace {

constexpr absl::Duration kTick = absl::Milliseconds(200);
// Ten thousand stats a second cost about 2 % of one core; 100,000 records are looked at every 10 seconds.
constexpr size_t kRecordsPerTick = 2'000;
constexpr int64_t kSweptPerTick = 2'000;
constexpr absl::Duration kCheckpointInterval = absl::Minutes(1);

}  // namespace

Maintainer::Maintainer(FileCatalog* catalog, std::unique_ptr<fs::Watcher> watcher, std::function<void()> chore)
    : catalog_(catalog), watcher_(std::move(watcher)), chore_(std::move(chore)), thread_([this] { Run(); }) {}

Maintainer::~Maintainer() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
  // Best effort, as all below: the files are the truth, and the next tick or start tries again.
  catalog_->SaveCheckpoint().IgnoreError();
}

bool Maintainer::StopWithin(absl::Duration duration) {
  absl::MutexLock lock(&mutex_);
  return mutex_.AwaitWithTimeout(absl::Condition(&stopping_), duration);
}

void Maintainer::RefreshRecords() {
  for (const std::string& name : watcher_->TakeChanged()) {
    if (auto project = core::ProjectName::Parse(name); project.ok()) catalog_->RefreshRecord(*project);
  }
  for (const core::ProjectName& project : catalog_->NextProjects(kRecordsPerTick)) {
    // Watched before it is looked at, so that no edit falls between. Where it cannot be, this pass comes round again.
    watcher_->Add(project.str());
    catalog_->RefreshRecord(project);
  }
}

void Maintainer::Run() {
  // By the steady clock: where the wall clock is set back an hour, an hour would pass without a look.
  const base::SteadyClock clock = base::SystemSteadyClock();
  absl::Duration next_checkpoint = clock() + kCheckpointInterval;
  absl::Duration next_names = -absl::InfiniteDuration();
  while (!StopWithin(kTick)) {
    if (const absl::Duration begin = clock(); begin >= next_names) {
      catalog_->RefreshNames().IgnoreError();
      // Many names that change all the time are listed in a tenth of the time at most.
      next_names = begin + 10 * (clock() - begin);
    }
    RefreshRecords();
    catalog_->SweepTrash(kSweptPerTick).status().IgnoreError();
    if (chore_) chore_();
    if (clock() < next_checkpoint) continue;
    catalog_->SaveCheckpoint().IgnoreError();
    next_checkpoint = clock() + kCheckpointInterval;
  }
}

}  // namespace mlops::catalog
