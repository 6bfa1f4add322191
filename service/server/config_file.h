#ifndef MLOPS_SERVICE_SERVER_CONFIG_FILE_H_
#define MLOPS_SERVICE_SERVER_CONFIG_FILE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace mlops::server {

// One key of a configuration file.
struct FileSetting {
  // kOther stands for all types that no setting uses.
  enum class Type { kBoolean, kInteger, kString, kStrings, kOther };

  std::string key;
  Type type = Type::kOther;
  // One value for most types, any number for kStrings, none for kOther.
  // Booleans are "true" or "false".
  std::vector<std::string> values;
  // Position in the file, "<path>:<line>".
  std::string position;
};

// Reads the top-level keys of a TOML file, in the order of their lines. Returns
// INVALID_ARGUMENT if the file cannot be read, is larger than 1 MiB, or is not
// TOML. The error is a sentence that names the file and, where possible, the
// line.
absl::StatusOr<std::vector<FileSetting>> ReadConfigFile(
    const std::string& path);

}  // namespace mlops::server

#endif  // MLOPS_SERVICE_SERVER_CONFIG_FILE_H_
