#include "client-cpp/src/credentials.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/mutex.h"
#include "client-cpp/src/address.h"
#include "grpcpp/security/tls_certificate_provider.h"
#include "grpcpp/security/tls_credentials_options.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/field_invalid.h"
#include "proto/cpp/base/pem.h"
#include "proto/cpp/base/status_macros.h"

namespace mlops::internal {
namespace {

// Servers refuse longer tokens.
constexpr size_t kMaxTokenBytes = 8192;
// How often gRPC checks for changed certificates.
constexpr unsigned int kRefreshSeconds = 5;

// Returns the token without surrounding white space. Errors do not show it.
absl::StatusOr<std::string> Checked(absl::string_view field,
                                    absl::string_view text) {
  const absl::string_view token = absl::StripAsciiWhitespace(text);
  if (token.empty()) return base::FieldInvalid(field, "has no token");
  if (token.size() > kMaxTokenBytes) {
    return base::FieldInvalid(
        field, absl::StrCat("is longer than ", kMaxTokenBytes, " bytes"));
  }
  const bool clean = std::all_of(token.begin(), token.end(),
                                 [](char c) { return c > ' ' && c <= '~'; });
  if (!clean) {
    return base::FieldInvalid(
        field, "has characters that no token has, such as spaces");
  }
  return std::string(token);
}

std::string Variable(const char* name) {
  const char* const value = std::getenv(name);
  return value != nullptr ? value : "";
}

absl::Status CannotUse(absl::string_view field, absl::string_view path,
                       const absl::Status& why) {
  return base::FieldInvalid(
      field,
      absl::StrCat(base::Echo(path), " cannot be used: ", why.message()));
}

}  // namespace

// A token file and its last valid content. Thread-safe.
class TokenFile {
 public:
  explicit TokenFile(std::string path) : path_(std::move(path)) {}

  // Rereads the file if it has changed.
  absl::Status Refresh() {
    struct stat info = {};
    const bool exists = ::stat(path_.c_str(), &info) == 0;
    // The inode and the size detect a replacement that keeps the modification
    // time.
    const std::array<int64_t, 4> stamp = {
        info.st_mtim.tv_sec, info.st_mtim.tv_nsec,
        static_cast<int64_t>(info.st_ino), info.st_size};
    absl::MutexLock lock(&mutex_);
    if (exists && stamp == stamp_) return absl::OkStatus();
    const absl::StatusOr<std::string> text = base::ReadPemFile(path_);
    if (!text.ok()) return CannotUse("token_file", path_, text.status());
    // Store the stamp only with a valid token, so that a malformed file is read
    // again.
    ASSIGN_OR_RETURN(token_, Checked("token_file", *text));
    stamp_ = stamp;
    return absl::OkStatus();
  }

  std::string token() const {
    absl::MutexLock lock(&mutex_);
    return token_;
  }

 private:
  const std::string path_;
  mutable absl::Mutex mutex_;
  std::array<int64_t, 4> stamp_ ABSL_GUARDED_BY(mutex_) = {};
  std::string token_ ABSL_GUARDED_BY(mutex_);
};

absl::StatusOr<Credentials> Credentials::From(const ClientOptions& options) {
  Credentials credentials;
  RETURN_IF_ERROR(credentials.ReadToken(options));
  credentials.ca_file_ = options.ca_file.empty()
                             ? Variable("MLOPS_WORKSPACE_CA")
                             : options.ca_file;
  // Take the certificate and the key from the same source, because they belong
  // together.
  const bool given = !options.cert_file.empty() || !options.key_file.empty();
  credentials.cert_file_ =
      given ? options.cert_file : Variable("MLOPS_WORKSPACE_CERT");
  credentials.key_file_ =
      given ? options.key_file : Variable("MLOPS_WORKSPACE_KEY");
  RETURN_IF_ERROR(credentials.CheckFiles());
  return credentials;
}

absl::Status Credentials::ReadToken(const ClientOptions& options) {
  if (!options.token.empty() && !options.token_file.empty()) {
    return base::FieldInvalid(
        "token", "give either the token or the token_file, not both");
  }
  // Arguments take precedence over the environment, where a token takes
  // precedence over a file.
  std::string file = options.token_file;
  if (!options.token.empty()) {
    ASSIGN_OR_RETURN(token_, Checked("token", options.token));
  } else if (file.empty()) {
    const std::string token = Variable("MLOPS_WORKSPACE_TOKEN");
    if (token.empty()) {
      file = Variable("MLOPS_WORKSPACE_TOKEN_FILE");
    } else {
      ASSIGN_OR_RETURN(token_, Checked("MLOPS_WORKSPACE_TOKEN", token));
    }
  }
  if (file.empty()) return absl::OkStatus();
  token_file_ = std::make_shared<TokenFile>(file);
  return token_file_->Refresh();
}

// Checks the files before gRPC uses them, because gRPC reports unusable files
// late and unclearly.
absl::Status Credentials::CheckFiles() const {
  if (cert_file_.empty() != key_file_.empty()) {
    return base::FieldInvalid(
        cert_file_.empty() ? "cert_file" : "key_file",
        "is missing: a certificate and its key belong together");
  }
  const auto certificates_in = [](const std::string& path)
      -> absl::StatusOr<std::vector<base::Certificate>> {
    ASSIGN_OR_RETURN(const std::string text, base::ReadPemFile(path));
    return base::ParseCertificates(text);
  };
  const auto key_in =
      [](const std::string& path) -> absl::StatusOr<base::PrivateKey> {
    ASSIGN_OR_RETURN(const std::string text, base::ReadPemFile(path));
    return base::ParsePrivateKey(text);
  };
  if (!ca_file_.empty()) {
    if (const auto found = certificates_in(ca_file_); !found.ok())
      return CannotUse("ca_file", ca_file_, found.status());
  }
  if (cert_file_.empty()) return absl::OkStatus();
  const auto chain = certificates_in(cert_file_);
  if (!chain.ok()) return CannotUse("cert_file", cert_file_, chain.status());
  const auto key = key_in(key_file_);
  if (!key.ok()) return CannotUse("key_file", key_file_, key.status());
  // A key of another certificate would fail only in the handshake.
  if (X509_check_private_key(chain->front().get(), key->get()) == 1)
    return absl::OkStatus();
  // Clear OpenSSL's error queue, or gRPC's TLS on this thread could report the
  // error as its own.
  (void)base::OpenSslError();
  return base::FieldInvalid(
      "key_file", absl::StrCat(base::Echo(key_file_), " is not the key of ",
                               base::Echo(cert_file_)));
}

bool Credentials::NeedsTls(absl::string_view address) const {
  // An explicit scheme takes precedence over everything else.
  if (absl::StartsWith(address, "unix:") ||
      absl::StartsWith(address, "http://"))
    return false;
  // A token needs TLS unless it stays on this host.
  return absl::StartsWith(address, "https://") || !ca_file_.empty() ||
         !cert_file_.empty() || (has_token() && !IsLocal(address));
}

absl::Status Credentials::CheckAddress(absl::string_view address) const {
  if (!has_token() || NeedsTls(address) || IsLocal(address))
    return absl::OkStatus();
  return base::FieldInvalid(
      "address",
      absl::StrCat(base::Echo(address),
                   " would send the token to another host, unencrypted: use "
                   "https://, or leave the token out"));
}

std::shared_ptr<grpc::ChannelCredentials> Credentials::ForChannel(
    absl::string_view address) const {
  if (!NeedsTls(address)) return grpc::InsecureChannelCredentials();
  grpc::experimental::TlsChannelCredentialsOptions options;
  // Watch the files, so that long-lived clients follow their renewal.
  if (!ca_file_.empty() || !cert_file_.empty()) {
    options.set_certificate_provider(
        std::make_shared<grpc::experimental::FileWatcherCertificateProvider>(
            key_file_, cert_file_, ca_file_, kRefreshSeconds));
  }
  if (!ca_file_.empty()) options.watch_root_certs();
  if (!cert_file_.empty()) options.watch_identity_key_cert_pairs();
  return grpc::experimental::TlsCredentials(options);
}

std::string Credentials::Authorization() const {
  if (!has_token()) return "";
  if (token_file_ == nullptr) return absl::StrCat("Bearer ", token_);
  // Keep the previous token if the file is being replaced.
  token_file_->Refresh().IgnoreError();
  return absl::StrCat("Bearer ", token_file_->token());
}

}  // namespace mlops::internal
