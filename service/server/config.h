#ifndef MLOPS_SERVICE_SERVER_CONFIG_H_
#define MLOPS_SERVICE_SERVER_CONFIG_H_

#include <string>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "service/observe/log.h"

namespace mlops::server {

// What the command line says.
struct Config {
  // Directory of the workspaces; made if missing.
  std::string base;
  // Lock nothing, change nothing below the base, and refuse changes.
  bool read_only = false;
  // "unix:<path>" or "<host>:<port>"; see Server::addresses().
  std::vector<std::string> listen;
  // Allow addresses that other machines reach.
  bool insecure = false;
  absl::Duration purge_delay = absl::Hours(72);
  // Leave after so long without a call.
  absl::Duration idle_timeout = absl::InfiniteDuration();
  // For calls in flight when asked to stop.
  absl::Duration drain_timeout = absl::Seconds(30);
  // For a client that neither sends nor reads what it must.
  absl::Duration client_timeout = absl::Minutes(2);
  // "" means standard error.
  std::string log_file;
  observe::CallLogLevel log_calls = observe::CallLogLevel::kAll;
  int workers = 16;  // Threads for calls that write or walk.
  // Files read and written at once; each holds up to 9 MiB.
  int max_artifact_streams = 128;
  bool portable_fs = false;  // Use only POSIX calls on files.
};

// The configuration, or the exit code where there is nothing to run: after
// --help and --version, whose text has been printed, and after a bad flag,
// about which one sentence has been printed to standard error.
std::variant<Config, int> ParseCommandLine(int argc, char** argv);

}  // namespace mlops::server

#endif  // MLOPS_SERVICE_SERVER_CONFIG_H_
