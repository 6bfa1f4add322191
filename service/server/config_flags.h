#ifndef MLOPS_SERVICE_SERVER_CONFIG_FLAGS_H_
#define MLOPS_SERVICE_SERVER_CONFIG_FLAGS_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "service/server/config.h"

namespace CLI {
class App;
}

// Where the settings of the server are from: flags, then the environment, then
// the file of --config, then the default.
namespace mlops::server {

// Parses a duration as absl::ParseDuration() does, or one that begins with
// days: "90d", "1d12h". Returns nullopt if it is malformed or negative.
std::optional<absl::Duration> ParseSpan(absl::string_view text);

// Adds the server's flags to `app`, which will store their values in `config`.
void AddFlags(CLI::App& app, Config& config);

// Completes the settings after `app`, which has the flags of AddFlags(), has
// parsed the command line: gives each setting without a flag its value from the
// environment variable (WORKSPACED_TLS_CERT for --tls-cert; elements of lists
// are separated by commas; an empty variable counts as unset) or else from the
// file, and fills Config::settings. INVALID_ARGUMENT, as a sentence that names
// the source, for an invalid value, an unreadable file, or an unknown key,
// together with the nearest known key.
absl::Status AddOtherSources(CLI::App& app, Config& config);

// Returns the name of a flag of `app`, without "--", that is spelled most
// like `name`.
std::string NearestFlag(const CLI::App& app, absl::string_view name);

// Returns the environment variables that have the server's prefix but name
// no setting. They are ignored, because Kubernetes defines some for a service
// that is called "workspaced".
std::vector<std::string> UnknownVariables(const Config& config);

}  // namespace mlops::server

#endif  // MLOPS_SERVICE_SERVER_CONFIG_FLAGS_H_
