#include "service/core/workspace_yaml.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/id.h"
#include "proto/cpp/base/status_macros.h"
#include "proto/cpp/base/utf8.h"
#include "service/core/errors.h"
#include "service/core/iso_time.h"
#include "service/core/yaml_tree.h"

namespace mlops::core {
namespace {

using yaml::Node;
using yaml::Problem;

constexpr size_t kUidDigits = 32;
constexpr size_t kMaxUidBytes = 64;

// Returns the text of a string or of a plain scalar other than null.
std::optional<std::string> ScalarText(const Node& node) {
  if (node.kind != Node::Kind::kScalar) return std::nullopt;
  return node.text;
}

bool IsUid(const std::string& text) {
  if (text.empty() || text.size() > kMaxUidBytes) return false;
  // The uid becomes part of a trash name, where dots separate the parts.
  for (const char c : text) {
    if (!absl::ascii_isalnum(c) && c != '-' && c != '_') return false;
  }
  return true;
}

// The keys that EncodeWorkspace() writes into every record.
constexpr absl::string_view kAlwaysWritten[] = {"project_name",
                                                "root_path",
                                                "mlflow_experiment_id",
                                                "mlflow_tracking_uri",
                                                "dvc_remote_path",
                                                "bentoml_tag_prefix",
                                                "metadata",
                                                "created_at",
                                                "updated_at",
                                                "uid",
                                                kEndKey};

// The content of a record before it is checked against its location.
struct Record {
  std::string project_name;
  std::string root_path;
  // The original text, from which a missing uid is derived.
  std::string created_at;
  std::optional<absl::Time> create_time;
  std::optional<absl::Time> update_time;
  std::string uid;
  std::string request_id;
  Settings settings;
  Metadata metadata = Metadata::object();
  Quota quota;
  std::string unknown_keys;
};

std::optional<Problem> ReadTime(const Node& node,
                                std::optional<absl::Time>* time) {
  if (node.kind == Node::Kind::kNull) return std::nullopt;
  const auto text = ScalarText(node);
  if (text) *time = ParseIsoTime(*text);
  if (!*time) {
    return Problem{node.line,
                   "must be an ISO 8601 time in the years 1 to 9999, such as "
                   "2026-01-31T12:00:00+00:00"};
  }
  return std::nullopt;
}

std::optional<Problem> ReadText(const Node& node, std::string* text) {
  if (node.kind == Node::Kind::kNull) return std::nullopt;
  auto scalar = ScalarText(node);
  if (!scalar) return Problem{node.line, "must be text"};
  *text = *std::move(scalar);
  return std::nullopt;
}

std::optional<Problem> ReadMetadata(const Node& node, Metadata* metadata) {
  if (node.kind == Node::Kind::kNull) return std::nullopt;
  if (node.kind != Node::Kind::kMap) return Problem{node.line, "must be a map"};
  if (auto problem = yaml::Resolve(node, metadata)) return problem;
  if (absl::Status checked = CheckMetadata(*metadata); !checked.ok()) {
    return Problem{node.line, std::string(checked.message())};
  }
  return std::nullopt;
}

// Reads a limit of a quota, an integer from 0 to `max`.
template <typename Integer>
std::optional<Problem> ReadLimit(const Node& node, int64_t max,
                                 std::optional<Integer>& limit) {
  if (node.kind == Node::Kind::kNull) return std::nullopt;
  Metadata value;
  const auto problem = yaml::Resolve(node, &value);
  if (problem || !value.is_number_integer() || value < 0 || value > max) {
    return Problem{node.line,
                   absl::StrCat("must be an integer from 0 to ", max)};
  }
  limit = value.get<Integer>();
  return std::nullopt;
}

std::optional<Problem> ReadEntry(const Node& key, const Node& value,
                                 Record* record) {
  for (const SettingField& field : kSettingFields) {
    if (key.text != field.name) continue;
    std::string text;
    if (auto problem = ReadText(value, &text)) return problem;
    if (value.kind != Node::Kind::kNull)
      record->settings.*field.member = std::move(text);
    return std::nullopt;
  }
  if (key.text == "project_name") return ReadText(value, &record->project_name);
  if (key.text == "root_path") return ReadText(value, &record->root_path);
  if (key.text == "metadata") return ReadMetadata(value, &record->metadata);
  if (key.text == "created_at") {
    record->created_at = value.text;
    return ReadTime(value, &record->create_time);
  }
  if (key.text == "updated_at") return ReadTime(value, &record->update_time);
  if (key.text == "uid") {
    if (auto problem = ReadText(value, &record->uid)) return problem;
    if (record->uid.empty() || IsUid(record->uid)) return std::nullopt;
    return Problem{value.line, "must be 1 to 64 letters, digits, '-' and '_'"};
  }
  if (key.text == "request_id") return ReadText(value, &record->request_id);
  if (key.text == kMaxSizeBytes)
    return ReadLimit(value, kMaxInteger, record->quota.max_size_bytes);
  if (key.text == kMaxFileCount) {
    return ReadLimit(value, std::numeric_limits<int32_t>::max(),
                     record->quota.max_file_count);
  }
  if (key.text == kEndKey) {
    if (value.kind == Node::Kind::kScalar && value.text == "true")
      return std::nullopt;
    return Problem{value.line, "must be true"};
  }
  // Preserve keys of other tools as they were written.
  yaml::AppendEntry(key, value, 0, record->unknown_keys);
  return std::nullopt;
}

// Returns a problem if a record with our header was truncated or lost a line.
std::optional<Problem> CheckComplete(const Node& root) {
  for (absl::string_view name : kAlwaysWritten) {
    const auto has_name = [name](const yaml::Entry& entry) {
      return entry.key.text == name;
    };
    if (std::any_of(root.entries.begin(), root.entries.end(), has_name))
      continue;
    return Problem{0, absl::StrCat("was cut off: it lacks the key ", name,
                                   "; restore the file, or remove its first "
                                   "line if it is complete without it")};
  }
  return std::nullopt;
}

std::optional<Problem> ReadRecord(absl::string_view text, Record* record) {
  if (text.size() > kMaxRecordBytes)
    return Problem{0,
                   absl::StrCat("is larger than ", kMaxRecordBytes, " bytes")};
  Node root;
  if (auto problem = yaml::Parse(text, &root)) return problem;
  if (root.kind == Node::Kind::kNull) return Problem{0, "is empty"};
  if (root.kind != Node::Kind::kMap)
    return Problem{root.line, "must be a map of keys to values"};
  for (const auto& [key, value] : root.entries) {
    if (auto problem = ReadEntry(key, value, record)) {
      problem->what = absl::StrCat(key.text, ": ", problem->what);
      return problem;
    }
  }
  // Only records with our header were certainly complete when written.
  return absl::StartsWith(text, kRecordHeader) ? CheckComplete(root)
                                               : std::nullopt;
}

// Moves a location at or below `old_place` to the same position below
// `new_place`.
void Follow(absl::string_view old_place, absl::string_view new_place,
            std::optional<std::string>& location) {
  if (!location) return;
  absl::string_view rest = *location;
  if (!absl::ConsumePrefix(&rest, old_place)) return;
  // The prefix must end at a slash: /base/ab is not below /base/a.
  if (rest.empty() || rest.front() == '/')
    location = absl::StrCat(new_place, rest);
}

// Adjusts the settings of a directory that was moved or copied: locations
// inside the old directory, and the default tag prefix. Keeps locations
// elsewhere, because the user has chosen them.
void DeriveSettingsAgain(const Record& record, const RecordPlace& place,
                         Settings& settings) {
  // A hand-made record may not say where it was.
  auto old_project = ProjectName::Parse(record.project_name);
  if (!old_project.ok() || record.root_path.empty()) return;
  const Settings old_defaults = DefaultSettings(*old_project, record.root_path);
  const Settings new_defaults = DefaultSettings(place.project, place.root_path);
  if (settings.bentoml_tag_prefix == old_defaults.bentoml_tag_prefix) {
    settings.bentoml_tag_prefix = new_defaults.bentoml_tag_prefix;
  }
  if (settings.dvc_remote_path == old_defaults.dvc_remote_path) {
    settings.dvc_remote_path = new_defaults.dvc_remote_path;
  } else if (base::IsValidUtf8(place.root_path)) {
    // A setting must be valid UTF-8, which a path need not be.
    Follow(record.root_path, place.root_path, settings.dvc_remote_path);
  }
  // Compare the root paths as they are in the default URI, which escapes some
  // characters.
  constexpr absl::string_view kDatabase = "/mlflow/mlflow.db";
  Follow(absl::StripSuffix(*old_defaults.mlflow_tracking_uri, kDatabase),
         absl::StripSuffix(*new_defaults.mlflow_tracking_uri, kDatabase),
         settings.mlflow_tracking_uri);
}

std::string DeriveUid(const Record& record, const RecordPlace& place) {
  // A hash, not a random id, so that every read yields the same uid. NUL occurs
  // in neither part, so different parts never give the same text.
  if (record.uid.empty()) {
    return base::HashHex(
        absl::StrCat(place.project.str(), absl::string_view("\0", 1),
                     record.created_at),
        kUidDigits);
  }
  if (record.project_name == place.project.str()) return record.uid;
  // A copy is a different workspace from its original.
  return base::HashHex(
      absl::StrCat(record.uid, absl::string_view("\0", 1), place.project.str()),
      kUidDigits);
}

// Returns the depth of `item`. Only maps and lists are one level deeper than
// their container.
int DepthOf(const Metadata& item, int container_depth) {
  return container_depth + (item.is_structured() ? 1 : 0);
}

absl::Status CheckValue(const Metadata& value, const std::string& field,
                        int depth) {
  if (depth > kMaxMetadataDepth) {
    return FieldInvalid(field, absl::StrCat("is nested deeper than ",
                                            kMaxMetadataDepth, " levels"));
  }
  if (value.is_number_float()) {
    const double number = value.get<double>();
    if (!std::isfinite(number))
      return FieldInvalid(field, "is not a finite number");
    // An integer beyond the limit that was sent as a double may already have
    // lost digits.
    if (number == std::trunc(number) &&
        std::abs(number) > static_cast<double>(kMaxInteger)) {
      return FieldInvalid(field,
                          "is an integer beyond 2^53 - 1, where doubles are "
                          "not exact: send it as a string");
    }
  } else if (value.is_number()) {
    // Values above INT64_MAX would wrap in get<int64_t>().
    const bool too_large = value.is_number_unsigned() &&
                           value.get<uint64_t>() > uint64_t{kMaxInteger};
    if (too_large || value.get<int64_t>() > kMaxInteger ||
        value.get<int64_t>() < -kMaxInteger) {
      return FieldInvalid(field,
                          "is an integer beyond 2^53 - 1, where doubles are "
                          "not exact: send it as a string");
    }
  } else if (value.is_array()) {
    for (size_t i = 0; i < value.size(); ++i) {
      RETURN_IF_ERROR(CheckValue(value[i], absl::StrCat(field, "[", i, "]"),
                                 DepthOf(value[i], depth)));
    }
  } else if (value.is_object()) {
    for (const auto& [key, item] : value.items()) {
      if (key.size() > kMaxMetadataKeyBytes) {
        return FieldInvalid(
            field, absl::StrCat("has a key longer than ", kMaxMetadataKeyBytes,
                                " bytes"));
      }
      RETURN_IF_ERROR(CheckValue(item, absl::StrCat(field, ".", key),
                                 DepthOf(item, depth)));
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::string RecordEtag(absl::string_view text) {
  return base::HashHex(text, 16);
}

absl::Status CheckMetadata(const Metadata& metadata) {
  if (!metadata.is_object()) return FieldInvalid("metadata", "must be a map");
  RETURN_IF_ERROR(CheckValue(metadata, "metadata", 1));
  // With `replace`, dump() does not throw on text that is not UTF-8.
  const size_t size =
      metadata.dump(-1, ' ', false, Metadata::error_handler_t::replace).size();
  if (size > kMaxMetadataBytes) {
    return FieldInvalid("metadata",
                        absl::StrCat("is larger than ", kMaxMetadataBytes,
                                     " bytes as JSON: ", size));
  }
  return absl::OkStatus();
}

std::string EncodeWorkspace(const Workspace& workspace) {
  std::string out = absl::StrCat(kRecordHeader, "\n");
  yaml::AppendEntry("project_name", workspace.project.str(), 0, out);
  yaml::AppendEntry("root_path", base::PathText(workspace.root_path), 0, out);
  for (const SettingField& field : kSettingFields) {
    const auto& value = workspace.settings.*field.member;
    yaml::AppendEntry(field.name, value ? Metadata(*value) : Metadata(nullptr),
                      0, out);
  }
  yaml::AppendEntry("metadata", workspace.metadata, 0, out);
  yaml::AppendEntry("created_at", FormatIsoTime(workspace.create_time), 0, out);
  yaml::AppendEntry("updated_at", FormatIsoTime(workspace.update_time), 0, out);
  yaml::AppendEntry("uid", workspace.uid, 0, out);
  if (!workspace.request_id.empty())
    yaml::AppendEntry("request_id", workspace.request_id, 0, out);
  const Quota& quota = workspace.quota;
  if (quota.max_size_bytes)
    yaml::AppendEntry(kMaxSizeBytes, *quota.max_size_bytes, 0, out);
  if (quota.max_file_count)
    yaml::AppendEntry(kMaxFileCount, *quota.max_file_count, 0, out);
  out += workspace.unknown_keys;
  yaml::AppendEntry(kEndKey, true, 0, out);
  return out;
}

absl::StatusOr<Workspace> DecodeWorkspace(absl::string_view text,
                                          const RecordPlace& place) {
  Record record;
  if (auto problem = ReadRecord(text, &record)) {
    return WorkspaceCorrupt(place.project.str(), place.file, problem->line,
                            problem->what);
  }
  // A hand-made record may lack times. The file's modification time is the best
  // substitute.
  const absl::Time create_time =
      record.create_time.value_or(ClampTime(WholeMicros(place.modify_time)));
  Workspace workspace{.project = place.project,
                      .uid = DeriveUid(record, place),
                      .root_path = place.root_path,
                      .settings = std::move(record.settings),
                      .metadata = std::move(record.metadata),
                      .quota = record.quota,
                      .create_time = create_time,
                      .update_time = record.update_time.value_or(create_time),
                      .etag = RecordEtag(text),
                      .request_id = std::move(record.request_id),
                      .unknown_keys = std::move(record.unknown_keys)};
  // The directory was moved or copied since the record was written.
  if (record.root_path != base::PathText(place.root_path))
    DeriveSettingsAgain(record, place, workspace.settings);
  return workspace;
}

Settings SettingsOfCopy(const Workspace& source, const RecordPlace& place) {
  const Record record{.project_name = source.project.str(),
                      .root_path = base::PathText(source.root_path)};
  Settings settings = source.settings;
  DeriveSettingsAgain(record, place, settings);
  return settings;
}

std::string RecordAsJson(absl::string_view text, const std::string& root_path) {
  const auto dump = [](const nlohmann::json& json) {
    return json.dump(-1, ' ', /*ensure_ascii=*/true,
                     nlohmann::json::error_handler_t::replace);
  };
  Record record;
  if (auto problem = ReadRecord(text, &record))
    return dump(
        {{"line", problem->line}, {"problem", base::Echo(problem->what)}});

  // As in DecodeWorkspace(), the location overrides what the record says.
  const std::string name = root_path.substr(root_path.rfind('/') + 1);
  const auto project = ProjectName::Parse(name);
  if (project.ok() && record.root_path != base::PathText(root_path)) {
    DeriveSettingsAgain(record, {.project = *project, .root_path = root_path},
                        record.settings);
  }
  const auto or_null = [](const std::string& text) {
    return text.empty() ? nlohmann::json() : nlohmann::json(text);
  };
  const auto time = [](const std::optional<absl::Time>& time) {
    return time ? nlohmann::json(FormatIsoTime(*time)) : nlohmann::json();
  };
  nlohmann::json json = {
      {"project_name", project.ok() || record.project_name.empty()
                           ? name
                           : record.project_name},
      {"metadata", record.metadata},
      {"created_at", time(record.create_time)},
      {"updated_at", time(record.update_time)},
      {"uid", or_null(record.uid)},
      {"request_id", or_null(record.request_id)},
      {"other_keys", record.unknown_keys}};
  const auto limit = [](const auto& limit) {
    return limit ? nlohmann::json(*limit) : nlohmann::json();
  };
  json[std::string(kMaxSizeBytes)] = limit(record.quota.max_size_bytes);
  json[std::string(kMaxFileCount)] = limit(record.quota.max_file_count);
  for (const SettingField& field : kSettingFields) {
    const auto& value = record.settings.*field.member;
    json[std::string(field.name)] =
        value ? nlohmann::json(*value) : nlohmann::json();
  }
  return dump(json);
}

absl::Status CheckReadable(const Workspace& workspace) {
  const std::string text = EncodeWorkspace(workspace);
  // An error names the metadata only if it makes up most of the record.
  std::string metadata;
  yaml::AppendEntry("metadata", workspace.metadata, 0, metadata);
  const absl::string_view field =
      metadata.size() > text.size() / 2 ? "metadata" : "workspace";
  if (text.size() > kMaxRecordBytes) {
    // Values within the limits can still get here: deep nesting and escapes
    // take more space in YAML than in a request, and unknown keys add to it.
    return FieldInvalid(
        field, absl::StrCat("makes a workspace.yaml of ", text.size(),
                            " bytes, of which ", metadata.size(),
                            " are metadata and ", workspace.unknown_keys.size(),
                            " other keys; the limit is ", kMaxRecordBytes));
  }
  const auto read =
      DecodeWorkspace(text, {.project = workspace.project,
                             .root_path = workspace.root_path,
                             .file = "workspace.yaml",
                             .modify_time = workspace.create_time});
  if (!read.ok())
    return FieldInvalid(field, absl::StrCat("could not be read back: ",
                                            read.status().message()));
  // The record must not only parse; its values must match too.
  const bool same =
      read->settings == workspace.settings &&
      read->metadata == workspace.metadata && read->quota == workspace.quota &&
      read->unknown_keys == workspace.unknown_keys &&
      read->uid == workspace.uid && read->request_id == workspace.request_id &&
      read->create_time == workspace.create_time &&
      read->update_time == workspace.update_time;
  return same ? absl::OkStatus()
              : FieldInvalid(field, "would be read back with other values");
}

}  // namespace mlops::core
