#ifndef MLOPS_TESTS_UNIT_DOCTOR_FIXTURE_H_
#define MLOPS_TESTS_UNIT_DOCTOR_FIXTURE_H_

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "service/doctor/doctor.h"
#include "tests/support/temp_dir.h"

namespace mlops::doctor {

// A base on the real file system with one workspace, "fraud".
class DoctorTest : public testing::Test {
 protected:
  DoctorTest();

  // Creates a workspace as the server does. Paths of `temp` begin with "base/".
  void MakeWorkspace(absl::string_view name) const;

  // Runs all checks. Omits what depends on the machine that runs the test:
  // the type of its file system and the space there.
  Report Run(
      bool is_ours = false, std::function<void()> wait = [] {}) const;
  // Returns the findings as "severity code path".
  std::vector<std::string> Lines(bool is_ours = false) const;
  // Returns the only finding, or an empty one and a failure.
  Finding Only() const;

  const support::TempDir temp;
  const std::string base = temp.Path("base");
};

}  // namespace mlops::doctor

#endif  // MLOPS_TESTS_UNIT_DOCTOR_FIXTURE_H_
