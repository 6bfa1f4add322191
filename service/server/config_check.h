#ifndef MLOPS_SERVICE_SERVER_CONFIG_CHECK_H_
#define MLOPS_SERVICE_SERVER_CONFIG_CHECK_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "service/server/config.h"

// Finds mistakes in the settings before the server starts.
namespace mlops::server {

// Returns a sentence for each setting that is missing, malformed, or without
// effect beside the others. Reads no files. The server does not start with any
// of these.
std::vector<std::string> FindContradictions(const Config& config);

// Returns a sentence for each file, directory and group of the settings that
// this process cannot use. What it finds depends on the user, so it should run
// as the user of the server.
std::vector<std::string> FindUnusableFiles(const Config& config);

}  // namespace mlops::server

#endif  // MLOPS_SERVICE_SERVER_CONFIG_CHECK_H_
