#include "service/catalog/purge_gate.h"

#include <utility>

namespace mlops::catalog {

PurgeGate::PurgeGate(base::Clock clock, base::SteadyClock steady_clock)
    : clock_(std::move(clock)),
      steady_clock_(std::move(steady_clock)),
      opened_(steady_clock_()),
      wall_(clock_()),
      steady_(opened_),
      in_step_since_(opened_) {}

void PurgeGate::Tick() {
  const absl::Time wall = clock_();
  const absl::Duration steady = steady_clock_();
  const absl::Duration elapsed = steady - steady_;
  // A clock that is being adjusted runs up to 0.05 % faster or slower. A larger
  // difference is a step.
  const absl::Duration tolerance = absl::Seconds(1) + elapsed / 1000;
  if (absl::AbsDuration((wall - wall_) - elapsed) > tolerance)
    in_step_since_ = steady;
  wall_ = wall;
  steady_ = steady;
}

void PurgeGate::NoteDeleted(absl::string_view trash_name) {
  deleted_[trash_name] = steady_clock_();
}

bool PurgeGate::MayGo(absl::string_view trash_name, absl::Time delete_time,
                      absl::Time purge_time) const {
  if (wall_ < purge_time) return false;
  // This gate has known workspaces from earlier runs since its construction.
  const auto it = deleted_.find(trash_name);
  const bool here = it != deleted_.end();
  if (steady_ - (here ? it->second : opened_) >= purge_time - delete_time)
    return true;
  return !here && steady_ - in_step_since_ >= kConfirmation;
}

}  // namespace mlops::catalog
