#ifndef MLOPS_SERVICE_CORE_WORKSPACE_YAML_H_
#define MLOPS_SERVICE_CORE_WORKSPACE_YAML_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "service/core/workspace.h"

// Reads and writes workspace.yaml. Its content is a comment (kRecordHeader),
// the keys of the original code (project_name, root_path, the four settings,
// metadata, created_at, updated_at), our keys (uid, request_id, and a quota's
// max_size_bytes and max_file_count), any other keys the file had, and kEndKey.
// All functions are pure and thread-safe.
namespace mlops::core {

// Maximum size of a record. A larger file is corrupt and is not read further.
inline constexpr int64_t kMaxRecordBytes = 1024 * 1024;

// The first line of a record that this project wrote. A file that begins
// with it but lacks a key that is always written was cut off, and is corrupt.
// The header is a comment, so a tool that rewrites the file drops it; the file
// then counts as hand-made, and may lack any key.
inline constexpr absl::string_view kRecordHeader =
    "# Written by mlops-workspace: whole only with its last key.";
// The last key, whose value is always true. A truncated file that has lost
// any data lacks it.
inline constexpr absl::string_view kEndKey = "end_of_record";

// What the file's location says. The file's content is checked against it.
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

// Returns `workspace` as YAML from which PyYAML's safe_load and yaml-cpp
// read the same values and types. Quotes strings that YAML 1.1 could read
// as another type.
std::string EncodeWorkspace(const Workspace& workspace);

// Decodes a record written by this project, by the original code (PyYAML)
// or by hand. Plain scalars have the meaning that PyYAML's safe_load gives
// them, except that dates stay strings.
//
// If the directory was moved or copied, so that the record's root_path differs
// from that of `place`, settings that name locations inside the old
// directory are adjusted to the new one, as is the default tag prefix.
// A copy, whose project_name differs, gets a new uid. A missing uid is derived
// from project and created_at, so that every read yields the same one.
// The etag is RecordEtag(text).
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

// Returns the values that DecodeWorkspace() reads from `text`, the record
// in the directory `root_path`, as JSON for clients in other languages.
// A second parser would read some files differently. The keys are those
// of the record, with null for a missing key, and "other_keys" with the YAML
// text of all other keys. For a corrupt record the JSON has "line"
// and "problem" instead. The directory's name may be invalid as a project name;
// then no settings are adjusted.
std::string RecordAsJson(absl::string_view text, const std::string& root_path);

// Checks that DecodeWorkspace() reads the same values from the output
// of EncodeWorkspace() for `workspace`. Returns INVALID_ARGUMENT/FIELD_INVALID
// otherwise. Call it before writing a record: a record that cannot be read back
// must not be acknowledged.
absl::Status CheckReadable(const Workspace& workspace);

// Returns the etag of a record's text: the first 16 hexadecimal digits
// of its SHA-256.
std::string RecordEtag(absl::string_view text);

// Checks that `metadata` can be stored. Returns INVALID_ARGUMENT/FIELD_INVALID
// {field, problem}, where field is for example "metadata.a.b", if `metadata`
// is not an object, is larger than kMaxMetadataBytes as JSON, is nested deeper
// than kMaxMetadataDepth, or has a key longer than kMaxMetadataKeyBytes,
// a number that is not finite, or an integral number beyond ±kMaxInteger.
absl::Status CheckMetadata(const Metadata& metadata);

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_WORKSPACE_YAML_H_
