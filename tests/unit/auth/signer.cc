#include "tests/unit/auth/signer.h"

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace mlops::auth {
namespace {

using nlohmann::json;

std::string Number(EVP_PKEY* key, const char* name, int bytes = 0) {
  BIGNUM* number = nullptr;
  EVP_PKEY_get_bn_param(key, name, &number);
  std::string data(bytes > 0 ? bytes : BN_num_bytes(number), '\0');
  BN_bn2binpad(number, reinterpret_cast<unsigned char*>(data.data()),
               static_cast<int>(data.size()));
  BN_free(number);
  return Base64Url(data);
}

// Returns the 64 bytes that JWTs have in the place of a DER signature.
std::string FromDer(const std::string& der) {
  const auto* begin = reinterpret_cast<const unsigned char*>(der.data());
  ECDSA_SIG* signature =
      d2i_ECDSA_SIG(nullptr, &begin, static_cast<long>(der.size()));
  std::string raw(64, '\0');
  auto* out = reinterpret_cast<unsigned char*>(raw.data());
  BN_bn2binpad(ECDSA_SIG_get0_r(signature), out, 32);
  BN_bn2binpad(ECDSA_SIG_get0_s(signature), out + 32, 32);
  ECDSA_SIG_free(signature);
  return raw;
}

}  // namespace

void Signer::Free::operator()(evp_pkey_st* key) const { EVP_PKEY_free(key); }

Signer Signer::Rsa(std::string kid, unsigned bits) {
  return Signer(EVP_RSA_gen(bits), std::move(kid), true);
}

Signer Signer::P256(std::string kid) {
  return Signer(EVP_EC_gen("P-256"), std::move(kid), false);
}

json Signer::Jwk() const {
  EVP_PKEY* const key = key_.get();
  if (rsa_) {
    return {{"kty", "RSA"},
            {"kid", kid_},
            {"n", Number(key, OSSL_PKEY_PARAM_RSA_N)},
            {"e", Number(key, OSSL_PKEY_PARAM_RSA_E)}};
  }
  return {{"kty", "EC"},
          {"kid", kid_},
          {"crv", "P-256"},
          {"x", Number(key, OSSL_PKEY_PARAM_EC_PUB_X, 32)},
          {"y", Number(key, OSSL_PKEY_PARAM_EC_PUB_Y, 32)}};
}

std::string Signer::Pem() const {
  BIO* const bio = BIO_new(BIO_s_mem());
  PEM_write_bio_PUBKEY(bio, key_.get());
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  std::string pem(data, size);
  BIO_free(bio);
  return pem;
}

json Signer::Header() const {
  return {{"alg", rsa_ ? "RS256" : "ES256"}, {"typ", "JWT"}, {"kid", kid_}};
}

std::string Signer::Sign(const json& claims) const {
  return SignText(Header().dump(), claims.dump());
}

std::string Signer::SignText(absl::string_view header,
                             absl::string_view payload) const {
  const std::string data =
      absl::StrCat(Base64Url(header), ".", Base64Url(payload));
  EVP_MD_CTX* const context = EVP_MD_CTX_new();
  EVP_DigestSignInit(context, nullptr, EVP_sha256(), nullptr, key_.get());
  const auto* bytes = reinterpret_cast<const unsigned char*>(data.data());
  size_t size = 1024;
  std::string signature(size, '\0');
  EVP_DigestSign(context, reinterpret_cast<unsigned char*>(signature.data()),
                 &size, bytes, data.size());
  EVP_MD_CTX_free(context);
  signature.resize(size);
  return absl::StrCat(data, ".",
                      Base64Url(rsa_ ? signature : FromDer(signature)));
}

std::string SignHs256(absl::string_view header, absl::string_view payload,
                      absl::string_view key) {
  const std::string data =
      absl::StrCat(Base64Url(header), ".", Base64Url(payload));
  unsigned char mac[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
       reinterpret_cast<const unsigned char*>(data.data()), data.size(), mac,
       &size);
  return absl::StrCat(
      data, ".",
      Base64Url(absl::string_view(reinterpret_cast<char*>(mac), size)));
}

std::string KeySet(std::initializer_list<json> keys) {
  return json{{"keys", std::vector<json>(keys)}}.dump();
}

std::string Base64Url(absl::string_view data) {
  return absl::WebSafeBase64Escape(data);
}

}  // namespace mlops::auth
