#ifndef MLOPS_SERVICE_CATALOG_PURGE_GATE_H_
#define MLOPS_SERVICE_CATALOG_PURGE_GATE_H_

#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "service/base/clock.h"

namespace mlops::catalog {

// Decides when the trash may let go of a workspace, although the wall clock may
// be wrong: ahead for a moment, or set right after a deletion. Its purge time
// must have passed, and besides that either
//   - the time between deletion and purge time, by the steady clock, since this
//   gate has known of it, or
//   - for those that an earlier run deleted, kConfirmation during which the
//   wall clock kept step with the steady one: a
//     restart must not make everything live longer.
// Not thread-safe.
class PurgeGate {
 public:
  static constexpr absl::Duration kConfirmation = absl::Seconds(30);

  PurgeGate(base::Clock clock, base::SteadyClock steady_clock);

  // Compares the clocks; to be called before MayGo(), and often: a step that is
  // undone between two calls is not seen.
  void Tick();

  // This run has just deleted what has the name `trash_name`.
  void NoteDeleted(absl::string_view trash_name);
  // It is not in the trash any more.
  void Forget(absl::string_view trash_name) { deleted_.erase(trash_name); }

  bool MayGo(absl::string_view trash_name, absl::Time delete_time,
             absl::Time purge_time) const;

 private:
  const base::Clock clock_;
  const base::SteadyClock steady_clock_;
  const absl::Duration opened_;  // By the steady clock, as all durations here.
  absl::Time wall_;              // At the last tick, as the next.
  absl::Duration steady_;
  // Since when the clocks have kept step.
  absl::Duration in_step_since_;
  // By this run, and when.
  absl::flat_hash_map<std::string, absl::Duration> deleted_;
};

}  // namespace mlops::catalog

#endif  // MLOPS_SERVICE_CATALOG_PURGE_GATE_H_
