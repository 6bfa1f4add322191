#ifndef MLOPS_SERVICE_SERVER_CREDENTIALS_H_
#define MLOPS_SERVICE_SERVER_CREDENTIALS_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "grpc/grpc_security.h"
#include "grpcpp/security/auth_context.h"
#include "grpcpp/security/server_credentials.h"
#include "service/server/config.h"

namespace mlops::server {

// PEM files of at most 1 MiB each.
struct TlsConfig {
  // The server's certificate, followed by any intermediate ones.
  std::string cert_file;
  // The unencrypted private key.
  std::string key_file;
  // Certificates of the authorities that sign client certificates. Required
  // unless `client_auth` is kNone.
  std::string client_ca_file;
  // A certificate that a client presents must come from an authority in
  // `client_ca_file`. The handshake refuses clients that lack a required one.
  ClientCertificates client_auth = ClientCertificates::kNone;
};

// The server's TLS credentials, for TLS 1.2 and 1.3. They follow changes of
// their files: new connections use the new certificates; open connections are
// not affected.
//
// Replaces gRPC's FileWatcherCertificateProvider, which uses whatever it reads
// and refuses all clients if the files do not match.
class TlsCredentials {
 public:
  // Loads the files. Accepts a certificate that has expired or is not valid
  // yet, because the clock may be wrong and clients of Unix sockets need none.
  // The caller should then warn; see CheckValidity().
  //
  // Returns FAILED_PRECONDITION, as a sentence for the operator, if a file is
  // missing, unreadable or malformed, or if the key does not match the
  // certificate.
  static absl::StatusOr<std::unique_ptr<TlsCredentials>> Load(TlsConfig config);

  // Credentials for one listening port of one server, which this object must
  // outlive.
  std::shared_ptr<grpc::ServerCredentials> credentials() {
    return credentials_;
  }

  // Reloads the files if they have changed. Must be called several times a
  // second, always from the same thread. A change takes effect at the second
  // call that sees it, so that files that are replaced one after the other take
  // effect together.
  //
  // Returns true if new connections use new files from now on, and false if
  // nothing has changed. Returns FAILED_PRECONDITION, once per change, if the
  // new files cannot be used. The reasons are those of Load(), or that the new
  // certificate is not valid now while the one in use is. The old files then
  // stay in use.
  absl::StatusOr<bool> Reload();

  // The rest is thread-safe.

  // Returns FAILED_PRECONDITION, as a sentence for the operator, if the
  // certificate in use has expired or is not valid yet.
  absl::Status CheckValidity() const;
  // When the certificate in use expires.
  absl::Time expiry() const;
  // Number of Reload() calls that returned true, and that returned an error.
  int64_t reloads() const { return reloads_; }
  int64_t failures() const { return failures_; }

 private:
  // The contents of the files.
  struct Pem {
    std::string cert, key, client_ca;
    friend bool operator==(const Pem&, const Pem&) = default;
  };
  // The result of reading the files once.
  struct Reading {
    Pem pem;
    absl::Status problem;
    friend bool operator==(const Reading&, const Reading&) = default;
  };
  // Contents that gRPC can use.
  struct Identity {
    Pem pem;
    absl::Time not_before, not_after;
  };

  explicit TlsCredentials(TlsConfig config) : config_(std::move(config)) {}

  Reading Read() const;
  absl::StatusOr<Identity> Judge(const Reading& reading) const;
  absl::Status CheckValidity(const Identity& identity) const;
  // gRPC calls this for each new connection.
  static grpc_ssl_certificate_config_reload_status Fetch(
      void* self, grpc_ssl_server_certificate_config** config);

  const TlsConfig config_;
  // Accessed only by the thread that calls Reload().
  Reading last_, judged_;
  std::atomic<int64_t> reloads_ = 0;
  std::atomic<int64_t> failures_ = 0;
  mutable absl::Mutex mutex_;
  Identity identity_ ABSL_GUARDED_BY(mutex_);
  // Whether gRPC has taken over `identity_`.
  bool fetched_ ABSL_GUARDED_BY(mutex_) = false;
  std::shared_ptr<grpc::ServerCredentials> credentials_;
};

// Returns the names in the client certificate that the TLS handshake has
// verified: the SPIFFE ID, then the DNS names, then the common name. Empty if
// the client presented no certificate. Thread-safe.
std::vector<std::string> CertificateNames(const grpc::AuthContext& context);

}  // namespace mlops::server

#endif  // MLOPS_SERVICE_SERVER_CREDENTIALS_H_
