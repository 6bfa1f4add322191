#ifndef MLOPS_TESTS_SUPPORT_CERTIFICATES_H_
#define MLOPS_TESTS_SUPPORT_CERTIFICATES_H_

#include <openssl/evp.h>
#include <openssl/x509.h>

#include <memory>
#include <string>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace mlops::support {

// A certificate and its private key, as PEM.
struct Identity {
  std::string cert, key;
};

struct CertificateRequest {
  std::string common_name = "localhost";
  // As OpenSSL spells them, for example "DNS:a.example,URI:spiffe://x/y".
  std::string names = "DNS:localhost,IP:127.0.0.1";
  absl::Time not_before = absl::Now() - absl::Hours(1);
  absl::Time not_after = absl::Now() + absl::Hours(1);
};

// Issues certificates for tests, with P-256 keys. The methods abort if OpenSSL
// fails.
class CertificateAuthority {
 public:
  CertificateAuthority();

  // The authority's own certificate.
  const std::string& cert() const { return self_.cert; }
  Identity Issue(const CertificateRequest& request = {}) const;

 private:
  // Signs by this authority, or by the new key itself if it has none yet.
  Identity Sign(EVP_PKEY* key, const CertificateRequest& request,
                bool is_authority) const;

  std::shared_ptr<EVP_PKEY> key_;
  Identity self_;
};

// Returns `key`, a PEM private key, encrypted with the password "secret".
std::string Encrypted(const std::string& key);

}  // namespace mlops::support

#endif  // MLOPS_TESTS_SUPPORT_CERTIFICATES_H_
