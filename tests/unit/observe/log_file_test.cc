#include "service/observe/log_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "absl/strings/string_view.h"
#include "tests/support/matchers.h"
#include "tests/support/temp_dir.h"

namespace mlops::observe {
namespace {

using absl::StatusCode;
using support::IsError;

class LogFileTest : public testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<LogFile>> Open(absl::string_view name,
                                                LogFile::Options options = {}) {
    return LogFile::Open(temp.Path(name), options);
  }

  const support::TempDir temp;
  const LogFile::Options no_links = {.follow_links = false};
};

TEST_F(LogFileTest, LinesAreAppended) {
  temp.WriteFile("log", "1\n");
  Open("log").value()->Write("2\n3\n");
  EXPECT_EQ(temp.ReadFile("log"), "1\n2\n3\n");
}

TEST_F(LogFileTest, OneOlderFileIsKept) {
  const auto log = Open("log", {.max_bytes = 10}).value();
  for (const char* line : {"11111111\n", "22222222\n", "33333333\n"})
    log->Write(line);
  EXPECT_EQ(temp.ReadFile("log"), "33333333\n");
  EXPECT_EQ(temp.ReadFile("log.1"), "22222222\n");
}

TEST_F(LogFileTest, NothingIsMadeUnderAPathFromWhichItWasMoved) {
  temp.MakeDirs("base");
  const auto log = Open("base/log", {.max_bytes = 10}).value();
  log->Write("11111111\n");
  temp.Move("base", "moved");
  log->Write("22222222\n");
  EXPECT_FALSE(temp.Exists("base"));
  EXPECT_EQ(temp.ReadFile("moved/log.1") + temp.ReadFile("moved/log"),
            "11111111\n22222222\n");
  temp.Remove("moved");
  log->Write("33333333\n");
  EXPECT_FALSE(temp.Exists("base") || temp.Exists("moved"));
}

TEST_F(LogFileTest, LinksAreFollowedOnlyIfToldSo) {
  temp.WriteFile("target", "");
  temp.Link("target", "link");
  EXPECT_THAT(Open("link", no_links),
              IsError(StatusCode::kFailedPrecondition, ""));
  Open("link").value()->Write("1\n");
  EXPECT_EQ(temp.ReadFile("target"), "1\n");
}

TEST_F(LogFileTest, AFurtherNameOfAnotherFileIsALinkToo) {
  temp.WriteFile("target", "");
  ASSERT_EQ(::link(temp.Path("target").c_str(), temp.Path("second").c_str()),
            0);
  EXPECT_THAT(Open("second", no_links),
              IsError(StatusCode::kFailedPrecondition, ""));
  EXPECT_EQ(temp.ReadFile("target"), "");
}

TEST_F(LogFileTest, APipeHoldsNobodyUp) {
  temp.MakeFifo("pipe");
  EXPECT_THAT(Open("pipe", no_links),
              IsError(StatusCode::kFailedPrecondition, ""));
}

TEST_F(LogFileTest, WhatCannotBeOpenedIsRefused) {
  for (const char* name : {"no/such/log", ""}) {
    EXPECT_THAT(Open(name), IsError(StatusCode::kFailedPrecondition, ""))
        << name;
  }
}

}  // namespace
}  // namespace mlops::observe
