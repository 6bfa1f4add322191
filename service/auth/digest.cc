#include "service/auth/digest.h"

#include <openssl/evp.h>

namespace mlops::auth {

std::string Digest(absl::string_view data) {
  // Fetch once, because EVP_sha256() looks the algorithm up in every call.
  static EVP_MD* const sha256 = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  std::string digest(kDigestBytes, '\0');
  EVP_Digest(data.data(), data.size(),
             reinterpret_cast<unsigned char*>(digest.data()), nullptr, sha256,
             nullptr);
  return digest;
}

}  // namespace mlops::auth
