#ifndef MLOPS_SERVICE_CORE_WORKSPACE_YAML_H_
#define MLOPS_SERVICE_CORE_WORKSPACE_YAML_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "service/core/workspace.h"

// Reads and writes workspace.yaml. The file consists of a comment
// (kRecordHeader), the keys of the original code (project_name, root_path, the
// four settings, metadata, created_at, updated_at), our keys (uid, request_id,
// and a quota's max_size_bytes and max_file_count), any other keys that the
// file had, and kEndKey. All functions are pure and thread-safe.
namespace mlops::core {

// Maximum size of a record. A larger file is corrupt.
inline constexpr int64_t kMaxRecordBytes = 1024 * 1024;

// The first line of a record that this project wrote. A file that begins with
// it but lacks a key that is always written was truncated, and is corrupt. The
// header is a comment, so a tool that rewrites the file drops it. The file then
// counts as hand-made, and may lack any key.
inline constexpr absl::string_view kRecordHeader =
    "# Written by mlops-workspace: whole only with its last key.";
// The last key, whose value is always true. Any truncated file that has lost
// data lacks this key.
inline constexpr absl::string_view kEndKey = "end_of_record";

// The location of a record. DecodeWorkspace() checks the content against it.
struct RecordPlace {
  // Name of the directory.
  ProjectName project;
  // Real path of the directory. Overrides the root_path in the file.
  std::string root_path;
  // Path of workspace.yaml, for errors.
  std::string file;
  // Used if created_at and updated_at are missing.
  absl::Time modify_time;
};

// Returns `workspace` as YAML from which PyYAML's safe_load and yaml-cpp read
// the same values and types. Quotes strings that YAML 1.1 could read as another
// type.
std::string EncodeWorkspace(const Workspace& workspace);

// Decodes a record written by this project, by the original code (PyYAML) or by
// hand. Plain scalars have the meaning that PyYAML's safe_load gives them,
// except that dates stay strings.
//
// If the record's root_path differs from `place`, the directory was moved or
// copied. The function then adjusts the default tag prefix, and settings that
// name locations inside the old directory. A copy, whose project_name differs,
// gets a new uid. A missing uid is derived from project and created_at, so that
// every read yields the same one. The etag is RecordEtag(text).
//
// Returns DATA_LOSS/WORKSPACE_CORRUPT {file, line, problem} if
// - the text is larger than kMaxRecordBytes, is not a well-formed YAML map,
//   is not UTF-8, or has a NUL character;
// - it has duplicate keys, anchors, aliases or tags;
// - a key's value has the wrong type;
// - the metadata violates CheckMetadata();
// - a time lies outside the range of protobuf timestamps;
// - it has kRecordHeader but lacks a key that EncodeWorkspace() always writes.
absl::StatusOr<Workspace> DecodeWorkspace(absl::string_view text,
                                          const RecordPlace& place);

// Returns the settings of a copy of `source` at `place`, adjusted as
// DecodeWorkspace() does for a copy by hand.
Settings SettingsOfCopy(const Workspace& source, const RecordPlace& place);

// Returns the values that DecodeWorkspace() reads from `text`, the record in
// the directory `root_path`, as JSON for clients in other languages, whose own
// parsers would read some files differently. The keys are those of the record,
// with null for a missing key, and "other_keys" with the YAML text of all other
// keys. For a corrupt record, the JSON has "line" and "problem" instead. If the
// directory's name is not a valid project name, no settings are adjusted.
std::string RecordAsJson(absl::string_view text, const std::string& root_path);

// Checks that DecodeWorkspace() reads the values of `workspace` back from the
// output of EncodeWorkspace(). Returns INVALID_ARGUMENT/FIELD_INVALID
// otherwise. Call it before writing a record, because the server must not
// acknowledge a record that it cannot read back.
absl::Status CheckReadable(const Workspace& workspace);

// Returns the etag of a record's text: the first 16 hexadecimal digits of its
// SHA-256.
std::string RecordEtag(absl::string_view text);

// Checks that `metadata` can be stored. Returns INVALID_ARGUMENT/FIELD_INVALID
// {field, problem}, with a field such as "metadata.a.b", if `metadata`
// - is not an object;
// - is larger than kMaxMetadataBytes as JSON;
// - is nested deeper than kMaxMetadataDepth;
// - has a key longer than kMaxMetadataKeyBytes;
// - has a number that is not finite, or an integer beyond ±kMaxInteger.
absl::Status CheckMetadata(const Metadata& metadata);

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_WORKSPACE_YAML_H_
