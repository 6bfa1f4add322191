#include "service/auth/commands.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <sstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "service/auth/token_file.h"
#include "tests/support/matchers.h"
#include "tests/support/temp_dir.h"

namespace mlops::auth {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;

constexpr Rpc kRpcs[] = {{"GetWorkspace", Access::kView},
                         {"WriteArtifact", Access::kEdit}};

class CommandsTest : public testing::Test {
 protected:
  int Add(absl::string_view name,
          std::optional<absl::Duration> expires = std::nullopt) {
    out.str("");
    err.str("");
    return AddToken(name, temp.Path("tokens"), expires, out, err);
  }
  std::string Token() const {
    return std::string(absl::StripSuffix(out.str(), "\n"));
  }
  TokenTable Table() const {
    return TokenTable::Parse(temp.ReadFile("tokens")).value();
  }
  mode_t Mode(absl::string_view name) const {
    struct stat state;
    EXPECT_EQ(::stat(temp.Path(name).c_str(), &state), 0);
    return state.st_mode & 07777;
  }
  int Check(absl::string_view name, absl::string_view rpc,
            absl::string_view project) {
    out.str("");
    err.str("");
    return CheckPolicy(temp.Path("policy"), kRpcs, name, rpc, project, out,
                       err);
  }

  const support::TempDir temp;
  std::ostringstream out, err;
};

TEST_F(CommandsTest, TheTokenIsPrintedAndOnlyItsHashStored) {
  EXPECT_EQ(Add("robot"), 0);
  EXPECT_THAT(out.str(), MatchesRegex("mlw_[A-Za-z0-9_-]+\n"));
  EXPECT_EQ(err.str(), "");
  EXPECT_THAT(temp.ReadFile("tokens"), Not(HasSubstr(Token())));
  EXPECT_EQ(Table().Find(Token(), absl::Now()).value(), "robot");
  EXPECT_EQ(Mode("tokens"), 0600u);
}

TEST_F(CommandsTest, ExpiryIsStored) {
  EXPECT_EQ(Add("robot", absl::Hours(1)), 0);
  EXPECT_OK(Table().Find(Token(), absl::Now() + absl::Minutes(59)));
  EXPECT_FALSE(Table().Find(Token(), absl::Now() + absl::Hours(1)).ok());
  EXPECT_EQ(Add("robot", absl::ZeroDuration()), 1);
  EXPECT_THAT(err.str(), HasSubstr("--expires must be positive"));
}

TEST_F(CommandsTest, AnExistingFileKeepsItsLinesAndMode) {
  temp.WriteFile("tokens", "# ours");
  ::chmod(temp.Path("tokens").c_str(), 0640);
  EXPECT_EQ(Add("robot"), 0);
  EXPECT_EQ(Add("robot"), 0);
  EXPECT_THAT(temp.ReadFile("tokens"), testing::StartsWith("# ours\nrobot "));
  EXPECT_EQ(Table().size(), 2u);
  EXPECT_EQ(Mode("tokens"), 0640u);
}

TEST_F(CommandsTest, LinksStayLinks) {
  temp.WriteFile("real/tokens", "");
  temp.Link("real/tokens", "tokens");
  EXPECT_EQ(Add("robot"), 0);
  EXPECT_THAT(temp.ReadFile("real/tokens"), HasSubstr("robot "));
}

TEST_F(CommandsTest, MistakesChangeNothing) {
  for (const char* name : {"", "a b", "*", "uid:0", "#x"}) {
    EXPECT_EQ(Add(name), 1);
    EXPECT_THAT(err.str(), HasSubstr("the name"));
    EXPECT_EQ(out.str(), "");
  }
  EXPECT_FALSE(temp.Exists("tokens"));
  temp.WriteFile("tokens", "broken\n");
  EXPECT_EQ(Add("robot"), 1);
  EXPECT_THAT(err.str(), HasSubstr("line 1: has 1 fields"));
  EXPECT_EQ(temp.ReadFile("tokens"), "broken\n");
  EXPECT_EQ(AddToken("robot", temp.Path("missing/tokens"), {}, out, err), 1);
  EXPECT_THAT(err.str(), HasSubstr("No such file or directory"));
  EXPECT_EQ(out.str(), "");
}

TEST_F(CommandsTest, ConcurrentAdditionsAreAllKept) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([this, i] {
      std::ostringstream out, err;
      EXPECT_EQ(AddToken(absl::StrCat("robot-", i), temp.Path("tokens"), {},
                         out, err),
                0)
          << err.str();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Table().size(), 8u);
}

TEST_F(CommandsTest, PoliciesAreChecked) {
  temp.WriteFile(
      "policy",
      "bindings:\n  - {principal: robot, role: viewer, projects: [p]}\n");
  EXPECT_EQ(Check("", "", ""), 0);
  EXPECT_EQ(out.str(), "valid\n");
  EXPECT_EQ(Check("robot", "GetWorkspace", "p"), 0);
  EXPECT_THAT(out.str(), HasSubstr("allowed: robot has the role viewer"));
  EXPECT_EQ(Check("robot", "WriteArtifact", "p"), 1);
  EXPECT_THAT(out.str(), HasSubstr("denied: robot needs"));
  temp.WriteFile("policy", "binding: []\n");
  EXPECT_EQ(Check("robot", "GetWorkspace", "p"), 2);
  EXPECT_THAT(err.str(), HasSubstr("line 1: a policy has no key "
                                   "binding; the nearest is bindings"));
}

}  // namespace
}  // namespace mlops::auth
