#include "tests/support/certificates.h"

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <cstdint>
#include <cstdlib>

namespace mlops::support {
namespace {

constexpr char kAuthorityName[] = "Authority of a test";

void Check(bool done) {
  if (!done) std::abort();
}

template <typename Write>
std::string ToPem(const Write& write) {
  const std::unique_ptr<BIO, decltype(&BIO_free)> bio(BIO_new(BIO_s_mem()),
                                                      &BIO_free);
  Check(write(bio.get()) == 1);
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &text);
  return std::string(text, static_cast<size_t>(size));
}

std::string KeyToPem(EVP_PKEY* key) {
  return ToPem([key](BIO* bio) {
    return PEM_write_bio_PrivateKey(bio, key, nullptr, nullptr, 0, nullptr,
                                    nullptr);
  });
}

std::shared_ptr<EVP_PKEY> NewKey() {
  std::shared_ptr<EVP_PKEY> key(EVP_EC_gen("P-256"), &EVP_PKEY_free);
  Check(key != nullptr);
  return key;
}

void SetName(X509_NAME* name, const std::string& common_name) {
  Check(X509_NAME_add_entry_by_txt(
            name, "CN", MBSTRING_UTF8,
            reinterpret_cast<const unsigned char*>(common_name.c_str()), -1, -1,
            0) == 1);
}

void Extend(X509* cert, int nid, const std::string& value) {
  const std::unique_ptr<X509_EXTENSION, decltype(&X509_EXTENSION_free)>
      extension(X509V3_EXT_conf_nid(nullptr, nullptr, nid, value.c_str()),
                &X509_EXTENSION_free);
  Check(extension != nullptr && X509_add_ext(cert, extension.get(), -1) == 1);
}

}  // namespace

CertificateAuthority::CertificateAuthority() {
  const std::shared_ptr<EVP_PKEY> key = NewKey();
  self_ = Sign(key.get(), {.common_name = kAuthorityName}, true);
  key_ = key;
}

Identity CertificateAuthority::Issue(const CertificateRequest& request) const {
  return Sign(NewKey().get(), request, false);
}

Identity CertificateAuthority::Sign(EVP_PKEY* key,
                                    const CertificateRequest& request,
                                    bool is_authority) const {
  const std::unique_ptr<X509, decltype(&X509_free)> cert(X509_new(),
                                                         &X509_free);
  X509* const raw = cert.get();
  X509_set_version(raw, X509_VERSION_3);
  int64_t serial = 0;
  RAND_bytes(reinterpret_cast<unsigned char*>(&serial), sizeof(serial));
  ASN1_INTEGER_set_int64(X509_get_serialNumber(raw), serial >> 1);
  ASN1_TIME_set(X509_getm_notBefore(raw), absl::ToTimeT(request.not_before));
  ASN1_TIME_set(X509_getm_notAfter(raw), absl::ToTimeT(request.not_after));
  X509_set_pubkey(raw, key);
  SetName(X509_get_subject_name(raw), request.common_name);
  SetName(X509_get_issuer_name(raw), kAuthorityName);
  if (is_authority) {
    Extend(raw, NID_basic_constraints, "critical,CA:TRUE");
  } else if (!request.names.empty()) {
    Extend(raw, NID_subject_alt_name, request.names);
  }
  Check(X509_sign(raw, key_ != nullptr ? key_.get() : key, EVP_sha256()) != 0);
  return {
      .cert = ToPem([raw](BIO* bio) { return PEM_write_bio_X509(bio, raw); }),
      .key = KeyToPem(key)};
}

std::string Encrypted(const std::string& key) {
  const std::unique_ptr<BIO, decltype(&BIO_free)> bio(
      BIO_new_mem_buf(key.data(), static_cast<int>(key.size())), &BIO_free);
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> parsed(
      PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, nullptr),
      &EVP_PKEY_free);
  return ToPem([&parsed](BIO* out) {
    char password[] = "secret";
    return PEM_write_bio_PKCS8PrivateKey(out, parsed.get(), EVP_aes_128_cbc(),
                                         password, 6, nullptr, nullptr);
  });
}

}  // namespace mlops::support
