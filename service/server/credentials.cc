#include "service/server/credentials.h"

#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <ctime>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "grpc/grpc.h"
#include "grpc/grpc_security_constants.h"
#include "proto/cpp/base/pem.h"
#include "proto/cpp/base/status_macros.h"

namespace mlops::server {
namespace {

using base::Certificate;
using base::PrivateKey;

// Returns the error for a file. `what` is "certificate", "key" or "client CA".
absl::Status CannotUse(absl::string_view what, absl::string_view path,
                       absl::string_view why) {
  return absl::FailedPreconditionError(
      absl::StrCat("cannot use the TLS ", what, " ", path, ": ", why));
}

// Adds the file's name to an error.
template <typename T>
absl::StatusOr<T> From(absl::string_view what, absl::string_view path,
                       absl::StatusOr<T> result) {
  if (result.ok()) return result;
  return CannotUse(what, path, result.status().message());
}

absl::Time ToTime(const ASN1_TIME* time) {
  std::tm parts = {};
  // A malformed time counts as long past.
  if (ASN1_TIME_to_tm(time, &parts) != 1) return absl::InfinitePast();
  return absl::FromTM(parts, absl::UTCTimeZone());
}

// Checks that OpenSSL accepts the certificate and key as gRPC will configure
// them.
absl::Status CheckIdentity(const TlsConfig& config,
                           const std::vector<Certificate>& chain,
                           const PrivateKey& key) {
  const std::unique_ptr<SSL_CTX, base::OpenSslDeleter<SSL_CTX_free>> context(
      SSL_CTX_new(TLS_server_method()));
  // OpenSSL refuses, for example, a key that is too short.
  if (SSL_CTX_use_certificate(context.get(), chain.front().get()) != 1) {
    return CannotUse("certificate", config.cert_file, base::OpenSslError());
  }
  if (X509_check_private_key(chain.front().get(), key.get()) != 1) {
    // Clear OpenSSL's error queue: our own sentence says more.
    (void)base::OpenSslError();
    return CannotUse(
        "key", config.key_file,
        absl::StrCat("it does not belong to the first certificate in ",
                     config.cert_file));
  }
  if (SSL_CTX_use_PrivateKey(context.get(), key.get()) != 1)
    return CannotUse("key", config.key_file, base::OpenSslError());
  return absl::OkStatus();
}

grpc_ssl_client_certificate_request_type RequestType(ClientCertificates auth) {
  switch (auth) {
    case ClientCertificates::kNone:
      return GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE;
    case ClientCertificates::kOptional:
      return GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY;
    case ClientCertificates::kRequired:
      break;
  }
  return GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY;
}

// Wraps credentials that only gRPC's C API can create in a C++ object.
class WrappedCredentials final : public grpc::ServerCredentials {
 public:
  explicit WrappedCredentials(grpc_server_credentials* credentials)
      : credentials_(credentials) {}
  ~WrappedCredentials() override {
    grpc_server_credentials_release(credentials_);
  }

  // Not supported: the server's handlers authenticate the calls.
  void SetAuthMetadataProcessor(
      const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {}

 private:
  int AddPortToServer(const std::string& address,
                      grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  grpc_server_credentials* const credentials_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<TlsCredentials>> TlsCredentials::Load(
    TlsConfig config) {
  if (config.client_auth != ClientCertificates::kNone &&
      config.client_ca_file.empty()) {
    return absl::FailedPreconditionError(
        "client certificates need the CA that signs them: set --tls-client-ca, "
        "or --tls-client-auth none");
  }
  std::unique_ptr<TlsCredentials> self(new TlsCredentials(std::move(config)));
  // The first reading counts as judged, so that Reload() only reports changes.
  self->last_ = self->judged_ = self->Read();
  ASSIGN_OR_RETURN(Identity identity, self->Judge(self->last_));
  {
    absl::MutexLock lock(&self->mutex_);
    self->identity_ = std::move(identity);
  }
  // Only the C API lets gRPC fetch the certificates again for each connection.
  self->credentials_ = std::make_shared<WrappedCredentials>(
      grpc_ssl_server_credentials_create_with_options(
          grpc_ssl_server_credentials_create_options_using_config_fetcher(
              RequestType(self->config_.client_auth), &Fetch, self.get())));
  return self;
}

TlsCredentials::Reading TlsCredentials::Read() const {
  const auto read = [this]() -> absl::StatusOr<Pem> {
    Pem pem;
    ASSIGN_OR_RETURN(pem.cert, From("certificate", config_.cert_file,
                                    base::ReadPemFile(config_.cert_file)));
    ASSIGN_OR_RETURN(pem.key, From("key", config_.key_file,
                                   base::ReadPemFile(config_.key_file)));
    if (config_.client_ca_file.empty()) return pem;
    ASSIGN_OR_RETURN(pem.client_ca,
                     From("client CA", config_.client_ca_file,
                          base::ReadPemFile(config_.client_ca_file)));
    return pem;
  };
  absl::StatusOr<Pem> pem = read();
  if (!pem.ok()) return {.problem = pem.status()};
  return {.pem = *std::move(pem)};
}

absl::StatusOr<TlsCredentials::Identity> TlsCredentials::Judge(
    const Reading& reading) const {
  RETURN_IF_ERROR(reading.problem);
  ASSIGN_OR_RETURN(const std::vector<Certificate> chain,
                   From("certificate", config_.cert_file,
                        base::ParseCertificates(reading.pem.cert)));
  ASSIGN_OR_RETURN(
      const PrivateKey key,
      From("key", config_.key_file, base::ParsePrivateKey(reading.pem.key)));
  RETURN_IF_ERROR(CheckIdentity(config_, chain, key));
  if (!config_.client_ca_file.empty()) {
    RETURN_IF_ERROR(From("client CA", config_.client_ca_file,
                         base::ParseCertificates(reading.pem.client_ca))
                        .status());
  }
  return Identity{
      .pem = reading.pem,
      .not_before = ToTime(X509_get0_notBefore(chain.front().get())),
      .not_after = ToTime(X509_get0_notAfter(chain.front().get()))};
}

absl::Status TlsCredentials::CheckValidity(const Identity& identity) const {
  const absl::Time now = absl::Now();
  if (now >= identity.not_before && now <= identity.not_after)
    return absl::OkStatus();
  return CannotUse("certificate", config_.cert_file,
                   now < identity.not_before
                       ? absl::StrCat("it is not valid before ",
                                      absl::FormatTime(identity.not_before))
                       : absl::StrCat("it expired at ",
                                      absl::FormatTime(identity.not_after)));
}

absl::Status TlsCredentials::CheckValidity() const {
  absl::MutexLock lock(&mutex_);
  return CheckValidity(identity_);
}

absl::Time TlsCredentials::expiry() const {
  absl::MutexLock lock(&mutex_);
  return identity_.not_after;
}

absl::StatusOr<bool> TlsCredentials::Reload() {
  Reading now = Read();
  // Wait until two readings agree: the files may be replaced one after the
  // other.
  if (now != last_) {
    last_ = std::move(now);
    return false;
  }
  // Judge each reading once, so that an unusable file is reported once.
  if (now == judged_) return false;
  judged_ = std::move(now);
  absl::StatusOr<Identity> identity = Judge(judged_);
  absl::MutexLock lock(&mutex_);
  if (identity.ok()) {
    // If the old files are back, nothing changes.
    if (identity->pem == identity_.pem) return false;
    // Prefer the old certificate if clients accept only that one.
    if (absl::Status valid = CheckValidity(*identity);
        !valid.ok() && CheckValidity(identity_).ok())
      identity = valid;
  }
  if (!identity.ok()) {
    ++failures_;
    return identity.status();
  }
  identity_ = *std::move(identity);
  fetched_ = false;
  ++reloads_;
  return true;
}

grpc_ssl_certificate_config_reload_status TlsCredentials::Fetch(
    void* self, grpc_ssl_server_certificate_config** config) {
  auto& tls = *static_cast<TlsCredentials*>(self);
  absl::MutexLock lock(&tls.mutex_);
  // Hand over new content once; later handshakes reuse it.
  if (std::exchange(tls.fetched_, true))
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
  const Pem& pem = tls.identity_.pem;
  const grpc_ssl_pem_key_cert_pair pair = {.private_key = pem.key.c_str(),
                                           .cert_chain = pem.cert.c_str()};
  // gRPC aborts without a client CA, even though it ignores the CA unless it
  // requests client certificates.
  const std::string& client_ca =
      pem.client_ca.empty() ? pem.cert : pem.client_ca;
  *config =
      grpc_ssl_server_certificate_config_create(client_ca.c_str(), &pair, 1);
  return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
}

std::vector<std::string> CertificateNames(const grpc::AuthContext& context) {
  std::vector<std::string> names;
  for (const char* property :
       {GRPC_PEER_SPIFFE_ID_PROPERTY_NAME, GRPC_PEER_DNS_PROPERTY_NAME,
        GRPC_X509_CN_PROPERTY_NAME}) {
    for (const grpc::string_ref& name : context.FindPropertyValues(property))
      names.emplace_back(name.data(), name.size());
  }
  return names;
}

}  // namespace mlops::server
