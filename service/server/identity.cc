#include "service/server/identity.h"

#include <utility>
#include <vector>

#include "service/auth/access.h"
#include "service/rpc/identify.h"

namespace mlops::server {

absl::StatusOr<std::unique_ptr<auth::Gate>> OpenGate(const Config& config) {
  // Never destroyed, because policies keep referring to the list.
  static const auto& rpcs = *new std::vector<auth::Rpc>(rpc::RpcsForPolicy());
  auto gate =
      auth::Gate::Open({.tokens = config.tokens,
                        .jwks = config.jwks,
                        .jwt_issuer = config.jwt_issuer,
                        .jwt_audience = config.jwt_audience,
                        .policy = config.policy,
                        .client_certificates =
                            config.tls_client_auth != ClientCertificates::kNone,
                        .proxy = !config.proxy_socket.empty(),
                        .rpcs = rpcs});
  if (gate.ok()) return gate;
  return absl::FailedPreconditionError(gate.status().message());
}

absl::StatusOr<std::unique_ptr<TlsCredentials>> LoadTls(const Config& config) {
  if (config.tls_cert.empty()) return nullptr;
  return TlsCredentials::Load({.cert_file = config.tls_cert,
                               .key_file = config.tls_key,
                               .client_ca_file = config.tls_client_ca,
                               .client_auth = config.tls_client_auth});
}

bool HasIdentity(const Config& config) {
  return !config.tokens.empty() || !config.jwks.empty() ||
         config.tls_client_auth != ClientCertificates::kNone ||
         !config.proxy_socket.empty();
}

}  // namespace mlops::server
