#ifndef MLOPS_SERVICE_SERVER_CONFIG_H_
#define MLOPS_SERVICE_SERVER_CONFIG_H_

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "service/observe/log.h"

namespace mlops::server {

// Whether clients must present a certificate on TLS connections.
enum class ClientCertificates { kNone, kOptional, kRequired };

// A setting as text, to show it and to compare configurations.
struct Setting {
  // The name of the flag without "--", which is also the key in the file.
  std::string name;
  // A TOML value, such as "15m" with its quotes.
  std::string value;
  // "flag", the environment variable, "<file>:<line>", or "default".
  std::string source;
};

// The settings of the server. Each field is named after its flag; the flags
// define the defaults and the help. ParseCommandLine() in commands.h reads
// them.
struct Config {
  // Directory of the workspaces; created if missing.
  std::string base;
  // Take no lock, change nothing below the base, and refuse changes.
  bool read_only = false;
  // Wait until no other server holds the base, instead of failing.
  bool wait = false;

  // Additional addresses, "unix:<path>" or "<host>:<port>"; see
  // Server::addresses().
  std::vector<std::string> listen;
  // Allow addresses that other machines can reach, without encryption.
  bool insecure = false;
  // Group that may connect to the Unix sockets; "" means only this user.
  std::string socket_group;
  // Path of a Unix socket for a reverse proxy, which names the caller in the
  // header `proxy_header`; "" means none.
  std::string proxy_socket;
  // Group that may connect to the proxy socket; "" means only this user.
  std::string proxy_group;
  std::string proxy_header = "x-forwarded-user";

  // PEM files for TLS on all TCP addresses; "" means no TLS.
  std::string tls_cert;
  std::string tls_key;
  // Certificates of the authorities that issue client certificates.
  std::string tls_client_ca;
  ClientCertificates tls_client_auth = ClientCertificates::kNone;

  // Files that define who may call and do what; "" means none.
  std::string tokens;
  std::string jwks;
  std::string jwt_issuer;
  std::string jwt_audience;
  std::string policy;

  // Pattern (RE2) that the whole name of a new workspace must match; "" allows
  // all.
  std::string project_pattern;
  // Warn if the disk has fewer free bytes than this; 0 means never.
  int64_t min_free_bytes = 0;
  // While it has, purge workspaces from the trash before their purge time.
  bool purge_early = false;

  // Template of workspaces whose creator names none; "" means none.
  std::string default_template;
  // How long the trash keeps a workspace.
  absl::Duration purge_delay = absl::Hours(72);
  // Exit after this time without calls.
  absl::Duration idle_timeout = absl::InfiniteDuration();
  // How long calls in flight may continue after a signal to stop.
  absl::Duration drain_timeout = absl::Seconds(30);
  // End a call whose client neither sends nor reads for this long.
  absl::Duration client_timeout = absl::Minutes(2);

  // Path of the log; "" means standard error.
  std::string log_file;
  observe::CallLogLevel log_calls = observe::CallLogLevel::kAll;
  // Path of the audit log; "" means none.
  std::string audit_log;
  // Also audit calls that change nothing.
  bool audit_reads = false;
  // Refuse changes that cannot be audited.
  bool audit_required = false;
  // Address of the metrics, "<host>:<port>"; "" means none.
  std::string metrics;

  // Number of threads for calls that write files or walk trees.
  int workers = 16;
  // Maximum number of concurrent artifact streams. Each upload adds 4 MiB to
  // the memory that gRPC may use for received messages.
  int max_artifact_streams = 128;
  // Maximum number of concurrent watches, each of which takes some 20 KiB.
  int max_watchers = 4096;
  // Use only POSIX calls on files.
  bool portable_fs = false;

  // File from which some of these settings come; "" means none.
  std::string config_file;
  // All settings, in the order of --help; empty if no command line was parsed.
  std::vector<Setting> settings;
};

// Returns the names of the settings that differ. Both must have been parsed.
std::vector<std::string> ChangedSettings(const Config& before,
                                         const Config& after);

// Whether SIGHUP makes the server reread its settings, as is usual for a
// service that has a configuration file or that systemd manages. Other servers
// belong to a terminal or to the program that started them, so SIGHUP stops
// them.
bool ReloadsOnHangup(const Config& config);

}  // namespace mlops::server

#endif  // MLOPS_SERVICE_SERVER_CONFIG_H_
