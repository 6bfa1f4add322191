#ifndef MLOPS_SERVICE_SERVER_CONFIG_FILE_H_
#define MLOPS_SERVICE_SERVER_CONFIG_FILE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace mlops::server {

// One key of a configuration file.
struct FileSetting {
  // kOther stands for all types that no setting has.
  enum class Type { kBoolean, kInteger, kString, kStrings, kOther };

  std::string key;
  Type type = Type::kOther;
  // One value; any number for kStrings, none for kOther. Booleans are "true"
  // or "false".
  std::vector<std::string> values;
  // The position in the file, "<path>:<line>".
  std::string position;
};

// Reads the top-level keys of a TOML file, in the order of their lines.
// INVALID_ARGUMENT, as a sentence that names the file and where possible the
// line, if the file cannot be read, is larger than 1 MiB or is not TOML.
absl::StatusOr<std::vector<FileSetting>> ReadConfigFile(
    const std::string& path);

}  // namespace mlops::server

#endif  // MLOPS_SERVICE_SERVER_CONFIG_FILE_H_
