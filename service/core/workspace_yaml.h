#ifndef MLOPS_SERVICE_CORE_WORKSPACE_YAML_H_
#define MLOPS_SERVICE_CORE_WORKSPACE_YAML_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "service/core/workspace.h"

// workspace.yaml: a comment (kRecordHeader), the keys of the original
// (project_name, root_path, the four settings, metadata, created_at,
// updated_at), ours (uid, request_id), whatever else was found there, and
// kEndKey. All functions are pure and thread-safe.
namespace mlops::core {

// A record larger than this is corrupt; nothing larger is read.
inline constexpr int64_t kMaxRecordBytes = 1024 * 1024;

// The first line of a record that this project wrote. A file that begins with
// it and lacks a key that is always written was cut off: it is corrupt. It is a
// comment, so that a tool that writes the file anew makes a record by hand of
// it, which may lack any key.
inline constexpr absl::string_view kRecordHeader =
    "# Written by mlops-workspace: whole only with its last key.";
// The last key, whose value is always true: every cut that loses something
// loses it.
inline constexpr absl::string_view kEndKey = "end_of_record";

// What the file's place says, against which its content is read.
struct RecordPlace {
  ProjectName project;  // The directory's name.
  // The directory's real path; wins over the root_path in the file.
  std::string root_path;
  std::string file;  // Path of workspace.yaml, for errors.
  // Stands in for created_at and updated_at where they are missing.
  absl::Time modify_time;
};

// Writes `workspace` so that PyYAML's safe_load and yaml-cpp read the same
// values and types: a string that YAML 1.1 could take for something else is
// quoted.
std::string EncodeWorkspace(const Workspace& workspace);

// Reads a record written by us, by the original code (PyYAML) or by hand; plain
// scalars mean what they mean to PyYAML's safe_load (dates stay strings). Where
// the directory was moved or copied, so that root_path is not that of `place`,
// settings that are locations inside the old directory, and the default tag
// prefix, follow it, and a copy (other project_name) gets a uid of its own. A
// missing uid is derived from project and created_at, so that it is the same at
// every read. Etag is RecordEtag(text).
//
// Returns DATA_LOSS/WORKSPACE_CORRUPT {file, line, problem} if the text is
// larger than kMaxRecordBytes, no well-formed YAML map, not UTF-8 or has a NUL;
// if it has duplicate keys, anchors, aliases or tags; if a key has a value of
// the wrong type; if metadata breaks a rule of CheckMetadata(); if a time is
// none that a message can hold; if it has kRecordHeader and lacks a key that
// EncodeWorkspace() always writes.
absl::StatusOr<Workspace> DecodeWorkspace(absl::string_view text,
                                          const RecordPlace& place);

// What DecodeWorkspace() reads in `text`, the record in the directory
// `root_path`, as JSON for clients in other languages: a second parser would
// read some file differently. The keys are those of the record, null where it
// has no such key, and "other_keys", the YAML text of all others; or "line" and
// "problem" if it is corrupt. A directory whose name is none of a project may
// hold a record, too: then nothing is derived again.
std::string RecordAsJson(absl::string_view text, const std::string& root_path);

// Returns INVALID_ARGUMENT/FIELD_INVALID unless DecodeWorkspace() reads what
// EncodeWorkspace() makes of `workspace`, and finds the same in it. To be asked
// before a record is written: nothing may be acknowledged that cannot be read
// back.
absl::Status CheckReadable(const Workspace& workspace);

// The etag of a record's text: 16 hexadecimal digits of its SHA-256.
std::string RecordEtag(absl::string_view text);

// Returns INVALID_ARGUMENT/FIELD_INVALID {field, problem}, field being for
// example "metadata.a.b", if `metadata` is no object, larger as JSON than
// kMaxMetadataBytes, deeper than kMaxMetadataDepth, has a key longer than
// kMaxMetadataKeyBytes, a number that is not finite, or an integral one beyond
// ±kMaxInteger.
absl::Status CheckMetadata(const Metadata& metadata);

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_WORKSPACE_YAML_H_
