#include "service/server/maintainer.h"

#include <algorithm>
#include <utility>

namespace mlops::server {

Maintainer::Maintainer(std::vector<Chore> chores, Options options)
    : options_(std::move(options)) {
  for (Chore& chore : chores) entries_.push_back({.chore = std::move(chore)});
  thread_ = std::thread([this] { Run(); });
}

Maintainer::~Maintainer() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
}

bool Maintainer::StopWithinTick() {
  absl::MutexLock lock(&mutex_);
  return mutex_.AwaitWithTimeout(absl::Condition(&stopping_), options_.tick);
}

void Maintainer::RunIfDue(absl::Duration now, Entry& entry) const {
  // Round to the nearest tick, because a tick may end slightly early.
  if (now + options_.tick / 2 < entry.next_run) return;
  const Chore& chore = entry.chore;
  const absl::Duration begin = options_.clock();
  if (const absl::Status status = chore.run(); !status.ok())
    options_.report(chore.failure, status);
  const absl::Duration end = options_.clock();
  // Count the interval from the start of the round, so that chores with equal
  // intervals stay in the same rounds. After a long run, wait longer to keep to
  // max_share.
  entry.next_run = std::max(now + chore.interval,
                            end + (end - begin) * (1 / chore.max_share - 1));
}

void Maintainer::Run() {
  while (!StopWithinTick()) {
    const absl::Duration now = options_.clock();
    for (Entry& entry : entries_) RunIfDue(now, entry);
  }
}

}  // namespace mlops::server
