#ifndef MLOPS_TESTS_CRASH_SCENARIO_H_
#define MLOPS_TESTS_CRASH_SCENARIO_H_

#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "service/base/clock.h"
#include "service/catalog/file_catalog.h"
#include "service/fs/dir.h"

// The scenario of the crash tests: a base directory with workspaces, operations
// on its catalog, and a description of its state for comparisons.
namespace mlops::crash {

inline constexpr absl::string_view kBasePath = "/base";
inline constexpr absl::Duration kPurgeDelay = absl::Hours(1);

// A clock that tests can advance. Copies share the offset.
class ShiftedClock {
 public:
  explicit ShiftedClock(base::Clock clock);
  void Advance(absl::Duration span) { *shift_ += span; }
  base::Clock clock() const;

 private:
  base::Clock clock_;
  std::shared_ptr<absl::Duration> shift_;
};

// An operation on the catalog. `run` returns OK once the operation is
// acknowledged.
struct Operation {
  std::string name;
  std::function<absl::Status(catalog::FileCatalog&, ShiftedClock&)> run;
  // The code that a second run may return if the first run completed although
  // it returned an error.
  absl::StatusCode already_done;
};
std::ostream& operator<<(std::ostream& out, const Operation& operation);
const std::vector<Operation>& Operations();

// Fills an empty base: the workspaces "bystander" and "fraud" with files,
// "gone" in the trash with files, and "plain", a directory with a file and no
// record.
using OpenBase = std::function<std::unique_ptr<fs::Dir>()>;
void Fill(const OpenBase& open_base, const base::Clock& clock);

// Opens a catalog over `base`, and fails the test if that fails.
std::unique_ptr<catalog::FileCatalog> Open(std::unique_ptr<fs::Dir> base,
                                           const base::Clock& clock);

// Describes the state that users can see: for each workspace, including those
// in the trash, its record in the catalog and every file on disk. Omits
// temporary files beside a record, files that are being removed from the trash,
// and empty directories without a record. Adds a line with "TORN" for a
// workspace that lacks one of its directories, or whose record on disk differs
// from the catalog.
std::string Describe(catalog::FileCatalog& catalog, const fs::Dir& base);

// Returns the sorted names in a directory of the base, or in the base itself if
// `dir` is empty.
std::vector<std::string> Names(const fs::Dir& base, absl::string_view dir);

}  // namespace mlops::crash

#endif  // MLOPS_TESTS_CRASH_SCENARIO_H_
