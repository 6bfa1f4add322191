#ifndef MLOPS_TESTS_BENCH_BARE_CALLS_H_
#define MLOPS_TESTS_BENCH_BARE_CALLS_H_

#include <string>

#include "absl/strings/string_view.h"

// The baseline of durable changes: only the system calls that are necessary.
// Ends the program if a call fails. Thread-safe for different names.
namespace mlops::bench {

class BareCalls {
 public:
  // Creates `base` and works below it.
  explicit BareCalls(const std::string& base);
  ~BareCalls();
  BareCalls(const BareCalls&) = delete;
  BareCalls& operator=(const BareCalls&) = delete;

  // Creates six directories and a synced record in the staging directory, syncs
  // it, renames it into place, and syncs the base.
  void Create(const std::string& name, absl::string_view record);

  // Writes a synced temporary file beside the record, renames it over the
  // record, and syncs the directory.
  void Update(const std::string& name, absl::string_view record);

 private:
  int base_ = -1;
  int staging_ = -1;
};

}  // namespace mlops::bench

#endif  // MLOPS_TESTS_BENCH_BARE_CALLS_H_
