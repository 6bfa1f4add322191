#include "tests/unit/doctor/fixture.h"

#include <sys/stat.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "service/core/workspace_yaml.h"
#include "tests/support/workspaces.h"

namespace mlops::doctor {

DoctorTest::DoctorTest() {
  temp.MakeDirs("base");
  ::chmod(base.c_str(), 0700);
  MakeWorkspace("fraud");
}

void DoctorTest::MakeWorkspace(absl::string_view name) const {
  const std::string root = absl::StrCat("base/", name);
  for (absl::string_view directory : core::kDirectories)
    temp.MakeDirs(absl::StrCat(root, "/", directory));
  temp.WriteFile(absl::StrCat(root, "/workspace.yaml"),
                 core::EncodeWorkspace(support::NewWorkspace(name, base)));
}

Report DoctorTest::Run(bool is_ours, std::function<void()> wait) const {
  Report report = Examine(base, {.wait = std::move(wait)}, is_ours).value();
  std::erase_if(report.findings, [](const Finding& finding) {
    return absl::StartsWith(finding.code, "file-system-") ||
           finding.code == "space-low" || finding.code == "inodes-low";
  });
  return report;
}

std::vector<std::string> DoctorTest::Lines(bool is_ours) const {
  std::vector<std::string> lines;
  for (const Finding& finding : Run(is_ours).findings) {
    EXPECT_NE(finding.problem, "") << finding.code;
    EXPECT_NE(finding.fix, "") << finding.code;
    lines.push_back(absl::StrCat(NameOf(finding.severity), " ", finding.code,
                                 " ", finding.path));
  }
  return lines;
}

Finding DoctorTest::Only() const {
  const std::vector<Finding> findings = Run().findings;
  EXPECT_EQ(findings.size(), 1u) << testing::PrintToString(Lines());
  return findings.size() == 1 ? findings.front() : Finding{};
}

}  // namespace mlops::doctor
