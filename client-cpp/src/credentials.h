#ifndef MLOPS_CLIENT_CPP_SRC_CREDENTIALS_H_
#define MLOPS_CLIENT_CPP_SRC_CREDENTIALS_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "grpcpp/security/credentials.h"
#include "mlops/options.h"

namespace mlops::internal {

class TokenFile;

// How a client proves its identity, and which servers it trusts. Errors and
// logs never show the token. Copyable and thread-safe.
class Credentials {
 public:
  // Takes the credentials from `options` and, where those are empty, from the
  // environment. Returns the errors of WorkspaceClient::Connect.
  static absl::StatusOr<Credentials> From(const ClientOptions& options);

  // No credentials.
  Credentials() = default;

  // Returns INVALID_ARGUMENT/FIELD_INVALID if the token would be sent to
  // another host, unencrypted.
  absl::Status CheckAddress(absl::string_view address) const;

  // Returns gRPC's credentials for a channel to `address`: for TLS, or for an
  // unencrypted connection.
  std::shared_ptr<grpc::ChannelCredentials> ForChannel(
      absl::string_view address) const;

  // Returns the value of the metadata key "authorization", or "" without
  // a token. Reads the token file again if it has changed; while that file is
  // missing or malformed, the previous token stays in use.
  std::string Authorization() const;

 private:
  bool has_token() const { return !token_.empty() || token_file_ != nullptr; }
  bool NeedsTls(absl::string_view address) const;
  absl::Status ReadToken(const ClientOptions& options);
  absl::Status CheckFiles() const;

  std::string token_;
  // Null without one.
  std::shared_ptr<TokenFile> token_file_;
  std::string ca_file_, cert_file_, key_file_;
};

}  // namespace mlops::internal

#endif  // MLOPS_CLIENT_CPP_SRC_CREDENTIALS_H_
