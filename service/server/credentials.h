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
  // The server's certificate, followed by the intermediate ones, if any.
  std::string cert_file;
  // The private key, not encrypted.
  std::string key_file;
  // The authorities that sign the clients' certificates.
  // Required unless `client_auth` is kNone.
  std::string client_ca_file;
  // Clients that present a certificate must have it from `client_ca_file`;
  // those without a required one are refused in the handshake.
  ClientCertificates client_auth = ClientCertificates::kNone;
};

// The server's TLS credentials, with TLS 1.2 and 1.3, which follow changes of
// their files: new connections use the new certificates, and open connections
// are not affected.
//
// gRPC's own FileWatcherCertificateProvider uses whatever it reads, and then
// refuses all clients if the files do not fit each other.
class TlsCredentials {
 public:
  // Loads the files. Accepts a certificate that has expired or is not valid
  // yet, because the clock may be wrong and clients of Unix sockets do not
  // need one; the caller should warn (see CheckValidity()).
  //
  // Returns FAILED_PRECONDITION, as a sentence for the operator, if a file is
  // missing, unreadable or malformed, or if the key is not the certificate's.
  static absl::StatusOr<std::unique_ptr<TlsCredentials>> Load(TlsConfig config);

  // Credentials for one listening port of one server. This object must outlive
  // that server.
  std::shared_ptr<grpc::ServerCredentials> credentials() {
    return credentials_;
  }

  // Reloads the files if they have changed. Call this several times a second,
  // always from the same thread. A change takes effect at the second call that
  // sees it, so that files that are replaced one after the other are used
  // together.
  //
  // Returns true if new connections use new files from now on, and false if
  // nothing has changed. Returns FAILED_PRECONDITION, once for each change, if
  // the new files cannot be used: for the reasons of Load(), or because the new
  // certificate is not valid now while the one in use is. The old ones then
  // stay in use.
  absl::StatusOr<bool> Reload();

  // The rest is thread-safe.

  // Returns FAILED_PRECONDITION, as a sentence for the operator, if the
  // certificate in use has expired or is not valid yet.
  absl::Status CheckValidity() const;
  // When the certificate in use expires.
  absl::Time expiry() const;
  // The number of calls of Reload() that returned true and an error.
  int64_t reloads() const { return reloads_; }
  int64_t failures() const { return failures_; }

 private:
  // The contents of the files.
  struct Pem {
    std::string cert, key, client_ca;
    friend bool operator==(const Pem&, const Pem&) = default;
  };
  // What the files were at one time.
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
  // Accessed by the thread that calls Reload().
  Reading last_, judged_;
  std::atomic<int64_t> reloads_ = 0;
  std::atomic<int64_t> failures_ = 0;
  mutable absl::Mutex mutex_;
  Identity identity_ ABSL_GUARDED_BY(mutex_);
  // Whether gRPC has taken over `identity_`.
  bool fetched_ ABSL_GUARDED_BY(mutex_) = false;
  std::shared_ptr<grpc::ServerCredentials> credentials_;
};

// Returns the names of the client certificate that the TLS handshake verified:
// the SPIFFE ID, then the DNS names, then the common name. Empty if the client
// presented none. Thread-safe.
std::vector<std::string> CertificateNames(const grpc::AuthContext& context);

}  // namespace mlops::server

#endif  // MLOPS_SERVICE_SERVER_CREDENTIALS_H_
