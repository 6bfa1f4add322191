#ifndef MLOPS_PROTO_CPP_BASE_PEM_H_
#define MLOPS_PROTO_CPP_BASE_PEM_H_

#include <openssl/evp.h>
#include <openssl/x509.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

// Reads PEM files (RFC 7468) with certificates and private keys for TLS. Errors
// are FAILED_PRECONDITION; their messages say what is wrong, without the file's
// name. Thread-safe.
namespace mlops::base {

template <auto Free>
struct OpenSslDeleter {
  template <typename T>
  void operator()(T* object) const {
    Free(object);
  }
};
using Certificate = std::unique_ptr<X509, OpenSslDeleter<X509_free>>;
using PrivateKey = std::unique_ptr<EVP_PKEY, OpenSslDeleter<EVP_PKEY_free>>;

// Returns the content of a regular file of at most 1 MiB without NUL bytes.
absl::StatusOr<std::string> ReadPemFile(const std::string& path);

// Returns all certificates in `text`, at least one.
absl::StatusOr<std::vector<Certificate>> ParseCertificates(
    const std::string& text);

// Returns the private key in `text`, which must not be encrypted.
absl::StatusOr<PrivateKey> ParsePrivateKey(const std::string& text);

// Returns the reason of OpenSSL's last failure on this thread, and clears it.
std::string OpenSslError();

}  // namespace mlops::base

#endif  // MLOPS_PROTO_CPP_BASE_PEM_H_
