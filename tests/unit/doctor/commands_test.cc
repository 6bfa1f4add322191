#include "service/doctor/commands.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "service/fs/base_lock.h"
#include "tests/unit/doctor/fixture.h"

namespace mlops::doctor {
namespace {

using testing::HasSubstr;

class CommandTest : public DoctorTest {
 protected:
  int Call(bool repair = false, bool json = false) {
    out.str("");
    err.str("");
    return RunDoctor(base, repair, json, {.wait = [] {}}, out, err);
  }

  // Returns the path of the entry that a repair moved aside.
  std::string Aside(absl::string_view path) const {
    for (const auto& entry :
         std::filesystem::directory_iterator(base + "/.workspaced")) {
      const auto there = entry.path() / std::string(path);
      if (entry.is_directory() && std::filesystem::exists(there))
        return there.string();
    }
    return "";
  }

  std::ostringstream out, err;
};

TEST_F(CommandTest, TheExitCodeTells) {
  EXPECT_EQ(Call(), 0);
  EXPECT_THAT(out.str(), HasSubstr("1 workspace: 0 errors, 0 warnings"));
  // A note needs no attention.
  temp.WriteFile("base/README", "");
  EXPECT_EQ(Call(), 0);
  EXPECT_THAT(out.str(), HasSubstr("[foreign-file]"));
  temp.WriteFile("base/fraud/workspace.yaml", "[");
  EXPECT_EQ(Call(), 1);
  EXPECT_THAT(out.str(), HasSubstr("error: fraud/workspace.yaml line "));
  EXPECT_EQ(err.str(), "");
}

TEST_F(CommandTest, AMissingBaseIsAnErrorAndIsNotCreated) {
  temp.Remove("base");
  for (bool repair : {false, true}) {
    EXPECT_EQ(Call(repair), 4);
    EXPECT_THAT(err.str(), HasSubstr("cannot find the base directory"));
    EXPECT_FALSE(temp.Exists("base"));
  }
}

TEST_F(CommandTest, ControlCharactersAreEscaped) {
  temp.WriteFile("base/a\nb", "");
  Call();
  EXPECT_THAT(out.str(), testing::Not(HasSubstr("a\nb")));
}

TEST_F(CommandTest, JsonHasEveryFinding) {
  temp.WriteFile("base/fraud/workspace.yaml", "[");
  // A name that is not UTF-8 must not break the document.
  temp.WriteFile("base/\xff", "");
  EXPECT_EQ(Call(false, true), 1);
  const auto json = nlohmann::json::parse(out.str());
  EXPECT_EQ(json["base"], base);
  EXPECT_EQ(json["errors"], 1);
  EXPECT_TRUE(json["server"].is_null());
  bool found = false;
  for (const auto& finding : json["findings"])
    found = found || finding["code"] == "record-corrupt";
  EXPECT_TRUE(found);
}

TEST_F(CommandTest, RepairMovesLeftoversAsideAndMakesDirectories) {
  temp.WriteFile("base/.staging/x/workspace.yaml", "staged");
  temp.WriteFile("base/.workspaced/checkpoint", "damaged");
  temp.WriteFile("base/fraud/.workspace.yaml.1", "half");
  temp.Remove("base/fraud/dvc");
  EXPECT_EQ(Call(/*repair=*/true), 0) << out.str();
  EXPECT_THAT(out.str(), HasSubstr("repaired: moved .staging/x to "));
  EXPECT_THAT(out.str(), HasSubstr("repaired: made fraud/dvc\n"));
  EXPECT_NE(Aside(".staging/x/workspace.yaml"), "");
  EXPECT_NE(Aside(".workspaced/checkpoint"), "");
  EXPECT_NE(Aside("fraud/.workspace.yaml.1"), "");
  EXPECT_FALSE(temp.Exists("base/.staging/x"));
  EXPECT_FALSE(temp.Exists("base/fraud/.workspace.yaml.1"));
  EXPECT_TRUE(temp.Exists("base/fraud/dvc"));
  // Nothing is left to do.
  EXPECT_EQ(Call(/*repair=*/true), 0);
  EXPECT_THAT(out.str(), testing::Not(HasSubstr("repaired")));
}

TEST_F(CommandTest, RepairKeepsMoreThanTheFindingsItShows) {
  for (int i = 0; i < 30; ++i)
    temp.WriteFile(absl::StrCat("base/fraud/.workspace.yaml.", i), "");
  EXPECT_EQ(Call(/*repair=*/true), 0);
  EXPECT_THAT(Lines(), testing::IsEmpty());
}

TEST_F(CommandTest, RepairLeavesUserDataAlone) {
  temp.WriteFile("base/fraud/workspace.yaml", "[");
  temp.Link("/etc/passwd", "base/fraud/outputs/link");
  EXPECT_EQ(Call(/*repair=*/true), 1);
  EXPECT_EQ(temp.ReadFile("base/fraud/workspace.yaml"), "[");
}

TEST_F(CommandTest, RepairRefusesABaseThatIsServed) {
  temp.WriteFile("base/fraud/.workspace.yaml.1", "half");
  const auto lock = fs::BaseLock::Acquire(base, LockNames()).value();
  ASSERT_TRUE(lock->MakeFile().ok());
  ASSERT_TRUE(
      lock->WriteContent(R"({"pid": 7, "host": "a", "addresses": ["unix:/s"]})")
          .ok());
  EXPECT_EQ(Call(/*repair=*/true), 3);
  EXPECT_THAT(err.str(), HasSubstr("pid 7 on host a"));
  EXPECT_EQ(out.str(), "");
  EXPECT_TRUE(temp.Exists("base/fraud/.workspace.yaml.1"));
}

TEST_F(CommandTest, RepairRefusesAnotherUserThanTheServers) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give files away";
  ASSERT_EQ(::chown(base.c_str(), 12345, 12345), 0);
  EXPECT_EQ(Call(/*repair=*/true), 4);
  EXPECT_THAT(err.str(), HasSubstr("the server's user is 12345"));
  EXPECT_FALSE(temp.Exists("base/.workspaced"));
}

TEST_F(CommandTest, RepairDoesNotFollowLinks) {
  temp.WriteFile("outside/x", "");
  temp.Link("../outside", "base/.staging");
  Call(/*repair=*/true);
  EXPECT_TRUE(temp.Exists("outside/x"));
}

}  // namespace
}  // namespace mlops::doctor
