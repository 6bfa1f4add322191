#ifndef MLOPS_SERVICE_SERVER_CONFIG_H_
#define MLOPS_SERVICE_SERVER_CONFIG_H_

#include <string>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "service/observe/log.h"

namespace mlops::server {

// The settings from the command line.
struct Config {
  // The directory of the workspaces; created if missing.
  std::string base;
  // Take no lock, change nothing below the base, and refuse changes.
  bool read_only = false;
  // Additional addresses: "unix:<path>" or "<host>:<port>";
  // see Server::addresses().
  std::vector<std::string> listen;
  // Allow addresses that other machines can reach, without encryption.
  bool insecure = false;
  // How long the trash keeps a workspace.
  absl::Duration purge_delay = absl::Hours(72);
  // Exit after this time without a call.
  absl::Duration idle_timeout = absl::InfiniteDuration();
  // How long calls in flight may take after a signal to stop.
  absl::Duration drain_timeout = absl::Seconds(30);
  // End a call whose client neither sends nor reads for this long.
  absl::Duration client_timeout = absl::Minutes(2);
  // The path of the log; "" means standard error.
  std::string log_file;
  observe::CallLogLevel log_calls = observe::CallLogLevel::kAll;
  // Threads for calls that write or walk trees.
  int workers = 16;
  // Number of concurrent artifact streams. Each upload adds 4 MiB to the memory
  // that gRPC may use for received messages.
  int max_artifact_streams = 128;
  // Use only POSIX calls on files.
  bool portable_fs = false;
};

// Parses the command line. Returns an exit code instead if the process should
// exit: after --help or --version, whose text this prints to standard output,
// and after an invalid flag, which this reports in one sentence on standard
// error.
std::variant<Config, int> ParseCommandLine(int argc, char** argv);

}  // namespace mlops::server

#endif  // MLOPS_SERVICE_SERVER_CONFIG_H_
