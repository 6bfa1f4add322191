#include "service/rpc/convert.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <limits>

#include "absl/strings/str_cat.h"
#include "google/protobuf/util/message_differencer.h"
#include "google/protobuf/util/time_util.h"
#include "service/core/workspace_yaml.h"
#include "tests/support/matchers.h"
#include "tests/support/workspaces.h"

namespace mlops::rpc {
namespace {

using absl::StatusCode;
using support::HasDetail;
using support::IsError;
using support::Project;
using testing::ElementsAre;
using testing::IsEmpty;

const auto kFieldInvalid =
    IsError(StatusCode::kInvalidArgument, "FIELD_INVALID");

template <typename Message>
Message FromJson(const std::string& json) {
  Message message;
  const auto status =
      google::protobuf::util::JsonStringToMessage(json, &message);
  EXPECT_TRUE(status.ok()) << status.message().ToString();
  return message;
}

core::Metadata MetadataOf(const std::string& json) {
  const auto request = FromJson<pb::CreateWorkspaceRequest>(
      R"({"project": "fraud", "workspace": {"metadata": )" + json + "}}");
  return FromProto(request).value().metadata;
}

// --- Metadata ----------------------------------------------------------------

TEST(MetadataFromProto, KeepsEveryKindOfValue) {
  const std::string json =
      R"({"null": null, "bool": false, "text": "ö", "list": [1, "1", [], {}],
      "map": {"a": {"b": []}}})";
  EXPECT_EQ(MetadataOf(json), core::Metadata::parse(json));
  EXPECT_EQ(MetadataOf("{}"), core::Metadata::object());
}

TEST(MetadataFromProto, IntegralNumbersBecomeIntegers) {
  const core::Metadata read = MetadataOf(
      R"({"a": 1, "b": -3.0, "c": 0.5, "d": 9007199254740991, "e": -0.0})");
  EXPECT_TRUE(read["a"].is_number_integer());
  EXPECT_TRUE(read["b"].is_number_integer());
  EXPECT_TRUE(read["c"].is_number_float());
  EXPECT_EQ(read["d"].get<int64_t>(), 9007199254740991);
}

TEST(MetadataFromProto, NumbersBeyondTheBoundStayAsTheyAreToBeRefused) {
  for (const char* number :
       {"9007199254740992", "-9007199254740992", "1e300"}) {
    EXPECT_FALSE(
        core::CheckMetadata(MetadataOf(std::string("{\"n\": ") + number + "}"))
            .ok())
        << number;
  }
}

TEST(MetadataFromProto, InfinityIsRefusedLater) {
  pb::CreateWorkspaceRequest request;
  request.set_project("fraud");
  auto& fields =
      *request.mutable_workspace()->mutable_metadata()->mutable_fields();
  fields["n"].set_number_value(std::numeric_limits<double>::infinity());
  EXPECT_THAT(core::CheckMetadata(FromProto(request).value().metadata),
              kFieldInvalid);
}

TEST(MetadataToProto, ComesBackAsItWent) {
  core::Workspace workspace = support::NewWorkspace("fraud");
  workspace.metadata = core::Metadata::parse(
      R"({"null": null, "bool": true, "int": -7, "float": 0.25, "text": "",
      "list": [[], {}, null, [1]], "map": {},
      "deep": {"a": {"b": {"c": 1}}}})");
  pb::UpdateWorkspaceRequest request;
  ToProto(workspace, request.mutable_workspace());
  EXPECT_EQ(FromProto(request).value().spec.metadata, workspace.metadata);
}

// --- Requests ----------------------------------------------------------------

TEST(FromProto, CreateTakesEveryField) {
  const auto args = FromProto(FromJson<pb::CreateWorkspaceRequest>(
                                  R"({"project": "fraud", "requestId": "r.1_-",
      "validateOnly": true, "workspace": {"project": "fraud",
      "mlflow_experiment_id": "", "dvc_remote_path": "s3://b",
      "metadata": {"k": 1}}})"))
                        .value();
  EXPECT_EQ(args.project.str(), "fraud");
  EXPECT_EQ(args.settings, (core::Settings{.mlflow_experiment_id = "",
                                           .dvc_remote_path = "s3://b"}));
  EXPECT_EQ(args.metadata, core::Metadata({{"k", 1}}));
  EXPECT_EQ(args.request_id, "r.1_-");
  EXPECT_TRUE(args.validate_only);
}

TEST(Quotas, AnAbsentLimitAndZeroAreNotTheSame) {
  for (const core::Quota& quota :
       {core::Quota{}, core::Quota{.max_size_bytes = 0},
        core::Quota{.max_size_bytes = int64_t{50} << 30, .max_file_count = 0},
        core::Quota{.max_file_count = 7}}) {
    core::Workspace workspace = support::NewWorkspace("fraud");
    workspace.quota = quota;
    pb::Workspace message;
    ToProto(workspace, &message);
    EXPECT_EQ(message.has_max_size_bytes(), quota.max_size_bytes.has_value());
    EXPECT_EQ(message.has_max_file_count(), quota.max_file_count.has_value());
    pb::CreateWorkspaceRequest create;
    create.set_project("fraud");
    *create.mutable_workspace() = message;
    EXPECT_EQ(FromProto(create).value().quota, quota);
    pb::EnsureWorkspaceRequest ensure;
    ensure.set_project("fraud");
    *ensure.mutable_workspace() = message;
    EXPECT_EQ(FromProto(ensure).value().quota, quota);
    pb::UpdateWorkspaceRequest update;
    *update.mutable_workspace() = message;
    EXPECT_EQ(FromProto(update).value().spec.quota, quota);
  }
}

TEST(FromProto, CreateRefusesWhatIsIllFormed) {
  for (const auto& [json, field] :
       {std::pair(R"({})", "project"),
        {R"({"project": "../x"})", "project"},
        {R"({"project": "a", "workspace": {"project": "b"}})",
         "workspace.project"},
        {R"({"project": "a", "requestId": "a b"})", "request_id"},
        {R"({"project": "a", "requestId":
            "12345678901234567890123456789012345678901234567890123456789012345"})",
         "request_id"}}) {
    const auto args = FromProto(FromJson<pb::CreateWorkspaceRequest>(json));
    EXPECT_THAT(args, kFieldInvalid) << json;
    EXPECT_THAT(args, HasDetail("field", field)) << json;
  }
}

TEST(FromProto, EnsureTakesAndRefusesAsCreateDoes) {
  const auto ensure = [](const std::string& json) {
    return FromProto(FromJson<pb::EnsureWorkspaceRequest>(json));
  };
  EXPECT_EQ(ensure(R"({"project": "a", "workspace": {"metadata": {"k": 1}}})")
                .value()
                .metadata["k"],
            1);
  EXPECT_EQ(
      ensure(R"({"project": "a", "template": "x"})").value().template_name,
      "x");
  EXPECT_THAT(ensure(R"({"project": ""})"), HasDetail("field", "project"));
}

TEST(FromProto, UpdateTellsAnEmptyMaskFromNone) {
  const auto update = [](const std::string& json) {
    return FromProto(FromJson<pb::UpdateWorkspaceRequest>(json)).value();
  };
  EXPECT_EQ(update(R"({"workspace": {"project": "a"}})").spec.mask,
            std::nullopt);
  EXPECT_EQ(
      update(R"({"workspace": {"project": "a"}, "updateMask": ""})").spec.mask,
      std::nullopt);
  const auto args = update(
      R"({"workspace": {"project": "a", "etag": "e", "bentomlTagPrefix": "x:"},
      "updateMask": "metadata,dvcRemotePath", "removeMetadata": ["k", "l"],
      "allowMissing": true})");
  EXPECT_THAT(*args.spec.mask, ElementsAre("metadata", "dvc_remote_path"));
  EXPECT_THAT(args.spec.remove_metadata, ElementsAre("k", "l"));
  EXPECT_EQ(args.spec.settings.bentoml_tag_prefix, "x:");
  EXPECT_EQ(args.etag, "e");
  EXPECT_TRUE(args.allow_missing);
  EXPECT_FALSE(args.validate_only);
}

TEST(FromProto, FencesAreCheckedAndFiltersParsed) {
  EXPECT_EQ(FromProto(FromJson<pb::UpdateWorkspaceRequest>(
                          R"({"workspace": {"project": "a"}, "fence": 7})"))
                ->fence,
            7);
  EXPECT_THAT(FromProto(FromJson<pb::UpdateWorkspaceRequest>(
                  R"({"workspace": {"project": "a"}, "fence": -1})")),
              HasDetail("field", "fence"));
  EXPECT_THAT(FromProto(FromJson<pb::DeleteWorkspaceRequest>(
                  R"({"project": "a", "force": true, "fence": -1})")),
              HasDetail("field", "fence"));
  EXPECT_THAT(FromProto(FromJson<pb::ListWorkspacesRequest>(
                  R"({"filter": "nonsense = a"})")),
              IsError(StatusCode::kInvalidArgument, "FILTER_INVALID"));
}

TEST(FromProto, DeleteAndListTakeEveryField) {
  const auto remove =
      FromProto(FromJson<pb::DeleteWorkspaceRequest>(
                    R"({"project": "a", "force": true, "etag": "e",
      "uid": "u", "allowMissing": true, "permanent": true,
      "validateOnly": true})"))
          .value();
  EXPECT_TRUE(remove.force && remove.allow_missing && remove.permanent &&
              remove.validate_only);
  EXPECT_EQ(remove.etag, "e");
  EXPECT_EQ(remove.uid, "u");
  const auto list =
      FromProto(FromJson<pb::ListWorkspacesRequest>(
                    R"({"pageSize": -5, "pageToken": "t", "orderBy": "o",
                  "showDeleted": true})"))
          .value();
  EXPECT_EQ(list.page_size, -5);
  EXPECT_EQ(list.page_token, "t");
  EXPECT_EQ(list.order_by, "o");
  EXPECT_TRUE(list.show_deleted);
}

TEST(MaxStaleness, IsExactUnlessGivenAndNotNegative) {
  google::protobuf::Duration duration;
  EXPECT_EQ(MaxStaleness(duration).value(), absl::ZeroDuration());
  duration.set_seconds(2);
  duration.set_nanos(5);
  EXPECT_EQ(MaxStaleness(duration).value(),
            absl::Seconds(2) + absl::Nanoseconds(5));
  duration.set_nanos(-1);
  EXPECT_THAT(MaxStaleness(duration), HasDetail("field", "max_staleness"));
  duration.set_seconds(-2);
  EXPECT_THAT(MaxStaleness(duration), kFieldInvalid);
}

// --- Responses ---------------------------------------------------------------

TEST(ToProto, AWorkspaceHasWhatItHas) {
  core::Workspace workspace = support::NewWorkspace("fraud");
  workspace.settings = {.mlflow_tracking_uri = ""};
  workspace.etag = "e";
  pb::Workspace message;
  ToProto(workspace, &message);
  EXPECT_EQ(message.project(), "fraud");
  EXPECT_EQ(message.uid(), workspace.uid);
  EXPECT_EQ(message.root_path(), "/base/fraud");
  EXPECT_EQ(message.etag(), "e");
  EXPECT_TRUE(message.has_mlflow_tracking_uri());
  EXPECT_FALSE(message.has_dvc_remote_path() ||
               message.has_mlflow_experiment_id() ||
               message.has_bentoml_tag_prefix());
  EXPECT_FALSE(message.has_delete_time() || message.has_purge_time() ||
               message.has_lease());
  EXPECT_EQ(message.create_time().seconds(), 1'700'000'000);
  EXPECT_EQ(message.create_time().nanos(), 123'456'000);
}

TEST(ToProto, ADeletedCorruptWorkspaceHasNoTimesOfItsOwn) {
  core::Workspace workspace{.project = Project("fraud"), .uid = "1"};
  workspace.delete_time = support::TimeAt(1);
  workspace.purge_time = support::TimeAt(2);
  pb::Workspace message;
  ToProto(workspace, &message);
  EXPECT_FALSE(message.has_create_time() || message.has_update_time() ||
               message.has_metadata());
  EXPECT_TRUE(message.has_delete_time() && message.has_purge_time());
}

TEST(FromProto, WhatIsRepeatedInARequestCountsOnce) {
  pb::UpdateWorkspaceRequest request;
  request.mutable_workspace()->set_project("fraud");
  for (int i = 0; i < 100'000; ++i)
    request.mutable_update_mask()->add_paths(i % 2 == 0 ? "metadata"
                                                        : "dvc_remote_path");
  for (int i = 0; i < 100'000; ++i)
    request.add_remove_metadata(i % 2 == 0 ? "b" : "a");
  const core::UpdateArgs args = FromProto(request).value();
  EXPECT_THAT(*args.spec.mask, ElementsAre("metadata", "dvc_remote_path"));
  EXPECT_THAT(args.spec.remove_metadata, ElementsAre("b", "a"));
}

TEST(ToProto, TimesBeforeTheEpochHavePositiveNanos) {
  google::protobuf::Timestamp message;
  ToProto(absl::UnixEpoch() - absl::Nanoseconds(1), &message);
  EXPECT_EQ(message.seconds(), -1);
  EXPECT_EQ(message.nanos(), 999'999'999);
}

TEST(ToProto, TimesThatATimestampCannotHoldAreTheNearestOnes) {
  google::protobuf::Timestamp message;
  for (const absl::Time time :
       {absl::FromUnixSeconds(1'780'000'000'000), absl::InfiniteFuture()}) {
    ToProto(time, &message);
    EXPECT_EQ(google::protobuf::util::TimeUtil::ToString(message),
              "9999-12-31T23:59:59.999999Z");
  }
  for (const absl::Time time :
       {absl::FromUnixSeconds(-1'780'000'000'000), absl::InfinitePast()}) {
    ToProto(time, &message);
    EXPECT_EQ(google::protobuf::util::TimeUtil::ToString(message),
              "0001-01-01T00:00:00Z");
  }
}

pb::ListWorkspacesResponse Decoded(const grpc::ByteBuffer& bytes) {
  grpc::Slice slice;
  EXPECT_TRUE(bytes.DumpToSingleSlice(&slice).ok());
  pb::ListWorkspacesResponse message;
  EXPECT_TRUE(
      message.ParseFromArray(slice.begin(), static_cast<int>(slice.size())));
  return message;
}

using WorkspacePtr = core::WorkspacePtr;

TEST(ListEncoder, HasItsWorkspacesItsTokenAndWhatIsUnreachable) {
  const auto fraud =
      std::make_shared<const core::Workspace>(support::NewWorkspace("fraud"));
  const auto churn =
      std::make_shared<const core::Workspace>(support::NewWorkspace("churn"));
  ListEncoder encoder;
  for (const WorkspacePtr& workspace : {fraud, churn, fraud})
    EXPECT_TRUE(encoder.Add(*workspace));
  const pb::ListWorkspacesResponse message =
      Decoded(std::move(encoder).Finish({.next_page_token = "t",
                                         .total_size = int64_t{1} << 40,
                                         .unreachable = {"bad"}},
                                        "r"));
  EXPECT_EQ(message.resume_token(), "r");
  pb::Workspace expected;
  ToProto(*fraud, &expected);
  ASSERT_EQ(message.workspaces_size(), 3);
  EXPECT_EQ(message.workspaces(0).SerializeAsString(),
            expected.SerializeAsString());
  EXPECT_EQ(message.workspaces(1).project(), "churn");
  EXPECT_EQ(message.workspaces(2).SerializeAsString(),
            expected.SerializeAsString());
  EXPECT_EQ(message.next_page_token(), "t");
  EXPECT_EQ(message.total_size(), std::numeric_limits<int32_t>::max());
  EXPECT_THAT(message.unreachable(), ElementsAre("bad"));
}

core::Lease SomeLease() {
  return {.holder = "trainer-7",
          .fence = 42,
          .acquire_time = support::TimeAt(1),
          .expire_time = support::TimeAt(61)};
}

// A lease is no part of the cached encoding, whatever that is used for.
TEST(Encodings, HaveTheLease) {
  core::Workspace large = support::NewWorkspace("large");
  large.metadata = {{"text", std::string(60'000, 'x')}};
  const core::Workspace small = support::NewWorkspace("small");
  const core::Workspace* const both[] = {&small, &large};
  for (const core::Workspace* workspace : both) {
    pb::Workspace expected;
    ToProto(*workspace, &expected);
    const std::string without = expected.SerializeAsString();
    ToProto(SomeLease(), expected.mutable_lease());
    const auto same = [&expected](const pb::Workspace& message) {
      return google::protobuf::util::MessageDifferencer::Equals(message,
                                                                expected);
    };
    ListEncoder encoder;
    EXPECT_TRUE(encoder.Add(*workspace, SomeLease()));
    EXPECT_TRUE(encoder.Add(*workspace));
    const auto page = Decoded(std::move(encoder).Finish({}, ""));
    EXPECT_TRUE(same(page.workspaces(0)));
    EXPECT_EQ(page.workspaces(1).SerializeAsString(), without);
    pb::StreamWorkspaceStatusesResponse statuses;
    ASSERT_TRUE(statuses.ParseFromString(EncodeStatus(
        workspace->project,
        core::StatusResult{
            .workspace = std::make_shared<const core::Workspace>(*workspace)},
        SomeLease())));
    EXPECT_TRUE(same(statuses.statuses(0).workspace()));
  }
  grpc::Slice slice;
  ASSERT_TRUE(EncodeKept(small, SomeLease())->DumpToSingleSlice(&slice).ok());
  pb::Workspace got;
  ASSERT_TRUE(
      got.ParseFromArray(slice.begin(), static_cast<int>(slice.size())));
  EXPECT_EQ(got.lease().fence(), 42);
  EXPECT_EQ(got.lease().expire_time().seconds() -
                got.lease().acquire_time().seconds(),
            60);
  ASSERT_TRUE(
      EncodeKeptAsFound(small, SomeLease())->DumpToSingleSlice(&slice).ok());
  pb::EnsureWorkspaceResponse found;
  ASSERT_TRUE(
      found.ParseFromArray(slice.begin(), static_cast<int>(slice.size())));
  EXPECT_EQ(found.workspace().SerializeAsString(), got.SerializeAsString());
}

TEST(FromProto, LeasesHaveAHolderAndATtlWithinLimits) {
  const auto acquire = [](const std::string& json) {
    return FromProto(FromJson<pb::AcquireLeaseRequest>(json));
  };
  EXPECT_EQ(acquire(R"({"project": "a", "holder": "x"})")->ttl,
            absl::Seconds(60));
  for (const char* ttl : {"1s", "1.5s", "86400s"}) {
    EXPECT_OK(acquire(absl::StrCat(R"({"project": "a", "holder": "x y~", )",
                                   "\"ttl\": \"", ttl, "\"}")))
        << ttl;
  }
  for (const char* ttl :
       {"0s", "0.999s", "86400.001s", "-1s", "315576000000s"}) {
    EXPECT_THAT(acquire(absl::StrCat(R"({"project": "a", "holder": "x", )",
                                     "\"ttl\": \"", ttl, "\"}")),
                HasDetail("field", "ttl"))
        << ttl;
  }
  pb::AcquireLeaseRequest odd;
  odd.set_project("a");
  for (const std::string& holder :
       {std::string(), std::string(129, 'x'), std::string("a\nb"),
        std::string("\xc3\xa9"), std::string(1, '\0')}) {
    odd.set_holder(holder);
    EXPECT_THAT(FromProto(odd), HasDetail("field", "holder"));
  }
  odd.set_holder(std::string(128, '~'));
  odd.mutable_ttl()->set_seconds(std::numeric_limits<int64_t>::max());
  EXPECT_THAT(FromProto(odd), HasDetail("field", "ttl"));
  const auto release = [](const std::string& json) {
    return FromProto(FromJson<pb::ReleaseLeaseRequest>(json));
  };
  EXPECT_THAT(release(R"({"project": "a"})"), HasDetail("field", "holder"));
  EXPECT_TRUE(release(R"({"project": "a", "force": true})")->force);
}

TEST(ListEncoder, OfNothingIsEmpty) {
  EXPECT_EQ(ListEncoder().Finish({}, "").Length(), 0);
}

TEST(ListEncoder, APageEndsAtItsBytesAndHasAtLeastOne) {
  core::Workspace large = support::NewWorkspace("fraud");
  large.metadata = {{"text", std::string(kMaxPageBytes / 3, 'x')}};
  ListEncoder encoder;
  EXPECT_TRUE(encoder.Add(large));
  EXPECT_TRUE(encoder.Add(large));
  EXPECT_FALSE(encoder.Add(large));
  EXPECT_LE(std::move(encoder).Finish({}, "").Length(), kMaxPageBytes);
  core::Workspace huge = support::NewWorkspace("fraud");
  huge.metadata = {{"text", std::string(kMaxPageBytes + 1, 'x')}};
  EXPECT_TRUE(ListEncoder().Add(huge));
}

TEST(ListEncoder, OnlyWhatIsSmallIsKeptWithTheWorkspace) {
  core::Workspace workspace = support::NewWorkspace("fraud");
  ListEncoder at_once(ListEncoder::kOnlyKept);
  EXPECT_TRUE(at_once.Add(workspace));
  EXPECT_FALSE(at_once.met_large());
  core::Workspace large = support::NewWorkspace("fraud");
  large.metadata = {{"text", std::string(60'000, 'x')}};
  EXPECT_FALSE(at_once.Add(large));
  EXPECT_TRUE(at_once.met_large());
  ListEncoder in_time;
  EXPECT_TRUE(in_time.Add(large));
  EXPECT_EQ(Decoded(std::move(in_time).Finish({}, ""))
                .workspaces(0)
                .metadata()
                .fields_size(),
            1);
}

TEST(ToProto, ADeletionOfNothingHasNoWorkspace) {
  pb::DeleteWorkspaceResponse message;
  ToProto(core::DeleteResult{}, &message);
  EXPECT_EQ(message.ByteSizeLong(), 0);
  const auto workspace =
      std::make_shared<const core::Workspace>(support::NewWorkspace("fraud"));
  ToProto(core::DeleteResult{.workspace = workspace,
                             .file_count = 2,
                             .size_bytes = 3,
                             .purged = true},
          &message);
  EXPECT_EQ(message.workspace().project(), "fraud");
  EXPECT_EQ(message.file_count(), 2);
  EXPECT_EQ(message.size_bytes(), 3);
  EXPECT_TRUE(message.purged());
}

TEST(ToProto, AStatusHasTheFiveDirectoriesInOrder) {
  core::StatusResult result{.workspace =
                                std::make_shared<const core::Workspace>(
                                    support::NewWorkspace("fraud"))};
  result.usage.scan_time = support::TimeAt(9);
  result.usage.directories[3] = {.exists = true,
                                 .file_count = 2,
                                 .size_bytes = 30,
                                 .modify_time = support::TimeAt(5)};
  result.usage.problem = absl::InternalError("disk");
  result.over_quota = true;
  pb::WorkspaceStatus message;
  ToProto(result, &message);
  EXPECT_TRUE(message.over_quota());
  ASSERT_EQ(message.directories_size(), 5);
  EXPECT_EQ(message.directories(0).name(), "mlflow");
  EXPECT_FALSE(message.directories(0).exists() ||
               message.directories(0).has_modify_time());
  EXPECT_EQ(message.directories(3).name(), "models");
  EXPECT_EQ(message.directories(3).size_bytes(), 30);
  EXPECT_EQ(message.file_count(), 2);
  EXPECT_EQ(message.size_bytes(), 30);
  EXPECT_EQ(message.error().message(), "disk");
}

}  // namespace
}  // namespace mlops::rpc
