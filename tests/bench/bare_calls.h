#ifndef MLOPS_TESTS_BENCH_BARE_CALLS_H_
#define MLOPS_TESTS_BENCH_BARE_CALLS_H_

#include <string>

#include "absl/strings/string_view.h"

// The yardstick for durable changes: the system calls that cannot be done
// without, and nothing else. They end the program if one fails. Thread-safe for
// different names.
namespace mlops::bench {

class BareCalls {
 public:
  // Works below `base`, which is made.
  explicit BareCalls(const std::string& base);
  ~BareCalls();
  BareCalls(const BareCalls&) = delete;
  BareCalls& operator=(const BareCalls&) = delete;

  // Six directories and a synced record in the staging directory, that synced,
  // a rename into place, the base synced.
  void Create(const std::string& name, absl::string_view record);

  // A synced temporary file beside the record, a rename over it, the directory
  // synced.
  void Update(const std::string& name, absl::string_view record);

 private:
  int base_ = -1;
  int staging_ = -1;
};

}  // namespace mlops::bench

#endif  // MLOPS_TESTS_BENCH_BARE_CALLS_H_
