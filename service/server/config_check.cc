#include "service/server/config_check.h"

#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "service/core/name_policy.h"
#include "service/server/listeners.h"

namespace mlops::server {
namespace {

using Problems = std::vector<std::string>;

// Reports `flag` if it is set without `needed`, because it then has no effect.
void Need(absl::string_view flag, bool set, absl::string_view needed,
          bool needed_set, Problems& problems) {
  if (set && !needed_set)
    problems.push_back(absl::StrCat(flag, " needs ", needed));
}

void CheckAddresses(const Config& config, Problems& problems) {
  const bool may_be_remote = config.insecure || !config.tls_cert.empty();
  for (const std::string& address : config.listen) {
    const absl::Status status = CheckAddress(address, may_be_remote);
    if (!status.ok()) problems.emplace_back(status.message());
  }
  if (config.metrics.empty()) return;
  // Allow remote hosts: the operator chooses who may see the metrics.
  const absl::Status status = CheckAddress(config.metrics, true);
  if (!status.ok() || absl::StartsWith(config.metrics, "unix:")) {
    problems.push_back(
        absl::StrCat("--metrics \"", config.metrics, "\" is not HOST:PORT"));
  }
}

void CheckTls(const Config& config, Problems& problems) {
  const bool cert = !config.tls_cert.empty(), key = !config.tls_key.empty();
  const bool authority = !config.tls_client_ca.empty();
  const bool asked = config.tls_client_auth != ClientCertificates::kNone;
  Need("--tls-cert", cert, "--tls-key", key, problems);
  Need("--tls-key", key, "--tls-cert", cert, problems);
  Need("--tls-client-ca", authority, "--tls-cert", cert, problems);
  Need("--tls-client-ca", authority, "--tls-client-auth optional or required",
       asked, problems);
  Need("--tls-client-auth", asked, "--tls-client-ca", authority, problems);
}

void CheckIdentity(const Config& config, Problems& problems) {
  const bool keys = !config.jwks.empty();
  const bool issuer = !config.jwt_issuer.empty();
  const bool audience = !config.jwt_audience.empty();
  Need("--jwks", keys, "--jwt-issuer", issuer, problems);
  Need("--jwks", keys, "--jwt-audience", audience, problems);
  Need("--jwt-issuer", issuer, "--jwks", keys, problems);
  Need("--jwt-audience", audience, "--jwks", keys, problems);
}

// Whether gRPC accepts `name` as the name of a text header, and neither gRPC
// nor the server gives that header another meaning.
bool IsFreeHeader(absl::string_view name) {
  const std::string lower = absl::AsciiStrToLower(name);
  // gRPC reserves the prefix "grpc-", and the suffix "-bin" marks binary
  // headers.
  return !lower.empty() && lower != "authorization" &&
         !absl::StartsWith(lower, "grpc-") && !absl::EndsWith(lower, "-bin") &&
         std::all_of(lower.begin(), lower.end(), [](char c) {
           return absl::ascii_isalnum(c) || c == '-' || c == '_' || c == '.';
         });
}

void CheckWorkspaces(const Config& config, Problems& problems) {
  const auto names = core::NamePolicy::Parse(config.project_pattern);
  if (!names.ok()) {
    problems.push_back(
        absl::StrCat("--project-pattern ", names.status().message()));
  }
  Need("--purge-early", config.purge_early, "--min-free-bytes",
       config.min_free_bytes > 0, problems);
}

void CheckProxy(const Config& config, Problems& problems) {
  const bool proxy = !config.proxy_socket.empty();
  Need("--proxy-group", !config.proxy_group.empty(), "--proxy-socket", proxy,
       problems);
  if (!IsFreeHeader(config.proxy_header)) {
    problems.push_back(absl::StrCat("--proxy-header \"", config.proxy_header,
                                    "\" cannot name callers: use a header such "
                                    "as x-forwarded-user"));
  }
  if (!proxy) return;
  if (absl::StartsWith(config.proxy_socket, "unix:")) {
    problems.push_back(absl::StrCat("--proxy-socket ", config.proxy_socket,
                                    " must be a path, without \"unix:\""));
    return;
  }
  const absl::Status status =
      CheckAddress(absl::StrCat("unix:", config.proxy_socket), true);
  if (!status.ok())
    problems.push_back(absl::StrCat("--proxy-socket: ", status.message()));
}

void CheckReadable(absl::string_view flag, const std::string& path,
                   Problems& problems) {
  if (path.empty()) return;
  struct stat info;
  int error = 0;
  if (::stat(path.c_str(), &info) != 0 || ::access(path.c_str(), R_OK) != 0)
    error = errno;
  if (error == 0 && S_ISDIR(info.st_mode)) error = EISDIR;
  if (error == 0) return;
  problems.push_back(
      absl::StrCat(flag, " ", path, " cannot be read: ", std::strerror(error)));
}

// Reports `path` if it can be neither opened for appending nor created.
void CheckWritable(absl::string_view flag, const std::string& path,
                   Problems& problems) {
  if (path.empty() || ::access(path.c_str(), W_OK) == 0) return;
  int error = errno;
  // The server creates a missing file, so its parent must be writable.
  if (error == ENOENT) {
    const size_t slash = path.rfind('/');
    const std::string parent =
        slash == std::string::npos ? "." : path.substr(0, slash + 1);
    if (::access(parent.c_str(), W_OK | X_OK) == 0) return;
    error = errno;
  }
  problems.push_back(absl::StrCat(
      flag, " ", path, " cannot be written: ", std::strerror(error)));
}

void CheckBase(const Config& config, Problems& problems) {
  struct stat info;
  if (::stat(config.base.c_str(), &info) != 0) {
    // The server creates a missing base, with its parents.
    if (errno == ENOENT && !config.read_only) return;
    problems.push_back(
        absl::StrCat("--base ", config.base, ": ", std::strerror(errno)));
  } else if (!S_ISDIR(info.st_mode)) {
    problems.push_back(
        absl::StrCat("--base ", config.base, " is not a directory"));
  } else if (!config.read_only) {
    CheckWritable("--base", config.base, problems);
  }
}

void CheckGroup(absl::string_view flag, const std::string& group,
                Problems& problems) {
  if (group.empty()) return;
  // getgrnam(3) leaves errno unchanged if there is no such group.
  errno = 0;
  if (::getgrnam(group.c_str()) != nullptr) return;
  problems.push_back(
      absl::StrCat(flag, " ", group,
                   errno == 0 ? ": no such group"
                              : absl::StrCat(": ", std::strerror(errno))));
}

}  // namespace

std::vector<std::string> FindContradictions(const Config& config) {
  Problems problems;
  if (config.base.empty()) {
    problems.push_back(
        "the directory of the workspaces is missing: give --base DIR, "
        "WORKSPACED_BASE, or base in the file of --config");
  }
  CheckAddresses(config, problems);
  CheckTls(config, problems);
  CheckIdentity(config, problems);
  CheckProxy(config, problems);
  CheckWorkspaces(config, problems);
  const bool audit = !config.audit_log.empty();
  Need("--audit-reads", config.audit_reads, "--audit-log", audit, problems);
  Need("--audit-required", config.audit_required, "--audit-log", audit,
       problems);
  if (config.wait && config.read_only) {
    problems.push_back(
        "--wait waits for the lock of the base, which --read-only does not "
        "take: remove one of them");
  }
  return problems;
}

std::vector<std::string> FindUnusableFiles(const Config& config) {
  Problems problems;
  CheckBase(config, problems);
  CheckReadable("--tls-cert", config.tls_cert, problems);
  CheckReadable("--tls-key", config.tls_key, problems);
  CheckReadable("--tls-client-ca", config.tls_client_ca, problems);
  CheckReadable("--tokens", config.tokens, problems);
  CheckReadable("--jwks", config.jwks, problems);
  CheckReadable("--policy", config.policy, problems);
  CheckWritable("--log-file", config.log_file, problems);
  CheckWritable("--audit-log", config.audit_log, problems);
  CheckGroup("--socket-group", config.socket_group, problems);
  CheckGroup("--proxy-group", config.proxy_group, problems);
  return problems;
}

}  // namespace mlops::server
