#include "service/auth/gate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <thread>

#include "tests/support/matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/auth/signer.h"

namespace mlops::auth {
namespace {

using support::HasMessage;
using support::IsError;
using testing::HasSubstr;

constexpr Rpc kRpcs[] = {{"GetWorkspace", Access::kView},
                         {"WriteArtifact", Access::kEdit}};
const Caller kRobot = {.name = "robot", .kind = Kind::kToken};
constexpr char kViewer[] =
    "bindings:\n  - {principal: robot, role: viewer, projects: [p]}\n";

class GateTest : public testing::Test {
 protected:
  GateTest() {
    temp.WriteFile("tokens", TokenLine("robot", "mlw_a", std::nullopt));
    temp.WriteFile("policy", kViewer);
  }

  Gate::Options Options() const {
    return {.tokens = temp.Path("tokens"),
            .policy = temp.Path("policy"),
            .rpcs = kRpcs};
  }
  std::unique_ptr<Gate> Open() const { return Gate::Open(Options()).value(); }

  // Polls until changes have settled. Returns what was reported.
  static std::vector<absl::Status> Check(Gate& gate) {
    std::vector<absl::Status> reports;
    for (int i = 0; i < 3; ++i) {
      gate.Check([&](const base::ReloadedFile&, const absl::Status& status) {
        reports.push_back(status);
      });
    }
    return reports;
  }

  const support::TempDir temp;
};

TEST_F(GateTest, FilesAreInForceFromTheStart) {
  const auto gate = Open();
  EXPECT_EQ(gate->Authenticate({.authorization = "Bearer mlw_a"}).value(),
            kRobot);
  EXPECT_FALSE(gate->Authenticate({}).ok());
  EXPECT_TRUE(gate->policy()->Allows(kRobot, "GetWorkspace", "p"));
  EXPECT_FALSE(gate->policy()->Allows(kRobot, "WriteArtifact", "p"));
  EXPECT_EQ(gate->files().size(), 2u);
}

TEST_F(GateTest, WithoutFilesEverythingIsAllowed) {
  const auto gate = Gate::Open({.rpcs = kRpcs}).value();
  const Caller caller = gate->Authenticate({}).value();
  EXPECT_TRUE(gate->policy()->Allows(caller, "WriteArtifact", "p"));
}

TEST_F(GateTest, ClientCertificatesExcludeAnonymousCallers) {
  const auto gate =
      Gate::Open({.client_certificates = true, .rpcs = kRpcs}).value();
  EXPECT_FALSE(gate->Authenticate({}).ok());
}

TEST_F(GateTest, ChangedFilesAreApplied) {
  const auto gate = Open();
  EXPECT_TRUE(Check(*gate).empty());
  temp.WriteFile("tokens", TokenLine("alice", "mlw_b", std::nullopt));
  temp.WriteFile("policy",
                 "bindings:\n  - {principal: alice, role: operator}\n");
  EXPECT_THAT(Check(*gate),
              testing::ElementsAre(support::IsOk(), support::IsOk()));
  EXPECT_FALSE(gate->Authenticate({.authorization = "Bearer mlw_a"}).ok());
  const Caller alice =
      gate->Authenticate({.authorization = "Bearer mlw_b"}).value();
  EXPECT_TRUE(gate->policy()->Allows(alice, "WriteArtifact", "q"));
  EXPECT_EQ(gate->files()[0]->loads(), 2);
}

TEST_F(GateTest, AMistakeLeavesThePreviousContentsInForce) {
  const auto gate = Open();
  temp.WriteFile("tokens", "robot\n");
  temp.WriteFile("policy", "bindings: [{principal: x, role: veiwer}]\n");
  const auto reports = Check(*gate);
  ASSERT_EQ(reports.size(), 2u);
  EXPECT_THAT(reports[0],
              HasMessage(HasSubstr("tokens file " + temp.Path("tokens") +
                                   ": line 1: has 1 fields")));
  EXPECT_THAT(reports[1], HasMessage(HasSubstr("the nearest is viewer")));
  EXPECT_TRUE(Check(*gate).empty());
  EXPECT_TRUE(gate->files()[0]->failing());
  EXPECT_EQ(gate->files()[1]->failures(), 1);
  EXPECT_OK(gate->Authenticate({.authorization = "Bearer mlw_a"}));
  EXPECT_TRUE(gate->policy()->Allows(kRobot, "GetWorkspace", "p"));
}

TEST_F(GateTest, AMistakeAtTheStartIsAnError) {
  temp.WriteFile("policy", "bindings: 7\n");
  EXPECT_THAT(Gate::Open(Options()).status(),
              HasMessage(HasSubstr("policy file ")));
  temp.Remove("policy");
  EXPECT_THAT(Gate::Open(Options()),
              IsError(absl::StatusCode::kFailedPrecondition, ""));
}

TEST_F(GateTest, FilesThatEverybodyCanWriteAreRefused) {
  for (const char* name : {"tokens", "policy"}) {
    ::chmod(temp.Path(name).c_str(), 0666);
    EXPECT_THAT(Gate::Open(Options()).status(),
                HasMessage(HasSubstr("has the mode 0666")));
    ::chmod(temp.Path(name).c_str(), 0664);
  }
  EXPECT_OK(Gate::Open(Options()));
}

TEST_F(GateTest, JwtOptionsNeedEachOther) {
  const Signer signer = Signer::P256("k");
  temp.WriteFile("jwks", KeySet({signer.Jwk()}));
  const std::string jwks = temp.Path("jwks");
  EXPECT_FALSE(Gate::Open({.jwks = jwks, .rpcs = kRpcs}).ok());
  EXPECT_FALSE(Gate::Open({.jwks = jwks, .jwt_issuer = "i"}).ok());
  EXPECT_FALSE(Gate::Open({.jwt_issuer = "i", .jwt_audience = "a"}).ok());
  const auto gate =
      Gate::Open({.jwks = jwks, .jwt_issuer = "i", .jwt_audience = "a"})
          .value();
  const std::string header =
      "Bearer " + signer.Sign({{"iss", "i"},
                               {"aud", "a"},
                               {"sub", "account"},
                               {"exp", absl::ToUnixSeconds(absl::Now()) + 9}});
  EXPECT_EQ(gate->Authenticate({.authorization = header}).value().name,
            "account");
  temp.WriteFile("jwks", "garbage");
  EXPECT_EQ(Check(*gate).size(), 1u);
  EXPECT_OK(gate->Authenticate({.authorization = header}));
}

TEST_F(GateTest, ReloadReportsEveryFile) {
  const auto gate = Open();
  int reports = 0;
  gate->Reload([&](const base::ReloadedFile&, const absl::Status& status) {
    EXPECT_OK(status);
    ++reports;
  });
  EXPECT_EQ(reports, 2);
}

TEST_F(GateTest, ReloadingDisturbsNoCall) {
  const auto gate = Open();
  std::atomic<bool> stop = false;
  std::atomic<int> failed = 0;
  std::thread caller([&] {
    while (!stop) {
      const auto robot = gate->Authenticate({.authorization = "Bearer mlw_a"});
      if (!robot.ok() || !gate->policy()->Allows(*robot, "GetWorkspace", "p"))
        ++failed;
    }
  });
  for (int i = 0; i < 100; ++i) {
    temp.WriteFile("tokens", TokenLine("robot", "mlw_a", std::nullopt) +
                                 std::string(i, '\n'));
    temp.WriteFile("policy", kViewer + std::string(i, '\n'));
    Check(*gate);
  }
  stop = true;
  caller.join();
  EXPECT_EQ(failed, 0);
  EXPECT_GE(gate->files()[0]->loads(), 100);
}

}  // namespace
}  // namespace mlops::auth
