#include "service/rpc/pacer.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"

namespace mlops::rpc {

size_t Pacer::TasksPerTick() {
  static const size_t tasks =
      std::max(1U, std::thread::hardware_concurrency() / 2);
  return tasks;
}

Pacer::Pacer(size_t max_queued)
    : max_queued_(max_queued), thread_([this] { Run(); }) {}

Pacer::~Pacer() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
}

bool Pacer::TrySchedule(std::function<void()> task) {
  absl::MutexLock lock(&mutex_);
  if (queue_.size() >= max_queued_) return false;
  queue_.push_back(std::move(task));
  ++scheduled_;
  return true;
}

uint64_t Pacer::scheduled() const {
  absl::MutexLock lock(&mutex_);
  return scheduled_;
}

std::deque<std::function<void()>> Pacer::Next() {
  const auto has_work = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return stopping_ || !queue_.empty();
  };
  absl::MutexLock lock(&mutex_, absl::Condition(&has_work));
  std::deque<std::function<void()>> tasks;
  while (!queue_.empty() && (stopping_ || tasks.size() < TasksPerTick())) {
    tasks.push_back(std::move(queue_.front()));
    queue_.pop_front();
  }
  return tasks;
}

void Pacer::Run() {
  while (true) {
    const auto tasks = Next();
    if (tasks.empty()) return;
    for (const auto& task : tasks) task();
    absl::SleepFor(kTick);
  }
}

}  // namespace mlops::rpc
