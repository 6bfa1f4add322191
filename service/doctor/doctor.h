#ifndef MLOPS_SERVICE_DOCTOR_DOCTOR_H_
#define MLOPS_SERVICE_DOCTOR_DOCTOR_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "service/base/clock.h"
#include "service/doctor/check.h"
#include "service/doctor/finding.h"
#include "service/fs/base_lock.h"

namespace mlops::doctor {

struct Options {
  // How long the trash keeps workspaces whose names have no purge time.
  absl::Duration purge_delay = absl::Hours(72);
  base::Clock clock = base::SystemClock();
  int threads = 8;
  // Called between the two examinations of a base that is being served.
  std::function<void()> wait = [] { absl::SleepFor(absl::Milliseconds(500)); };
};

struct Report {
  // The real path.
  std::string base;
  Holder holder;
  // Directories that were examined as workspaces.
  int64_t workspace_count = 0;
  // Sorted by project and path; those of the base come first.
  std::vector<Finding> findings;
};

// Returns the names of the lock file.
fs::BaseLock::Names LockNames();

// Returns the real path of the directory `base`. NOT_FOUND if there is none,
// FAILED_PRECONDITION if it is not a directory; the message is a sentence.
absl::StatusOr<std::string> FindBase(const std::string& base);

// Returns the account of the server: the owner of the lock file,
// which the server creates, or else the owner of the base.
absl::StatusOr<fs::Account> FindServerAccount(const std::string& base_path);

// Returns the process that holds `base_path`, without taking a lock.
Holder FindHolder(const std::string& base_path);

// Runs all checks without changing anything. While a server is running,
// omits what its work ordinarily causes: findings that are transient by nature,
// and those that a second examination does not confirm. `is_ours` says
// that this process holds the lock, so that no other process can be changing
// the base. Returns the errors of fs::Dir if the base itself cannot be read.
absl::StatusOr<Report> Examine(const std::string& base_path,
                               const Options& options, bool is_ours = false);

}  // namespace mlops::doctor

#endif  // MLOPS_SERVICE_DOCTOR_DOCTOR_H_
