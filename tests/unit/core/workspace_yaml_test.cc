#include "service/core/workspace_yaml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <random>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "proto/cpp/base/utf8.h"
#include "service/core/iso_time.h"
#include "tests/support/matchers.h"
#include "tests/support/workspaces.h"

namespace mlops::core {
namespace {

using absl::StatusCode;
using support::HasDetail;
using support::IsError;
using support::NewWorkspace;
using support::OriginalRecord;
using support::Project;
using testing::HasSubstr;
using testing::Not;

const auto kCorrupt = IsError(StatusCode::kDataLoss, "WORKSPACE_CORRUPT");
const auto kFieldInvalid =
    IsError(StatusCode::kInvalidArgument, "FIELD_INVALID");

RecordPlace PlaceOf(absl::string_view name, absl::string_view base = "/base") {
  return {.project = Project(name),
          .root_path = absl::StrCat(base, "/", name),
          .file = absl::StrCat(base, "/", name, "/workspace.yaml"),
          .modify_time = support::TimeAt(100)};
}

Workspace Decode(absl::string_view text, absl::string_view name = "fraud",
                 absl::string_view base = "/base") {
  return DecodeWorkspace(text, PlaceOf(name, base)).value();
}

// --- Writing and reading ---

TEST(Record, IsWrittenWithTheKeysOfTheOriginalFirst) {
  Workspace workspace = NewWorkspace("fraud");
  workspace.uid = "abc";
  workspace.request_id = "r-1";
  workspace.unknown_keys = "team: risk\n";
  EXPECT_EQ(EncodeWorkspace(workspace),
            R"(# Written by mlops-workspace: whole only with its last key.
project_name: fraud
root_path: /base/fraud
mlflow_experiment_id: null
mlflow_tracking_uri: sqlite:////base/fraud/mlflow/mlflow.db
dvc_remote_path: /base/fraud/dvc/remote
bentoml_tag_prefix: "fraud:"
metadata:
  owner: ana
created_at: "2023-11-14T22:13:20.123456+00:00"
updated_at: "2023-11-14T22:13:20.123456+00:00"
uid: abc
request_id: r-1
team: risk
end_of_record: true
)");
}

TEST(Record, ComesBackAsItWent) {
  Workspace workspace = NewWorkspace("fraud", "/base", 5);
  workspace.update_time += absl::Microseconds(1);
  workspace.settings.mlflow_experiment_id = "012";
  workspace.request_id = "r-1";
  workspace.unknown_keys = "team: risk\n";
  const std::string text = EncodeWorkspace(workspace);
  const Workspace read = Decode(text);
  EXPECT_EQ(EncodeWorkspace(read), text);
  EXPECT_EQ(read.settings, workspace.settings);
  EXPECT_EQ(read.create_time, workspace.create_time);
  EXPECT_EQ(read.update_time, workspace.update_time);
  EXPECT_EQ(read.etag, RecordEtag(text));
}

TEST(Record, OfTheOriginalIsReadAndKeepsItsUid) {
  const std::string text = OriginalRecord("fraud", "/base/fraud");
  const Workspace read = Decode(text);
  EXPECT_EQ(read.metadata, Metadata({{"note", "hello"}}));
  EXPECT_EQ(read.uid.size(), 32);
  EXPECT_EQ(Decode(text).uid, read.uid);
  // The uid also stays when this project writes the record.
  EXPECT_EQ(Decode(EncodeWorkspace(read)).uid, read.uid);
}

TEST(Record, MayLackEverything) {
  const Workspace read = Decode("{}\n");
  EXPECT_EQ(read.settings, Settings{});
  EXPECT_EQ(read.metadata, Metadata::object());
  EXPECT_EQ(read.create_time, support::TimeAt(100));
  EXPECT_EQ(read.update_time, support::TimeAt(100));
  EXPECT_EQ(read.root_path, "/base/fraud");
  EXPECT_FALSE(read.uid.empty());
}

TEST(Record, NullIsAbsent) {
  const Workspace read = Decode(
      "metadata:\ncreated_at: ~\nuid: "
      "null\nmlflow_experiment_id:\nproject_name: NULL\n");
  EXPECT_EQ(read.settings.mlflow_experiment_id, std::nullopt);
  EXPECT_EQ(read.metadata, Metadata::object());
  EXPECT_FALSE(read.uid.empty());
}

TEST(Record, SettingsAreTextWhateverTheyLookLike) {
  const Workspace read = Decode(
      "mlflow_experiment_id: 012\nmlflow_tracking_uri: yes\ndvc_remote_path: "
      "''\n");
  EXPECT_EQ(read.settings.mlflow_experiment_id, "012");
  EXPECT_EQ(read.settings.mlflow_tracking_uri, "yes");
  EXPECT_EQ(read.settings.dvc_remote_path, "");
}

TEST(Record, TimesAreReadInEveryFormOfIso8601) {
  // 2024-01-31T12:00:00Z.
  const absl::Time noon = absl::FromUnixSeconds(1'706'702'400);
  for (const char* text :
       {"2024-01-31T12:00:00+00:00", "2024-01-31T12:00:00",
        "2024-01-31 12:00:00", "2024-01-31T12:00:00Z", "'2024-01-31T12:00:00'",
        "\"2024-01-31t12:00:00.000\"", "2024-01-31T14:00:00+02:00",
        "2024-01-31T14:00:00+0200", "2024-01-31T14:00:00+02",
        "2024-01-31 06:30:00 -05:30", "2024-01-31T12:00:00.0000009"}) {
    EXPECT_EQ(Decode(absl::StrCat("created_at: ", text)).create_time, noon)
        << text;
  }
  EXPECT_EQ(Decode("created_at: 2024-01-31").create_time,
            noon - absl::Hours(12));
  EXPECT_EQ(Decode("created_at: 2024-01-31T12:00:00.123456789").create_time,
            noon + absl::Microseconds(123456));
}

TEST(Record, UpdatedAtStandsInForNothingButIsCreatedAtWhereMissing) {
  const Workspace read = Decode("created_at: 2024-01-31T12:00:00\n");
  EXPECT_EQ(read.update_time, read.create_time);
}

TEST(Record, UnknownKeysAreKeptInTheirOrder) {
  const Workspace read = Decode(
      "zebra: 0x1f\nproject_name: fraud\nteam:\n  - 'ana'\n  - bob\nempty:\n");
  EXPECT_EQ(read.unknown_keys,
            "zebra: 0x1f\nteam:\n  - \"ana\"\n  - bob\nempty: null\n");
}

// --- Places ---

TEST(Record, InAMovedBaseHasItsDefaultsDerivedAgain) {
  const Workspace read =
      Decode(EncodeWorkspace(NewWorkspace("fraud")), "fraud", "/elsewhere");
  EXPECT_EQ(read.root_path, "/elsewhere/fraud");
  EXPECT_EQ(read.settings,
            DefaultSettings(Project("fraud"), "/elsewhere/fraud"));
  EXPECT_EQ(read.uid, NewWorkspace("fraud").uid);
}

TEST(Record, InAMovedBaseKeepsLocationsElsewhere) {
  Workspace workspace = NewWorkspace("fraud");
  for (const char* remote : {"/base/fraud2/dvc/remote", "/shared/base/fraud",
                             "s3://bucket/base/fraud", "stores/a"}) {
    workspace.settings = {.mlflow_tracking_uri = "http://mlflow",
                          .dvc_remote_path = remote};
    EXPECT_EQ(
        Decode(EncodeWorkspace(workspace), "fraud", "/elsewhere").settings,
        workspace.settings);
  }
}

TEST(Record, InAMovedBaseHasLocationsInsideItMoved) {
  Workspace workspace = NewWorkspace("fraud");
  workspace.root_path = "/a%b/fraud";
  workspace.settings = {
      .mlflow_tracking_uri = "sqlite:////a%25b/fraud/outputs/runs.db",
      .dvc_remote_path = "/a%b/fraud/outputs/store"};
  const Settings moved = {
      .mlflow_tracking_uri = "sqlite:////else%3Fwhere/fraud/outputs/runs.db",
      .dvc_remote_path = "/else?where/fraud/outputs/store"};
  EXPECT_EQ(Decode(EncodeWorkspace(workspace), "fraud", "/else?where").settings,
            moved);
}

TEST(Record, OfACopyHasAUidOfItsOwnThatStays) {
  const std::string text = EncodeWorkspace(NewWorkspace("fraud"));
  const Workspace copy = Decode(text, "copy");
  EXPECT_EQ(copy.project.str(), "copy");
  EXPECT_NE(copy.uid, NewWorkspace("fraud").uid);
  EXPECT_EQ(Decode(text, "copy").uid, copy.uid);
  EXPECT_NE(Decode(text, "copy2").uid, copy.uid);
  EXPECT_EQ(copy.settings, DefaultSettings(Project("copy"), "/base/copy"));
}

TEST(Record, WithoutAUidGetsOneOfProjectAndTime) {
  const std::string first = "created_at: 2024-01-31T12:00:00\n",
                    second = "created_at: 2024-01-31T12:00:01\n";
  EXPECT_EQ(Decode(first).uid, Decode(first + "metadata: {a: 1}\n").uid);
  EXPECT_NE(Decode(first).uid, Decode(second).uid);
  EXPECT_NE(Decode(first, "a").uid, Decode(first, "b").uid);
}

TEST(Record, KeepsAQuotaAndOmitsAnAbsentOne) {
  Workspace workspace = NewWorkspace("fraud");
  EXPECT_THAT(EncodeWorkspace(workspace), Not(HasSubstr("max_")));
  workspace.quota = {.max_size_bytes = kMaxInteger, .max_file_count = 0};
  EXPECT_OK(CheckReadable(workspace));
  const Workspace read = Decode(EncodeWorkspace(workspace));
  EXPECT_EQ(read.quota, workspace.quota);
  EXPECT_EQ(read.unknown_keys, "");
}

// --- The table of cases shared with the Python client ---

nlohmann::json Cases() {
  std::ifstream file(TEST_DATA_DIR "/records.json");
  return nlohmann::json::parse(file);
}

std::string TextOf(const nlohmann::json& item) {
  if (item.contains("text")) return item["text"];
  return absl::HexStringToBytes(item["hex"].get<std::string>());
}

nlohmann::json ValueOf(const Workspace& workspace, const std::string& key) {
  if (key == "metadata") return workspace.metadata;
  if (key == "created_at") return FormatIsoTime(workspace.create_time);
  if (key == "updated_at") return FormatIsoTime(workspace.update_time);
  if (key == kMaxSizeBytes && workspace.quota.max_size_bytes)
    return *workspace.quota.max_size_bytes;
  if (key == kMaxFileCount && workspace.quota.max_file_count)
    return *workspace.quota.max_file_count;
  if (key == kMaxSizeBytes || key == kMaxFileCount) return nullptr;
  for (const SettingField& field : kSettingFields) {
    const auto& value = workspace.settings.*field.member;
    if (field.name == key)
      return value ? nlohmann::json(*value) : nlohmann::json();
  }
  ADD_FAILURE() << key;
  return {};
}

// Expects equal values of equal types.
void ExpectSame(const nlohmann::json& actual, const nlohmann::json& expected) {
  EXPECT_EQ(actual.dump(), expected.dump());
}

TEST(RecordTable, EveryFileIsReadOrRefusedAsTheTableSays) {
  const nlohmann::json cases = Cases();
  ASSERT_GT(cases.size(), 100);
  for (const auto& item : cases) {
    SCOPED_TRACE(item["name"]);
    const auto read = DecodeWorkspace(TextOf(item), PlaceOf("fraud"));
    if (item.contains("problem")) {
      EXPECT_THAT(read, kCorrupt);
      EXPECT_THAT(
          read,
          HasDetail("problem", HasSubstr(item["problem"].get<std::string>())));
      if (item.contains("line")) {
        EXPECT_THAT(read, HasDetail("line", item["line"].dump()));
      }
      continue;
    }
    ASSERT_OK(read);
    for (const auto& [key, expected] : item["record"].items()) {
      const bool is_time = key == "created_at" || key == "updated_at";
      ExpectSame(ValueOf(*read, key),
                 is_time
                     ? nlohmann::json(FormatIsoTime(*ParseIsoTime(expected)))
                     : expected);
    }
    EXPECT_OK(CheckReadable(*read));
  }
}

TEST(RecordTable, AsJsonItIsTheSame) {
  for (const auto& item : Cases()) {
    SCOPED_TRACE(item["name"]);
    const auto json =
        nlohmann::json::parse(RecordAsJson(TextOf(item), "/base/fraud"));
    const auto read = DecodeWorkspace(TextOf(item), PlaceOf("fraud"));
    EXPECT_EQ(json.contains("problem"), !read.ok());
    if (!read.ok()) {
      EXPECT_THAT(read, HasDetail("line", json["line"].dump()));
      continue;
    }
    for (const auto& [key, expected] : item["record"].items()) {
      // A missing time is read as the file's modification time, which the JSON
      // does not contain.
      if (!json[key].is_null() || expected.is_null())
        ExpectSame(json[key], ValueOf(*read, key));
    }
    EXPECT_EQ(json["other_keys"], read->unknown_keys);
  }
}

// A short run of what record_fuzz does for minutes: random combinations
// of pieces of the table's files.
TEST(RecordTable, WhateverItsPiecesAreMadeIntoIsRefusedOrCanBeSentAndWritten) {
  const nlohmann::json cases = Cases();
  std::mt19937 random(7);
  const auto any = [&random](size_t limit) { return random() % limit; };
  int read_count = 0;
  for (int i = 0; i < 3000; ++i) {
    const std::string a = TextOf(cases[any(cases.size())]),
                      b = TextOf(cases[any(cases.size())]);
    std::string text =
        a.substr(0, any(a.size() + 1)) + b.substr(any(b.size() + 1));
    if (!text.empty() && i % 3 == 0)
      text[any(text.size())] = static_cast<char>(random());
    const auto read = DecodeWorkspace(text, PlaceOf("fraud"));
    if (!read.ok()) {
      EXPECT_THAT(read, kCorrupt);
      EXPECT_TRUE(base::IsValidUtf8(read.status().message())) << text;
      continue;
    }
    ++read_count;
    EXPECT_OK(CheckReadable(*read)) << text;
    // dump() throws on invalid UTF-8.
    EXPECT_NO_THROW(read->metadata.dump()) << text;
    for (const SettingField& field : kSettingFields) {
      EXPECT_TRUE(
          base::IsValidUtf8((read->settings.*field.member).value_or("")))
          << text;
    }
  }
  EXPECT_GT(read_count, 100);
}

TEST(RecordTable, AsJsonACopyIsOfItsOwnPlace) {
  const std::string text = EncodeWorkspace(NewWorkspace("fraud"));
  const auto copy = nlohmann::json::parse(RecordAsJson(text, "/base/copy"));
  EXPECT_EQ(copy["project_name"], "copy");
  EXPECT_EQ(copy["dvc_remote_path"], "/base/copy/dvc/remote");
  const auto elsewhere =
      nlohmann::json::parse(RecordAsJson(text, "/tmp/no project"));
  EXPECT_EQ(elsewhere["project_name"], "fraud");
  EXPECT_EQ(elsewhere["dvc_remote_path"], "/base/fraud/dvc/remote");
}

// --- Records that may be written ---

TEST(CheckReadable, RefusesWhatGrowsBeyondTheLimitWhenWritten) {
  Workspace workspace = NewWorkspace("fraud");
  EXPECT_OK(CheckReadable(workspace));
  workspace.metadata = Metadata::array();
  for (int i = 0; i < 32'600; ++i) workspace.metadata.push_back(0);
  for (int i = 0; i < 14; ++i)
    workspace.metadata = Metadata{{"a", workspace.metadata}};
  ASSERT_OK(CheckMetadata(workspace.metadata));
  EXPECT_THAT(CheckReadable(workspace), kFieldInvalid);
  EXPECT_THAT(CheckReadable(workspace), HasDetail("field", "metadata"));

  workspace.metadata = Metadata::object();
  workspace.unknown_keys =
      absl::StrCat("team: ", std::string(2 * kMaxRecordBytes / 2, 'x'), "\n");
  EXPECT_THAT(CheckReadable(workspace), HasDetail("field", "workspace"));
}

TEST(CheckReadable, RefusesWhatWouldComeBackAsSomethingElse) {
  Workspace workspace = NewWorkspace("fraud");
  workspace.settings.dvc_remote_path = "a\xff";
  EXPECT_THAT(CheckReadable(workspace), kFieldInvalid);
  workspace = NewWorkspace("fraud");
  workspace.unknown_keys = "uid: twice\n";
  EXPECT_THAT(CheckReadable(workspace), kFieldInvalid);
  workspace = NewWorkspace("fraud");
  workspace.update_time = absl::InfiniteFuture();
  EXPECT_THAT(CheckReadable(workspace), kFieldInvalid);
}

TEST(CheckReadable, TakesEveryCharacterAndTheLongestKey) {
  Workspace workspace = NewWorkspace("fraud");
  for (int c = 0; c < 0x80; ++c) {
    workspace.metadata[std::string(100, static_cast<char>(c))] =
        std::string(3, static_cast<char>(c));
  }
  workspace.metadata[std::string(kMaxMetadataKeyBytes, '\x01')] = 1;
  workspace.metadata["\xc2\xa0\xc2\x85\xe2\x80\xa8\xef\xbb\xbf"] =
      "\xc2\xa0\xc2\x85\xe2\x80\xa8\xef\xbb\xbf";
  workspace.settings.bentoml_tag_prefix = "\xc2\x85:";
  EXPECT_OK(CheckReadable(workspace));
}

TEST(Record, EveryCutThatLosesSomethingIsNoticed) {
  Workspace workspace = NewWorkspace("fraud");
  workspace.metadata = {{"note", "a \"b\"\nc"}, {"list", {1, {2}, "x"}}};
  workspace.unknown_keys = "team: risk\n";
  const std::string text = EncodeWorkspace(workspace);
  ASSERT_OK(DecodeWorkspace(text, PlaceOf("fraud")));
  ASSERT_OK(DecodeWorkspace(text.substr(0, text.size() - 1), PlaceOf("fraud")));
  for (size_t size = 0; size + 1 < text.size(); ++size) {
    EXPECT_THAT(DecodeWorkspace(text.substr(0, size), PlaceOf("fraud")),
                kCorrupt)
        << text.substr(0, size);
  }
}

TEST(Record, OfAFileWithATimeBeyondAllYearsHasTheLastOne) {
  RecordPlace place = PlaceOf("fraud");
  place.modify_time = absl::FromUnixSeconds(int64_t{1} << 50);
  const Workspace read = DecodeWorkspace("{}", place).value();
  EXPECT_EQ(FormatIsoTime(read.create_time),
            "9999-12-31T23:59:59.999999+00:00");
  EXPECT_OK(CheckReadable(read));
}

// --- Corruption ---

TEST(Record, SaysWhatIsWrongWhere) {
  for (const auto& [text, line, problem] :
       {std::tuple("a: 1\nmetadata: [1]\n", "2", "metadata: must be a map"),
        {"a: 1\n\ncreated_at: soon\n", "3",
         "created_at: must be an ISO 8601 time"},
        {"created_at: 2024-02-30T00:00:00\n", "1",
         "created_at: must be an ISO 8601 time"},
        {"created_at: 2024-01-31T25:00:00\n", "1",
         "created_at: must be an ISO 8601 time"},
        {"updated_at: [1]\n", "1", "updated_at: must be an ISO 8601 time"},
        {"uid: a.b\n", "1", "uid: must be 1 to 64"},
        {"uid: {a: 1}\n", "1", "uid: must be text"},
        {"root_path: [x]\n", "1", "root_path: must be text"},
        {"metadata:\n  a: 1\n  b: .inf\n", "3",
         "metadata: the number .inf is not finite"},
        {"a: 1\n- b\n", "2", ""},
        {"a: 'b\n", "2", ""},
        {"x", "1", "must be a map"},
        {"~", "0", "is empty"}}) {
    const auto result = DecodeWorkspace(text, PlaceOf("fraud"));
    EXPECT_THAT(result, kCorrupt) << text;
    EXPECT_THAT(result, HasDetail("line", line)) << text;
    EXPECT_THAT(result, HasDetail("problem", HasSubstr(problem))) << text;
    EXPECT_THAT(result, HasDetail("file", "/base/fraud/workspace.yaml"));
    EXPECT_THAT(result, HasDetail("project", "fraud"));
  }
}

TEST(Record, TooLargeIsRefusedUnparsed) {
  const std::string text =
      absl::StrCat("a: ", std::string(kMaxRecordBytes, '['));
  EXPECT_THAT(DecodeWorkspace(text, PlaceOf("fraud")),
              HasDetail("problem", HasSubstr("larger than 1048576 bytes")));
}

TEST(Record, OfTheLargestMetadataFits) {
  Workspace workspace = NewWorkspace("fraud");
  workspace.metadata = {{"a", std::string(kMaxMetadataBytes - 8, '\x01')}};
  ASSERT_GT(EncodeWorkspace(workspace).size(), kMaxMetadataBytes);
  // Each character takes six bytes as JSON.
  workspace.metadata = {
      {"a", std::string((kMaxMetadataBytes - 8) / 6, '\x01')}};
  ASSERT_OK(CheckMetadata(workspace.metadata));
  EXPECT_EQ(Decode(EncodeWorkspace(workspace)).metadata, workspace.metadata);
}

TEST(Record, EtagIsOfTheText) {
  EXPECT_EQ(RecordEtag("a"), RecordEtag("a"));
  EXPECT_NE(RecordEtag("a"), RecordEtag("a\n"));
  EXPECT_EQ(RecordEtag("").size(), 16);
}

// --- Metadata ---

Metadata Nested(int depth) {
  Metadata value = Metadata::object();
  for (int i = 1; i < depth; ++i) value = Metadata{{"k", value}};
  return value;
}

TEST(CheckMetadata, BoundsDepthOfMapsAndLists) {
  EXPECT_OK(CheckMetadata(Nested(kMaxMetadataDepth)));
  EXPECT_THAT(CheckMetadata(Nested(kMaxMetadataDepth + 1)), kFieldInvalid);
  Metadata list = 1;
  for (int i = 1; i < kMaxMetadataDepth; ++i) list = Metadata::array({list});
  EXPECT_OK(CheckMetadata({{"k", list}}));
  EXPECT_THAT(CheckMetadata({{"k", Metadata::array({list})}}), kFieldInvalid);
}

TEST(CheckMetadata, BoundsSizeAndKeys) {
  EXPECT_OK(CheckMetadata({{"a", std::string(kMaxMetadataBytes - 8, 'x')}}));
  EXPECT_THAT(CheckMetadata({{"a", std::string(kMaxMetadataBytes - 7, 'x')}}),
              kFieldInvalid);
  EXPECT_OK(CheckMetadata({{std::string(kMaxMetadataKeyBytes, 'k'), 1}}));
  EXPECT_THAT(CheckMetadata({{std::string(kMaxMetadataKeyBytes + 1, 'k'), 1}}),
              kFieldInvalid);
  EXPECT_THAT(CheckMetadata(
                  {{"a", {{{std::string(kMaxMetadataKeyBytes + 1, 'k'), 1}}}}}),
              kFieldInvalid);
}

TEST(CheckMetadata, RefusesNumbersThatWouldNotComeBack) {
  for (const Metadata& number :
       {Metadata(kMaxInteger + 1), Metadata(-kMaxInteger - 1),
        Metadata(std::numeric_limits<uint64_t>::max()),
        Metadata(std::numeric_limits<int64_t>::min()),
        Metadata(9007199254740992.0), Metadata(1e300), Metadata(std::nan("")),
        Metadata(INFINITY), Metadata(-INFINITY)}) {
    EXPECT_THAT(CheckMetadata({{"a", {{"b", number}}}}), kFieldInvalid)
        << number;
    EXPECT_THAT(CheckMetadata({{"a", {{"b", number}}}}),
                HasDetail("field", HasSubstr("metadata.a")))
        << number;
  }
  EXPECT_OK(CheckMetadata({{"a", kMaxInteger},
                           {"b", -kMaxInteger},
                           {"c", 0.1},
                           {"d", 1e-300},
                           {"e", -0.0}}));
}

TEST(CheckMetadata, TakesMapsOnly) {
  for (const Metadata& value :
       {Metadata(nullptr), Metadata(1), Metadata("x"), Metadata::array()}) {
    EXPECT_THAT(CheckMetadata(value), kFieldInvalid);
  }
}

}  // namespace
}  // namespace mlops::core
