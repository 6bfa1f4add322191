#include "service/observe/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <vector>

#include "absl/strings/str_split.h"
#include "nlohmann/json.hpp"
#include "proto/cpp/base/error.h"
#include "tests/support/temp_dir.h"

namespace mlops::observe {
namespace {

// Reads the lines of a log after it has been closed.
class LogTest : public testing::Test {
 protected:
  std::vector<nlohmann::json> Lines() {
    log.reset();
    std::vector<nlohmann::json> lines;
    for (absl::string_view line :
         absl::StrSplit(temp.ReadFile("log"), '\n', absl::SkipEmpty())) {
      lines.push_back(nlohmann::json::parse(line));
    }
    return lines;
  }

  const support::TempDir temp;
  std::unique_ptr<Log> log = Log::Open({.file = temp.Path("log")}).value();
};

TEST_F(LogTest, AProblemIsOneLineWithPathAndErrno) {
  log->Problem(
      "cannot empty the trash",
      base::MakeError(
          absl::StatusCode::kInternal, "/base/.trash/1: Permission denied",
          {.reason = "IO_ERROR",
           .metadata = {{"path", "/base/.trash/1"}, {"errno", "13"}}}));
  const auto lines = Lines();
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0]["level"], "warning");
  EXPECT_EQ(lines[0]["message"],
            "cannot empty the trash: /base/.trash/1: Permission denied");
  EXPECT_EQ(lines[0]["path"], "/base/.trash/1");
  EXPECT_EQ(lines[0]["errno"], "13");
}

TEST_F(LogTest, ProblemsThatComeAgainAreBounded) {
  for (int i = 0; i < 1000; ++i) {
    log->Problem("a", absl::InternalError("again\n\"and again"));
    log->Problem("b", absl::InternalError("too"));
  }
  const auto lines = Lines();
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0]["message"], "a: again\n\"and again");
  EXPECT_EQ(lines[1]["message"], "b: too");
}

TEST_F(LogTest, AFloodOfCallsPushesNoWarningOut) {
  for (int i = 0; i < 50'000; ++i) {
    if (i % 10'000 == 0) log->Warning("seen");
    log->Call("GetWorkspace", "fraud", absl::OkStatus(), absl::Microseconds(1),
              "unix:");
  }
  int seen = 0;
  for (const nlohmann::json& line : Lines())
    seen += line.value("message", "") == "seen";
  EXPECT_EQ(seen, 5);
}

}  // namespace
}  // namespace mlops::observe
