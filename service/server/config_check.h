#ifndef MLOPS_SERVICE_SERVER_CONFIG_CHECK_H_
#define MLOPS_SERVICE_SERVER_CONFIG_CHECK_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "service/server/config.h"

// Finds mistakes in the settings before the server starts.
namespace mlops::server {

// Returns a sentence for each setting that is missing, malformed, or without
// effect because another setting is absent. Reads no files. The server does not
// start if there are any.
std::vector<std::string> FindContradictions(const Config& config);

// Returns a sentence for each file, directory and group in the settings that
// this process cannot use. The result depends on the user, so run it as the
// server's user.
std::vector<std::string> FindUnusableFiles(const Config& config);

}  // namespace mlops::server

#endif  // MLOPS_SERVICE_SERVER_CONFIG_CHECK_H_
