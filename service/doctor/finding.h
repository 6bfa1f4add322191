#ifndef MLOPS_SERVICE_DOCTOR_FINDING_H_
#define MLOPS_SERVICE_DOCTOR_FINDING_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace mlops::doctor {

enum class Severity {
  // Needs no attention: the server or a client repairs it, or it may
  // be intended.
  kNote,
  // The service works, but something else fails or soon will.
  kWarning,
  // The service cannot read or change something that it should.
  kError,
};
// Returns "note", "warning" or "error".
absl::string_view NameOf(Severity severity);

// A step with which --repair resolves a finding. No repair removes data.
struct Repair {
  enum class Kind {
    // Moves the entry below .workspaced/doctor-<time>/.
    kSetAside,
    // Creates the directory, with the owner and mode of its parent.
    kMakeDirectory,
  };
  Kind kind = Kind::kSetAside;
  // Relative to the base.
  std::string path;
};

struct Finding {
  Severity severity = Severity::kNote;
  // Stable, for programs, such as "record-corrupt".
  std::string code;
  // "" if the finding concerns the base. May be a name that no project can
  // have.
  std::string project;
  // Relative to the base; "" means the base itself.
  std::string path;
  // A clause that continues the path: "is larger than 1 MiB".
  std::string problem;
  // How to fix it: an imperative sentence without its full stop.
  std::string fix;
  // Whether the ordinary work of a running server causes this.
  bool transient = false;
  std::vector<Repair> repairs = {};
  // Number of further findings of this code and project that this one stands
  // for. Their repairs are included above.
  int64_t more = 0;
};

// Collects findings. Keeps at most kMaxPerProject of each code and project;
// the last of these counts the others. Not thread-safe.
class Findings {
 public:
  static constexpr size_t kMaxPerProject = 10;

  void Add(Finding finding);

  const std::vector<Finding>& all() const { return all_; }
  std::vector<Finding> Take() && { return std::move(all_); }

 private:
  std::vector<Finding> all_;
  // Positions in all_, by project and code.
  std::map<std::pair<std::string, std::string>, std::vector<size_t>> kept_;
};

}  // namespace mlops::doctor

#endif  // MLOPS_SERVICE_DOCTOR_FINDING_H_
