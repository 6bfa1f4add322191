#include "client-cpp/src/service_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "mlops/workspace/v1/workspace_service.pb.h"
#include "nlohmann/json.hpp"

namespace mlops::internal {
namespace {

using testing::UnorderedElementsAre;

nlohmann::json Config() {
  const auto* file = workspace::v1::GetWorkspaceRequest::descriptor()->file();
  return nlohmann::json::parse(
      ServiceConfigJson(*file->FindServiceByName("WorkspaceService")));
}

TEST(ServiceConfig, RetriesTheUnaryMethodsThatMayBeRepeated) {
  const auto config = Config();
  ASSERT_EQ(config["methodConfig"].size(), 1u);
  std::set<std::string> methods;
  for (const auto& name : config["methodConfig"][0]["name"]) {
    EXPECT_EQ(name["service"], "mlops.workspace.v1.WorkspaceService");
    methods.insert(name["method"]);
  }
  EXPECT_THAT(methods,
              UnorderedElementsAre(
                  "GetWorkspace", "ListWorkspaces", "UpdateWorkspace",
                  "EnsureWorkspace", "GetWorkspaceStatus", "GetServerInfo",
                  "GetArtifact", "ListArtifacts", "GetUpload", "MakeDirectory",
                  "AcquireLease", "ReleaseLease", "ListTemplates"));
}

TEST(ServiceConfig, RetriesOnUnavailableAloneAndNotForEver) {
  const auto policy = Config()["methodConfig"][0]["retryPolicy"];
  EXPECT_EQ(policy["maxAttempts"], 4);
  EXPECT_EQ(policy["initialBackoff"], "0.1s");
  EXPECT_EQ(policy["maxBackoff"], "2s");
  EXPECT_EQ(policy["retryableStatusCodes"], nlohmann::json({"UNAVAILABLE"}));
  EXPECT_TRUE(Config().contains("retryThrottling"));
}

}  // namespace
}  // namespace mlops::internal
