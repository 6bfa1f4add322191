#ifndef MLOPS_SERVICE_CORE_WORKSPACE_YAML_H_
#define MLOPS_SERVICE_CORE_WORKSPACE_YAML_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "service/core/workspace.h"

// workspace.yaml: the keys of the original (project_name, root_path, the four settings, metadata, created_at,
// updated_at), then ours (uid, request_id), then whatever else was found there. All functions are pure and thread-safe.
namespace mlops::core {

// A record larger than this is corrupt; nothing larger is read.
inline constexpr int64_t kMaxRecordBytes = 1024 * 1024;

// What the file's place says, against which its content is read.
struct RecordPlace {
  ProjectName project;     // The directory's name.
  std::string root_path;   // The directory's real path; wins over the root_path in the file.
  std::string file;        // Path of workspace.yaml, for errors.
  absl::Time modify_time;  // Stands in for created_at and updated_at where they are missing.
};

// Writes `workspace` so that PyYAML's safe_load and yaml-cpp read the same values and types: a string that YAML 1.1
// could take for something else is quoted.
std::string EncodeWorkspace(const Workspace& workspace);

// Reads a record written by us, by the original code (PyYAML) or by hand; plain scalars mean what they mean to PyYAML's
// safe_load (dates stay strings). Where the directory was moved or copied, so that root_path is not that of `place`,
// settings that are locations inside the old directory, and the default tag prefix, follow it, and a copy (other
// project_name) gets a uid of its own. A missing uid is derived from project and created_at, so that it is the same at
// every read. Etag is RecordEtag(text).
//
// Returns DATA_LOSS/WORKSPACE_CORRUPT {file, line, problem} if the text is larger than kMaxRecordBytes, no well-formed
// YAML map, not UTF-8 or has a NUL; if it has duplicate keys, anchors, aliases or tags; if a key has a value of the
// wrong type; if metadata breaks a rule of CheckMetadata().
absl::StatusOr<Workspace> DecodeWorkspace(absl::string_view text, const RecordPlace& place);

// The etag of a record's text: 16 hexadecimal digits of its SHA-256.
std::string RecordEtag(absl::string_view text);

// Returns INVALID_ARGUMENT/FIELD_INVALID {field, problem}, field being for example "metadata.a.b", if `metadata` is no
// object, larger as JSON than kMaxMetadataBytes, deeper than kMaxMetadataDepth, has a key longer than
// kMaxMetadataKeyBytes, a number that is not finite, or an integral one beyond ±kMaxInteger.
absl::Status CheckMetadata(const Metadata& metadata);

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_WORKSPACE_YAML_H_
