#ifndef MLOPS_SERVICE_CATALOG_PURGE_GATE_H_
#define MLOPS_SERVICE_CATALOG_PURGE_GATE_H_

#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "service/base/clock.h"

namespace mlops::catalog {

// Decides when a workspace may be purged from the trash. The wall clock alone
// cannot tell, because it may be briefly ahead, or corrected after a deletion.
// The workspace's purge time must have passed, and one of these must be true:
// - Since this gate first knew of the workspace, the steady clock has advanced
//   by the time between deletion and purge time.
// - An earlier run deleted the workspace, and the wall clock has kept step
//   with the steady clock for kConfirmation. Without this rule, each restart
//   would extend the life of everything in the trash.
//
// Not thread-safe.
class PurgeGate {
 public:
  static constexpr absl::Duration kConfirmation = absl::Seconds(30);

  PurgeGate(base::Clock clock, base::SteadyClock steady_clock);

  // Compares the clocks. Call it before MayGo(), and often: it does not notice
  // a clock step that is undone between two calls.
  void Tick();

  // Records that this run has just deleted the workspace with the name
  // `trash_name`.
  void NoteDeleted(absl::string_view trash_name);
  // Records that the workspace is no longer in the trash.
  void Forget(absl::string_view trash_name) { deleted_.erase(trash_name); }

  // Returns whether the workspace may be purged.
  bool MayGo(absl::string_view trash_name, absl::Time delete_time,
             absl::Time purge_time) const;

 private:
  const base::Clock clock_;
  const base::SteadyClock steady_clock_;
  // Steady time of construction. All durations here are steady times.
  const absl::Duration opened_;
  // Both clocks' times at the last tick.
  absl::Time wall_;
  absl::Duration steady_;
  // When the clocks began to keep step.
  absl::Duration in_step_since_;
  // When this run deleted each workspace, by its name in the trash.
  absl::flat_hash_map<std::string, absl::Duration> deleted_;
};

}  // namespace mlops::catalog

#endif  // MLOPS_SERVICE_CATALOG_PURGE_GATE_H_
