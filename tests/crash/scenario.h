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

// Scenarios for tests in which the file system below a catalog fails: a filled
// base directory, operations on it, and a description of its state.
namespace mlops::crash {

inline constexpr absl::string_view kBasePath = "/base";
inline constexpr absl::Duration kPurgeDelay = absl::Hours(1);

// A clock that can be set forward. Copies share the shift. Not thread-safe.
class ShiftedClock {
 public:
  explicit ShiftedClock(base::Clock clock);
  void Advance(absl::Duration span) { *shift_ += span; }
  base::Clock clock() const;

 private:
  base::Clock clock_;
  std::shared_ptr<absl::Duration> shift_;
};

// An operation on a catalog. `run` returns OK once it is acknowledged.
struct Operation {
  std::string name;
  std::function<absl::Status(catalog::FileCatalog&, ShiftedClock&)> run;
  // The code that a second run may return if the first one took effect although
  // it returned an error.
  absl::StatusCode already_done;
};
std::ostream& operator<<(std::ostream& out, const Operation& operation);
const std::vector<Operation>& Operations();

// Fills an empty base with the workspaces "bystander" and "fraud", with "gone"
// in the trash, all with files, and with "plain", a directory that has a file
// but no record.
using OpenBase = std::function<std::unique_ptr<fs::Dir>()>;
void Fill(const OpenBase& open_base, const base::Clock& clock);

// Opens a catalog over `base`; fails the test and returns null on an error.
std::unique_ptr<catalog::FileCatalog> Open(std::unique_ptr<fs::Dir> base,
                                           const base::Clock& clock);

// Describes everything that users can see: for each workspace, including
// deleted ones, its record as the catalog reports it and every file on disk.
// Leaves out what does not matter: temporary files beside a record, workspaces
// that are being removed from the trash, and empty directories where there is
// no record. A workspace without one of its five directories, or whose record
// on disk differs from the catalog's, adds a line that contains "TORN".
std::string Describe(catalog::FileCatalog& catalog, const fs::Dir& base);

// Returns the sorted names in the directory `dir` of the base.
std::vector<std::string> Names(const fs::Dir& base, absl::string_view dir);

}  // namespace mlops::crash

#endif  // MLOPS_TESTS_CRASH_SCENARIO_H_
