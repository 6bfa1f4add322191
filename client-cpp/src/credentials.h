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

// A client's own identity, and the servers that it trusts. Errors and logs
// never show the token. Copyable and thread-safe.
class Credentials {
 public:
  // Takes the credentials from `options` or, where those are empty, from the
  // environment. Returns the errors of WorkspaceClient::Connect.
  static absl::StatusOr<Credentials> From(const ClientOptions& options);

  // Creates empty credentials.
  Credentials() = default;

  // Returns INVALID_ARGUMENT/FIELD_INVALID if the token would be sent
  // unencrypted to another host.
  absl::Status CheckAddress(absl::string_view address) const;

  // Returns gRPC's credentials for a channel to `address`, with or without TLS.
  std::shared_ptr<grpc::ChannelCredentials> ForChannel(
      absl::string_view address) const;

  // Returns the value of the metadata key "authorization", or "" without a
  // token. Rereads the token file if it has changed. While the file is missing
  // or malformed, the previous token remains in use.
  std::string Authorization() const;

 private:
  bool has_token() const { return !token_.empty() || token_file_ != nullptr; }
  bool NeedsTls(absl::string_view address) const;
  absl::Status ReadToken(const ClientOptions& options);
  absl::Status CheckFiles() const;

  std::string token_;
  // Null without a token file.
  std::shared_ptr<TokenFile> token_file_;
  std::string ca_file_, cert_file_, key_file_;
};

}  // namespace mlops::internal

#endif  // MLOPS_CLIENT_CPP_SRC_CREDENTIALS_H_
