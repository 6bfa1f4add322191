#ifndef MLOPS_SERVICE_DOCTOR_COMMANDS_H_
#define MLOPS_SERVICE_DOCTOR_COMMANDS_H_

#include <ostream>
#include <string>

#include "service/doctor/doctor.h"

namespace mlops::doctor {

// The body of `workspaced doctor --base DIR [--repair] [--json]`.
//
// Examines the base and prints to `out` one line for each finding, each repair
// and a summary, or with `json` one JSON document:
//   {"base": "/b", "workspaces": 2, "errors": 1, "warnings": 0, "notes": 0,
//    "server": null or {"pid": 7, "host": "a", "addresses": ["unix:..."]},
//    "findings": [{"severity": "error", "code": "record-corrupt",
//                  "project": "fraud", "path": "fraud/workspace.yaml",
//                  "problem": "...", "fix": "...", "repairable": false,
//                  "more": 0}],
//    "repairs": [{"path": "...", "result": "...", "error": ""}]}
//
// With `repair`, first locks the base, then carries out the safe repairs,
// and examines the base again; the findings are those that remain. Only the
// server's user may do this.
//
// Returns 0 if there are no findings but notes; 1 if there are errors
// or warnings, or a repair failed; 3 if `repair` is set but another process
// holds the base; 4 if the base cannot be read, or with `repair` not written.
// Prints a sentence to `err` for 3 and 4.
int RunDoctor(const std::string& base, bool repair, bool json,
              const Options& options, std::ostream& out, std::ostream& err);

}  // namespace mlops::doctor

#endif  // MLOPS_SERVICE_DOCTOR_COMMANDS_H_
