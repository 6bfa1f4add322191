#ifndef MLOPS_SERVICE_DOCTOR_REPAIR_H_
#define MLOPS_SERVICE_DOCTOR_REPAIR_H_

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "service/doctor/finding.h"
#include "service/fs/dir.h"

namespace mlops::doctor {

// The outcome of one repair.
struct Repaired {
  Repair repair;
  // Relative to the base: where the entry is now, or the directory created.
  std::string result;
  // OK, or why the repair failed. The entry is then unchanged, unless
  // a sync failed.
  absl::Status status;
};

// Carries out the repairs of `findings` in `base`, whose lock the caller holds.
// Moves entries to `.workspaced/doctor-<time>/<path>` and creates directories;
// removes nothing. Each repair is durable when this returns; a crash leaves
// each either done or not begun. Omits repairs that are no longer necessary.
std::vector<Repaired> CarryOut(fs::Dir& base,
                               const std::vector<Finding>& findings,
                               absl::Time now);

}  // namespace mlops::doctor

#endif  // MLOPS_SERVICE_DOCTOR_REPAIR_H_
