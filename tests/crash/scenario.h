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

// What is done to a catalog while the file system below it fails: one base
// directory, the operations, and a way to tell states of it apart.
namespace mlops::crash {

inline constexpr absl::string_view kBasePath = "/base";
inline constexpr absl::Duration kPurgeDelay = absl::Hours(1);

// A clock that can be put forward; copies share it.
class ShiftedClock {
 public:
  explicit ShiftedClock(base::Clock clock);
  void Advance(absl::Duration span) { *shift_ += span; }
  base::Clock clock() const;

 private:
  base::Clock clock_;
  std::shared_ptr<absl::Duration> shift_;
};

// One operation. `run` returns OK once it is acknowledged.
struct Operation {
  std::string name;
  std::function<absl::Status(catalog::FileCatalog&, ShiftedClock&)> run;
  // What a second run may say where the first one did its work although its
  // caller was told of an error.
  absl::StatusCode already_done;
};
std::ostream& operator<<(std::ostream& out, const Operation& operation);
const std::vector<Operation>& Operations();

// Fills an empty base: the workspaces "bystander" and "fraud" with files,
// "gone" in the trash with files, and "plain", a directory with a file and no
// record.
using OpenBase = std::function<std::unique_ptr<fs::Dir>()>;
void Fill(const OpenBase& open_base, const base::Clock& clock);

std::unique_ptr<catalog::FileCatalog> Open(std::unique_ptr<fs::Dir> base,
                                           const base::Clock& clock);

// All that users can see: for each workspace, the trash included, its record as
// the catalog tells it and every file as it lies on disk. What does not count
// is left out: temporary files beside a record, what is being removed from the
// trash, and empty directories where there is no record. A workspace that lacks
// one of its directories, or whose record on disk is not what the catalog says,
// shows as a line with "TORN" in it.
std::string Describe(catalog::FileCatalog& catalog, const fs::Dir& base);

// The names that lie in a directory of the base, in order.
std::vector<std::string> Names(const fs::Dir& base, absl::string_view dir);

}  // namespace mlops::crash

#endif  // MLOPS_TESTS_CRASH_SCENARIO_H_
