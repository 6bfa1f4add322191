#ifndef MLOPS_OPTIONS_H_
#define MLOPS_OPTIONS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <stop_token>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"

// The options of WorkspaceClient and its calls, and functions that inspect
// errors. mlops/workspace_client.h, the manual, includes this header.
// Thread-safe.
namespace mlops {

// How to reach the server, and the default timeouts of calls.
struct ClientOptions {
  // "unix:/path/of/socket", "host:port", or "host:port,host:port" for a server
  // and its standby servers. "https://host:port" is always encrypted, and
  // "http://host:port" never.
  std::string address = "";
  // The base directory, in which its server publishes its addresses. Set
  // `address` or `base_path`, but not both. If neither is set, the client uses
  // the environment variable MLOPS_WORKSPACE_ADDRESS.
  std::string base_path = "";
  // A token or JWT that the server accepts, or a file that contains one, which
  // the client rereads when it changes. Set at most one of them. Default: the
  // environment variables MLOPS_WORKSPACE_TOKEN and MLOPS_WORKSPACE_TOKEN_FILE.
  // The client never sends a token unencrypted to another host.
  std::string token = "";
  std::string token_file = "";
  // PEM files. `ca_file` has the authorities that may issue the server's
  // certificate; default: MLOPS_WORKSPACE_CA, else the public ones that gRPC
  // knows. `cert_file` and `key_file` have this client's own certificate and
  // private key; default: MLOPS_WORKSPACE_CERT and MLOPS_WORKSPACE_KEY. The
  // client uses changed files for new connections within seconds. It encrypts
  // connections to "host:port" if one of these is set, or if there is a token
  // and the host is not this one.
  std::string ca_file = "";
  std::string cert_file = "";
  std::string key_file = "";
  // Timeout of Get, Ensure, Update, MakeDirectory, GetServerInfo, AcquireLease
  // and ReleaseLease, and of each page of List and ListArtifacts.
  absl::Duration repeatable_timeout = absl::Seconds(10);
  // Timeout of Create, Delete, Undelete, DeleteArtifact and MoveArtifact.
  absl::Duration change_timeout = absl::Seconds(30);
  // Timeout of GetStatus, for which the server scans the workspace's
  // directories, and of GetArtifact and CopyArtifact, for which it may read a
  // large file.
  absl::Duration status_timeout = absl::Seconds(60);
  // Timeout of a whole StreamStatuses call.
  absl::Duration stream_timeout = absl::Minutes(10);
};

// Options of a single call.
struct CallOptions {
  // Replaces the client's default timeout; InfiniteDuration() means none. For a
  // file that is read or written, the timeout covers the time from opening it
  // to its end; by default there is none.
  std::optional<absl::Duration> timeout = std::nullopt;
  // Once a stop is requested, ends the call with CANCELLED, and readers and
  // writers likewise. The server may still apply the change.
  std::stop_token stop = {};
  // The fence of the caller's lease on the workspace; see mlops/lease.h. While
  // somebody holds a lease, every change must carry its fence. Calls that
  // change nothing ignore it. 0 means the lease that the environment variables
  // MLOPS_LEASE_PROJECT and MLOPS_LEASE_FENCE named when the client was
  // created, as `mlops lease run` sets them for its command, or none.
  int64_t fence = 0;
};

// Returns the reason for an error: the name of a value of
// mlops.workspace.v1.ErrorReason, for example "WORKSPACE_EXISTS". Returns "" if
// `status` is OK or a connection error.
std::string ErrorReason(const absl::Status& status);

// Returns the facts about an error, by key: `project` if the request named one,
// and the keys listed with the reason. Values are truncated to 256 bytes. Empty
// if `status` has no reason.
std::map<std::string, std::string> ErrorMetadata(const absl::Status& status);

// Returns the minimum delay before a retry, if the server sent one.
std::optional<absl::Duration> ErrorRetryDelay(const absl::Status& status);

}  // namespace mlops

#endif  // MLOPS_OPTIONS_H_
