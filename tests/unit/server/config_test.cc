#include "service/server/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "service/server/version.h"

namespace mlops::server {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

std::variant<Config, int> Parse(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "workspaced");
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  return ParseCommandLine(static_cast<int>(argv.size()), argv.data());
}

// Returns what an invalid command line prints to standard error.
std::string Refusal(const std::vector<std::string>& arguments) {
  testing::internal::CaptureStderr();
  const auto parsed = Parse(arguments);
  const std::string printed = testing::internal::GetCapturedStderr();
  EXPECT_TRUE(std::holds_alternative<int>(parsed) &&
              std::get<int>(parsed) == 2);
  return printed;
}

TEST(CommandLine, NeedsOnlyABase) {
  const Config config = std::get<Config>(Parse({"--base", "/data"}));
  EXPECT_EQ(config.base, "/data");
  EXPECT_TRUE(config.listen.empty());
  EXPECT_EQ(config.purge_delay, absl::Hours(72));
  EXPECT_EQ(config.idle_timeout, absl::InfiniteDuration());
  EXPECT_EQ(config.drain_timeout, absl::Seconds(30));
  EXPECT_EQ(config.log_calls, observe::CallLogLevel::kAll);
  EXPECT_FALSE(config.insecure || config.portable_fs || config.read_only);
}

TEST(CommandLine, TakesEveryFlag) {
  const Config config = std::get<Config>(
      Parse({"--base=/data", "--listen", "127.0.0.1:0", "--listen", "unix:/s",
             "--insecure", "--purge-delay", "0", "--idle-timeout", "1m30s",
             "--drain-timeout=5s", "--log-file", "/log", "--log-calls",
             "errors", "--workers", "3", "--portable-fs", "--read-only"}));
  EXPECT_THAT(config.listen, ElementsAre("127.0.0.1:0", "unix:/s"));
  EXPECT_EQ(config.purge_delay, absl::ZeroDuration());
  EXPECT_EQ(config.idle_timeout, absl::Seconds(90));
  EXPECT_EQ(config.drain_timeout, absl::Seconds(5));
  EXPECT_EQ(config.log_file, "/log");
  EXPECT_EQ(config.log_calls, observe::CallLogLevel::kErrors);
  EXPECT_EQ(config.workers, 3);
  EXPECT_TRUE(config.insecure && config.portable_fs && config.read_only);
}

TEST(CommandLine, RefusesBadFlagsInOneSentence) {
  for (const auto& [arguments, named] :
       std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{}, "--base"},
           {{"--base", "/d", "--nonsense"}, "--nonsense"},
           {{"--base", "/d", "--purge-delay", "3 days"},
            "\"3 days\" is not a duration"},
           {{"--base", "/d", "--purge-delay", "-1h"},
            "\"-1h\" is not a duration"},
           {{"--base", "/d", "--workers", "0"}, "--workers"},
           {{"--base", "/d", "--log-calls", "some"}, "--log-calls"}}) {
    const std::string printed = Refusal(arguments);
    EXPECT_THAT(printed, StartsWith("workspaced: "));
    EXPECT_THAT(printed, HasSubstr(named));
    EXPECT_EQ(std::count(printed.begin(), printed.end(), '\n'), 1) << printed;
  }
}

TEST(CommandLine, PrintsHelpAndVersionAndIsDone) {
  testing::internal::CaptureStdout();
  EXPECT_EQ(std::get<int>(Parse({"--help"})), 0);
  EXPECT_THAT(testing::internal::GetCapturedStdout(),
              HasSubstr("--purge-delay"));
  testing::internal::CaptureStdout();
  EXPECT_EQ(std::get<int>(Parse({"--version"})), 0);
  EXPECT_THAT(testing::internal::GetCapturedStdout(),
              HasSubstr(std::string(kVersion)));
}

}  // namespace
}  // namespace mlops::server
