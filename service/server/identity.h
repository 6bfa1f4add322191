#ifndef MLOPS_SERVICE_SERVER_IDENTITY_H_
#define MLOPS_SERVICE_SERVER_IDENTITY_H_

#include <memory>

#include "absl/status/statusor.h"
#include "service/auth/gate.h"
#include "service/server/config.h"
#include "service/server/credentials.h"

// Reads the files that decide who may call. Errors are sentences for the
// operator, with the code FAILED_PRECONDITION. Thread-safe.
namespace mlops::server {

absl::StatusOr<std::unique_ptr<auth::Gate>> OpenGate(const Config& config);

// Returns null if `config` has no certificate.
absl::StatusOr<std::unique_ptr<TlsCredentials>> LoadTls(const Config& config);

// Whether calls must be identified. A server without any of these settings
// accepts everybody and need not know who calls.
bool HasIdentity(const Config& config);

}  // namespace mlops::server

#endif  // MLOPS_SERVICE_SERVER_IDENTITY_H_
