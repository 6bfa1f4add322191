#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "proto/cpp/base/pem.h"
#include "service/auth/jwks.h"

namespace mlops::auth {
namespace {

constexpr int kMinRsaBits = 2048;
constexpr int kMaxRsaBits = 8192;
constexpr size_t kP256Bytes = 32;

using Bignum = std::unique_ptr<BIGNUM, base::OpenSslDeleter<BN_free>>;
using ParamBuilder =
    std::unique_ptr<OSSL_PARAM_BLD, base::OpenSslDeleter<OSSL_PARAM_BLD_free>>;
using Params =
    std::unique_ptr<OSSL_PARAM, base::OpenSslDeleter<OSSL_PARAM_free>>;
using KeyContext =
    std::unique_ptr<EVP_PKEY_CTX, base::OpenSslDeleter<EVP_PKEY_CTX_free>>;
using Signature =
    std::unique_ptr<ECDSA_SIG, base::OpenSslDeleter<ECDSA_SIG_free>>;
using DigestContext =
    std::unique_ptr<EVP_MD_CTX, base::OpenSslDeleter<EVP_MD_CTX_free>>;

// Drops the errors that OpenSSL queues during its lifetime, because gRPC's TLS
// on the same thread would take them for its own.
class DropErrors {
 public:
  DropErrors() { ERR_set_mark(); }
  ~DropErrors() { ERR_pop_to_mark(); }
};

const unsigned char* Bytes(absl::string_view data) {
  return reinterpret_cast<const unsigned char*>(data.data());
}

Bignum ToBignum(absl::string_view big_endian) {
  return Bignum(BN_bin2bn(Bytes(big_endian),
                          static_cast<int>(big_endian.size()), nullptr));
}

// Returns the public key of `type` with these parameters, or null if they are
// invalid.
EVP_PKEY* MakeKey(const char* type, OSSL_PARAM_BLD* builder) {
  const Params params(OSSL_PARAM_BLD_to_param(builder));
  const KeyContext maker(EVP_PKEY_CTX_new_from_name(nullptr, type, nullptr));
  EVP_PKEY* key = nullptr;
  if (!params || !maker || EVP_PKEY_fromdata_init(maker.get()) != 1 ||
      EVP_PKEY_fromdata(maker.get(), &key, EVP_PKEY_PUBLIC_KEY, params.get()) !=
          1)
    return nullptr;
  // A well-formed key may still not be one, such as a point off the curve.
  const KeyContext checker(EVP_PKEY_CTX_new_from_pkey(nullptr, key, nullptr));
  if (checker && EVP_PKEY_public_check(checker.get()) == 1) return key;
  EVP_PKEY_free(key);
  return nullptr;
}

// Converts an ECDSA signature from two numbers in 64 bytes to DER, which
// OpenSSL expects. Returns "" if it has another size.
std::string ToDer(absl::string_view raw) {
  if (raw.size() != 2 * kP256Bytes) return "";
  const Signature signature(ECDSA_SIG_new());
  // ECDSA_SIG_set0() takes ownership of the numbers.
  ECDSA_SIG_set0(signature.get(), ToBignum(raw.substr(0, kP256Bytes)).release(),
                 ToBignum(raw.substr(kP256Bytes)).release());
  const int size = i2d_ECDSA_SIG(signature.get(), nullptr);
  if (size <= 0) return "";
  std::string der(size, '\0');
  auto* out = reinterpret_cast<unsigned char*>(der.data());
  i2d_ECDSA_SIG(signature.get(), &out);
  return der;
}

}  // namespace

void PublicKey::Free::operator()(evp_pkey_st* key) const { EVP_PKEY_free(key); }

std::unique_ptr<PublicKey> PublicKey::Rsa(absl::string_view modulus,
                                          absl::string_view exponent) {
  const DropErrors drop_errors;
  const Bignum n = ToBignum(modulus), e = ToBignum(exponent);
  // Short keys are weak, and verifying with very long ones is slow.
  const int bits = BN_num_bits(n.get());
  if (bits < kMinRsaBits || bits > kMaxRsaBits) return nullptr;
  const ParamBuilder builder(OSSL_PARAM_BLD_new());
  OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, n.get());
  OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, e.get());
  EVP_PKEY* const key = MakeKey("RSA", builder.get());
  if (key == nullptr) return nullptr;
  return std::unique_ptr<PublicKey>(new PublicKey(key, JwtAlgorithm::kRs256));
}

std::unique_ptr<PublicKey> PublicKey::P256(absl::string_view x,
                                           absl::string_view y) {
  const DropErrors drop_errors;
  if (x.size() != kP256Bytes || y.size() != kP256Bytes) return nullptr;
  // An uncompressed point, as in SEC 1, section 2.3.3.
  const std::string point = absl::StrCat("\x04", x, y);
  const ParamBuilder builder(OSSL_PARAM_BLD_new());
  OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME,
                                  "prime256v1", 0);
  OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY,
                                   point.data(), point.size());
  EVP_PKEY* const key = MakeKey("EC", builder.get());
  if (key == nullptr) return nullptr;
  return std::unique_ptr<PublicKey>(new PublicKey(key, JwtAlgorithm::kEs256));
}

bool PublicKey::Verify(absl::string_view data,
                       absl::string_view signature) const {
  const DropErrors drop_errors;
  // JWTs carry ECDSA signatures as two numbers, but OpenSSL expects DER.
  std::string der;
  if (algorithm_ == JwtAlgorithm::kEs256) signature = der = ToDer(signature);
  const DigestContext context(EVP_MD_CTX_new());
  return context &&
         EVP_DigestVerifyInit(context.get(), nullptr, EVP_sha256(), nullptr,
                              key_.get()) == 1 &&
         EVP_DigestVerify(context.get(), Bytes(signature), signature.size(),
                          Bytes(data), data.size()) == 1;
}

}  // namespace mlops::auth
