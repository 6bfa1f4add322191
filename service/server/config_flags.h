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

// Reads the server's settings. Flags take precedence over the environment, then
// the --config file, then the defaults.
namespace mlops::server {

// Parses a duration like absl::ParseDuration(), optionally preceded by days:
// "90d", "1d12h". Returns nullopt if it is malformed or negative.
std::optional<absl::Duration> ParseSpan(absl::string_view text);

// Adds the server's flags to `app`. Parsing stores their values in `config`.
void AddFlags(CLI::App& app, Config& config);

// Completes the settings after `app`, which has the flags of AddFlags(), has
// parsed the command line. A setting without a flag takes its value from the
// environment variable, or else from the file. WORKSPACED_TLS_CERT stands for
// --tls-cert; commas separate the elements of lists; an empty variable counts
// as unset. Then fills Config::settings.
//
// Returns INVALID_ARGUMENT for an invalid value, an unreadable file, or an
// unknown key. The error is a sentence that names the source and, for an
// unknown key, the nearest known one.
absl::Status AddOtherSources(CLI::App& app, Config& config);

// Returns the name, without "--", of the flag of `app` whose spelling is
// closest to `name`.
std::string NearestFlag(const CLI::App& app, absl::string_view name);

// Returns the environment variables that have the server's prefix but name no
// setting. The server ignores them, because Kubernetes defines some for a
// service named "workspaced".
std::vector<std::string> UnknownVariables(const Config& config);

}  // namespace mlops::server

#endif  // MLOPS_SERVICE_SERVER_CONFIG_FLAGS_H_
