#include "service/archive/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/support/matchers.h"

namespace mlops::archive {
namespace {

using absl::StatusCode;
using support::IsError;

core::ProjectName Project(const char* name) {
  return *core::ProjectName::Parse(name);
}

core::Workspace Fraud() {
  return {.project = Project("fraud"),
          .uid = "u1",
          .root_path = "/base/fraud",
          .settings = core::DefaultSettings(Project("fraud"), "/base/fraud"),
          .metadata = {{"team", "risk"}, {"rate", 0.5}, {"n", 3}}};
}

std::string Encoded(const core::Workspace& workspace) {
  return EncodeManifest(MakeManifest(workspace, {"models", "dvc"}));
}

TEST(ManifestTest, IsReadAsItWasWritten) {
  const std::string text = Encoded(Fraud());
  const auto manifest = DecodeManifest(text);
  ASSERT_OK(manifest);
  EXPECT_EQ(manifest->project.str(), "fraud");
  EXPECT_EQ(manifest->metadata, Fraud().metadata);
  EXPECT_THAT(manifest->directories, testing::ElementsAre("models", "dvc"));
  EXPECT_EQ(EncodeManifest(*manifest), text);
}

TEST(ManifestTest, DerivesSettingsAgain) {
  core::Workspace workspace = Fraud();
  const auto manifest = DecodeManifest(Encoded(workspace));
  ASSERT_OK(manifest);
  EXPECT_EQ(SettingsFor(*manifest, Project("copy"), "/new place/copy"),
            core::DefaultSettings(Project("copy"), "/new place/copy"));
}

TEST(ManifestTest, KeepsOwnSettingsAndMovesPlacesInTheWorkspace) {
  core::Workspace workspace = Fraud();
  workspace.settings = {
      .mlflow_experiment_id = "7",
      .mlflow_tracking_uri = "sqlite:////base/fraud/mlflow/other.db",
      .dvc_remote_path = "/base/fraud/outputs/remote"};
  const auto manifest = DecodeManifest(Encoded(workspace));
  ASSERT_OK(manifest);
  const core::Settings settings =
      SettingsFor(*manifest, Project("copy"), "/x/copy");
  EXPECT_EQ(settings.mlflow_experiment_id, "7");
  EXPECT_EQ(settings.mlflow_tracking_uri, "sqlite:////x/copy/mlflow/other.db");
  EXPECT_EQ(settings.dvc_remote_path, "/x/copy/outputs/remote");
  EXPECT_EQ(settings.bentoml_tag_prefix, std::nullopt);
  workspace.settings.dvc_remote_path = "s3://bucket/fraud";
  EXPECT_EQ(SettingsFor(MakeManifest(workspace, {}), Project("copy"), "/x/copy")
                .dvc_remote_path,
            "s3://bucket/fraud");
}

TEST(ManifestTest, DoesNotDependOnThePlace) {
  core::Workspace moved = Fraud();
  moved.uid = "u2";
  moved.root_path = "/elsewhere/fraud";
  moved.settings = core::DefaultSettings(moved.project, moved.root_path);
  moved.create_time = absl::FromUnixSeconds(1);
  EXPECT_EQ(Encoded(moved), Encoded(Fraud()));
}

TEST(ManifestTest, RefusesOtherTexts) {
  const std::string good = Encoded(Fraud());
  ASSERT_OK(DecodeManifest(good));
  const auto with = [&](const char* from, const char* to) {
    return absl::StrReplaceAll(good, {{from, to}});
  };
  for (const std::string& text : {std::string(),
                                  std::string("{"),
                                  std::string("[]"),
                                  std::string("{}"),
                                  std::string("null"),
                                  std::string(100'000, '['),
                                  good + "x",
                                  with("mlops-workspace", "other"),
                                  with("\"version\": 1", "\"version\": 2"),
                                  with("\"version\": 1", "\"version\": \"1\""),
                                  with("\"fraud\"", "\"../fraud\""),
                                  with("\"fraud\"", "7"),
                                  with("\"settings\"", "\"x\""),
                                  with("\"directories\"", "\"x\""),
                                  with("\"metadata\"", "\"x\""),
                                  with("\"default\"", "\"other\""),
                                  with("\"models\"", "7"),
                                  with("true", "false"),
                                  with("\"team\"", "\"n\""),
                                  with("\"rate\"", "\"\xff\"")}) {
    EXPECT_THAT(DecodeManifest(text).status(),
                IsError(StatusCode::kInvalidArgument, "ARCHIVE_INVALID"))
        << text.substr(0, 300);
  }
}

}  // namespace
}  // namespace mlops::archive
