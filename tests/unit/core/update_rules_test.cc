// Tests what each update does to a workspace.
#include "service/core/update_rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "absl/strings/str_cat.h"
#include "service/core/iso_time.h"
#include "tests/support/matchers.h"
#include "tests/support/workspaces.h"

namespace mlops::core {
namespace {

using absl::StatusCode;
using support::HasDetail;
using support::IsError;
using support::TimeAt;

const auto kFieldInvalid =
    IsError(StatusCode::kInvalidArgument, "FIELD_INVALID");

class ApplyUpdateTest : public testing::Test {
 protected:
  ApplyUpdateTest() {
    current.settings.mlflow_experiment_id = "1";
    current.metadata = {{"owner", "ana"},
                        {"tags", {"a", "b"}},
                        {"nested", {{"x", 1}, {"y", 2}}}};
  }
  Workspace Apply(const UpdateSpec& spec) {
    return ApplyUpdate(current, spec, TimeAt(60)).value().value();
  }
  // Returns whether the update changes nothing.
  bool ChangesNothing(const UpdateSpec& spec) {
    return !ApplyUpdate(current, spec, TimeAt(60)).value().has_value();
  }

  Workspace current = support::NewWorkspace("fraud");
};

TEST_F(ApplyUpdateTest, WithoutAMaskPresentSettingsAreSetAndTheOthersStay) {
  const Workspace updated = Apply({.settings = {.mlflow_experiment_id = "2"}});
  EXPECT_EQ(updated.settings.mlflow_experiment_id, "2");
  EXPECT_EQ(updated.settings.dvc_remote_path, current.settings.dvc_remote_path);
  EXPECT_EQ(updated.metadata, current.metadata);
}

TEST_F(ApplyUpdateTest, WithoutAMaskAnEmptySettingIsSetEmpty) {
  EXPECT_EQ(Apply({.settings = {.mlflow_experiment_id = ""}})
                .settings.mlflow_experiment_id,
            "");
}

TEST_F(ApplyUpdateTest, WithoutAMaskMetadataIsMergedShallowly) {
  const Workspace updated =
      Apply({.metadata = {
                 {"owner", "bob"}, {"nested", {{"z", 3}}}, {"new", nullptr}}});
  EXPECT_EQ(
      updated.metadata,
      Metadata::parse(
          R"({"owner": "bob", "tags": ["a", "b"], "nested": {"z": 3}, "new": null})"));
}

TEST_F(ApplyUpdateTest, AMaskedSettingIsSetOrCleared) {
  const std::vector<std::string> mask = {"mlflow_experiment_id",
                                         "dvc_remote_path"};
  const Workspace updated = Apply(
      {.settings = {.dvc_remote_path = "s3://b", .bentoml_tag_prefix = "x:"},
       .mask = mask});
  EXPECT_EQ(updated.settings.mlflow_experiment_id, std::nullopt);
  EXPECT_EQ(updated.settings.dvc_remote_path, "s3://b");
  EXPECT_EQ(updated.settings.bentoml_tag_prefix,
            current.settings.bentoml_tag_prefix);
  EXPECT_EQ(updated.metadata, current.metadata);
}

TEST_F(ApplyUpdateTest, MaskedMetadataIsReplacedWhole) {
  const UpdateSpec spec = {.metadata = {{"k", 1}},
                           .mask = std::vector<std::string>{"metadata"}};
  EXPECT_EQ(Apply(spec).metadata, Metadata({{"k", 1}}));
  EXPECT_EQ(Apply({.mask = std::vector<std::string>{"metadata"}}).metadata,
            Metadata::object());
}

TEST_F(ApplyUpdateTest, MetadataThatIsNotInTheMaskIsIgnored) {
  const UpdateSpec spec = {
      .settings = {.mlflow_experiment_id = "9"},
      .metadata = {{"k", 1}},
      .mask = std::vector<std::string>{"mlflow_experiment_id"}};
  EXPECT_EQ(Apply(spec).metadata, current.metadata);
}

TEST_F(ApplyUpdateTest,
       AStarReplacesEverythingAndAbsentSettingsGetTheirDefaults) {
  const UpdateSpec spec = {.settings = {.mlflow_tracking_uri = "http://mlflow"},
                           .metadata = {{"k", 1}},
                           .mask = std::vector<std::string>{"*"}};
  const Workspace updated = Apply(spec);
  Settings expected = DefaultSettings(current.project, current.root_path);
  expected.mlflow_tracking_uri = "http://mlflow";
  EXPECT_EQ(updated.settings, expected);
  EXPECT_EQ(updated.metadata, Metadata({{"k", 1}}));
  EXPECT_EQ(updated.uid, current.uid);
  EXPECT_EQ(updated.create_time, current.create_time);
}

TEST_F(ApplyUpdateTest, WithoutAMaskPresentLimitsAreSetAndTheOthersStay) {
  current.quota.max_file_count = 5;
  const Workspace updated = Apply({.quota = {.max_size_bytes = 0}});
  EXPECT_EQ(updated.quota, (Quota{.max_size_bytes = 0, .max_file_count = 5}));
  EXPECT_TRUE(ChangesNothing({.quota = {.max_file_count = 5}}));
  EXPECT_TRUE(ChangesNothing({}));
}

TEST_F(ApplyUpdateTest, AMaskedLimitIsSetOrRemoved) {
  current.quota = {.max_size_bytes = 10, .max_file_count = 5};
  EXPECT_EQ(Apply({.mask = std::vector<std::string>{"max_size_bytes"}}).quota,
            Quota{.max_file_count = 5});
  EXPECT_EQ(Apply({.quota = {.max_size_bytes = 1, .max_file_count = 2},
                   .mask = std::vector<std::string>{"max_file_count"}})
                .quota,
            (Quota{.max_size_bytes = 10, .max_file_count = 2}));
  EXPECT_EQ(Apply({.mask = std::vector<std::string>{"*"}}).quota, Quota{});
  // The other fields' masks leave it alone.
  EXPECT_EQ(Apply({.metadata = {{"k", 1}},
                   .mask = std::vector<std::string>{"metadata"}})
                .quota,
            current.quota);
}

TEST_F(ApplyUpdateTest, LimitsMustNotBeNegativeNorTooLargeForYaml) {
  const auto apply = [&](const Quota& quota) {
    return ApplyUpdate(current, {.quota = quota}, TimeAt(60)).status();
  };
  const absl::Status negative = apply({.max_size_bytes = -1});
  EXPECT_THAT(negative, kFieldInvalid);
  EXPECT_THAT(negative, HasDetail("field", "max_size_bytes"));
  EXPECT_THAT(apply({.max_file_count = -1}),
              HasDetail("field", "max_file_count"));
  EXPECT_THAT(apply({.max_size_bytes = kMaxInteger + 1}), kFieldInvalid);
  EXPECT_OK(apply({.max_size_bytes = kMaxInteger}));
}

TEST_F(ApplyUpdateTest, RemovedKeysGoAndMissingOnesAreIgnored) {
  const Workspace updated = Apply(
      {.metadata = {{"new", 1}}, .remove_metadata = {"owner", "missing"}});
  EXPECT_FALSE(updated.metadata.contains("owner"));
  EXPECT_TRUE(updated.metadata.contains("tags"));
  EXPECT_TRUE(updated.metadata.contains("new"));
}

TEST_F(ApplyUpdateTest, KeysAreRemovedFromReplacedMetadataToo) {
  const UpdateSpec spec = {.metadata = {{"a", 1}},
                           .mask = std::vector<std::string>{"metadata"},
                           .remove_metadata = {"owner"}};
  EXPECT_EQ(Apply(spec).metadata, Metadata({{"a", 1}}));
}

TEST_F(ApplyUpdateTest, NothingDifferentIsNoUpdate) {
  EXPECT_TRUE(ChangesNothing({}));
  EXPECT_TRUE(ChangesNothing(
      {.settings = current.settings, .metadata = current.metadata}));
  EXPECT_TRUE(ChangesNothing({.remove_metadata = {"missing"}}));
  EXPECT_TRUE(ChangesNothing({.metadata = {{"owner", "ana"}}}));
}

TEST_F(ApplyUpdateTest, TheTimeOfAnUpdateGrowsAlsoIfTheClockGoesBack) {
  const UpdateSpec spec = {.metadata = {{"k", 1}}};
  EXPECT_EQ(ApplyUpdate(current, spec, TimeAt(60)).value()->update_time,
            TimeAt(60));
  EXPECT_EQ(ApplyUpdate(current, spec, TimeAt(60) + absl::Nanoseconds(999))
                .value()
                ->update_time,
            TimeAt(60));
  for (const absl::Time now : {TimeAt(-60), current.update_time}) {
    EXPECT_EQ(ApplyUpdate(current, spec, now).value()->update_time,
              current.update_time + absl::Microseconds(1));
  }
}

TEST_F(ApplyUpdateTest, UnknownMaskPathsAreRefused) {
  for (const std::string& path :
       {std::string("uid"), std::string("project"), std::string("etag"),
        std::string(""), std::string("Metadata"), std::string("metadata.owner"),
        std::string("root_path")}) {
    const auto result = ApplyUpdate(
        current, {.mask = std::vector<std::string>{path}}, TimeAt(60));
    EXPECT_THAT(result, kFieldInvalid) << path;
    EXPECT_THAT(result, HasDetail("field", "update_mask"));
  }
  EXPECT_THAT(
      ApplyUpdate(current, {.mask = std::vector<std::string>{"*", "metadata"}},
                  TimeAt(60)),
      kFieldInvalid);
}

TEST_F(ApplyUpdateTest, MoreThanThereCanBeIsRefusedUnseen) {
  std::vector<std::string> many;
  for (size_t i = 0; i <= kMaxRemovedKeys; ++i)
    many.push_back(absl::StrCat("k", i));
  EXPECT_THAT(ApplyUpdate(current, {.remove_metadata = many}, TimeAt(60)),
              HasDetail("field", "remove_metadata"));
  EXPECT_THAT(ApplyUpdate(current, {.mask = many}, TimeAt(60)),
              HasDetail("field", "update_mask"));
}

TEST_F(ApplyUpdateTest, WhatCouldNotBeReadBackIsRefused) {
  Metadata deep = Metadata(std::vector<int>(32'600, 0));
  for (int i = 0; i < 14; ++i) deep = Metadata{{"a", deep}};
  EXPECT_THAT(ApplyUpdate(current, {.metadata = deep}, TimeAt(60)),
              kFieldInvalid);
  current.unknown_keys =
      absl::StrCat("team: \"", std::string(1 << 20, 'x'), "\"\n");
  EXPECT_THAT(ApplyUpdate(current, {.metadata = {{"b", 1}}}, TimeAt(60)),
              kFieldInvalid);
}

TEST_F(ApplyUpdateTest, TheLastMomentThereIsStandsStill) {
  current.update_time = ClampTime(absl::InfiniteFuture());
  EXPECT_EQ(Apply({.metadata = {{"b", 1}}}).update_time, current.update_time);
}

TEST_F(ApplyUpdateTest, AKeyCannotBeSetAndRemovedAtOnce) {
  const auto result = ApplyUpdate(
      current, {.metadata = {{"k", 1}}, .remove_metadata = {"k"}}, TimeAt(60));
  EXPECT_THAT(result, kFieldInvalid);
  EXPECT_THAT(result, HasDetail("field", "remove_metadata"));
}

TEST_F(ApplyUpdateTest, WhatMergedMetadataBecomesIsChecked) {
  const std::string half(40'000, 'x');
  current.metadata = {{"a", half}};
  EXPECT_THAT(ApplyUpdate(current, {.metadata = {{"b", half}}}, TimeAt(60)),
              kFieldInvalid);
  EXPECT_EQ(
      Apply({.metadata = {{"b", half}}, .remove_metadata = {"a"}}).metadata,
      Metadata({{"b", half}}));
}

TEST(CheckSettings, BoundsLengthAndRefusesControlCharacters) {
  EXPECT_OK(
      CheckSettings({.dvc_remote_path = std::string(kMaxSettingBytes, 'x')}));
  EXPECT_OK(CheckSettings({.dvc_remote_path = "s3://bücket/ä b"}));
  EXPECT_THAT(CheckSettings(
                  {.dvc_remote_path = std::string(kMaxSettingBytes + 1, 'x')}),
              kFieldInvalid);
  for (const char* text : {"a\nb", "\x01", "a\x7f"}) {
    EXPECT_THAT(CheckSettings({.mlflow_tracking_uri = text}), kFieldInvalid);
    EXPECT_THAT(CheckSettings({.mlflow_tracking_uri = text}),
                HasDetail("field", "mlflow_tracking_uri"));
  }
}

TEST(NewWorkspaceRule, FillsInDefaultsAndTimes) {
  const absl::Time now = TimeAt(3) + absl::Nanoseconds(17);
  const Workspace made = NewWorkspace({.project = support::Project("fraud"),
                                       .root_path = "/base/fraud",
                                       .uid = "1",
                                       .settings = {.dvc_remote_path = ""}},
                                      now)
                             .value();
  EXPECT_EQ(made.settings.mlflow_experiment_id, std::nullopt);
  EXPECT_EQ(made.settings.mlflow_tracking_uri,
            "sqlite:////base/fraud/mlflow/mlflow.db");
  EXPECT_EQ(made.settings.dvc_remote_path, "");
  EXPECT_EQ(made.settings.bentoml_tag_prefix, "fraud:");
  EXPECT_EQ(made.create_time, TimeAt(3));
  EXPECT_EQ(made.update_time, TimeAt(3));
}

TEST(NewWorkspaceRule, TheTrackingUriIsThatOfAnyPath) {
  const Settings settings =
      DefaultSettings(support::Project("a"), "/100%/what? #1/a");
  EXPECT_EQ(settings.mlflow_tracking_uri,
            "sqlite:////100%25/what%3F #1/a/mlflow/mlflow.db");
  EXPECT_EQ(settings.dvc_remote_path, "/100%/what? #1/a/dvc/remote");
}

TEST(NewWorkspaceRule, SettingsAreTextWhateverThePathIs) {
  const Settings settings = DefaultSettings(
      support::Project("a"), "/j\xfcrgen\xed\xa0\x80/\xc3\xa9/a");
  EXPECT_EQ(settings.mlflow_tracking_uri,
            "sqlite:////j%FCrgen%ED%A0%80/\xc3\xa9/a/mlflow/mlflow.db");
  // DVC resolves it relative to the workspace's `dvc`.
  EXPECT_EQ(settings.dvc_remote_path, "remote");
}

TEST(NewWorkspaceRule, RefusesWhatAnUpdateWouldRefuse) {
  const auto make = [](Settings settings, Metadata metadata) {
    return NewWorkspace({.project = support::Project("fraud"),
                         .settings = settings,
                         .metadata = metadata},
                        TimeAt(0));
  };
  EXPECT_THAT(make({.dvc_remote_path = "a\n"}, Metadata::object()),
              kFieldInvalid);
  EXPECT_THAT(make({}, {{"n", std::nan("")}}), kFieldInvalid);
  EXPECT_THAT(make({}, Metadata::array()), kFieldInvalid);
}

}  // namespace
}  // namespace mlops::core
