// A token can contain anything, also one that the issuer signed. It must either
// be refused, with a text that can be logged and does not repeat it, or give
// a name that a caller may have. No token without the issuer's signature
// is accepted.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "proto/cpp/base/utf8.h"
#include "service/auth/caller.h"
#include "service/auth/jwt.h"
#include "tests/unit/auth/signer.h"

namespace {

using mlops::auth::Signer;

const Signer& TheSigner() {
  static const Signer& signer = *new Signer(Signer::P256("k"));
  return signer;
}

const mlops::auth::JwtVerifier& TheVerifier() {
  static const auto& verifier =
      *mlops::auth::JwtVerifier::Make(mlops::auth::KeySet({TheSigner().Jwk()}),
                                      "issuer", "audience")
           .value()
           .release();
  return verifier;
}

// Returns whether the token is accepted.
bool Check(absl::string_view token) {
  const auto name =
      TheVerifier().Verify(token, absl::FromUnixSeconds(1'700'000'000));
  if (name.ok()) {
    if (!mlops::auth::NameProblem(*name).empty()) std::abort();
    return true;
  }
  const absl::string_view message = name.status().message();
  if (!mlops::base::IsValidUtf8(message)) std::abort();
  if (token.size() > 16 && absl::StrContains(message, token)) std::abort();
  return false;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  if (Check(text)) std::abort();

  // The first line is the header, the rest the payload.
  const size_t line = text.find('\n');
  const absl::string_view payload =
      line == absl::string_view::npos ? text : text.substr(line + 1);
  const std::string header = line == absl::string_view::npos
                                 ? TheSigner().Header().dump()
                                 : std::string(text.substr(0, line));
  std::string token = TheSigner().SignText(header, payload);
  const bool accepted = Check(token);
  // Not even a token that was accepted before, with another signature.
  char& last = token[token.size() - 10];
  last = last == 'A' ? 'B' : 'A';
  if (Check(token) && accepted) std::abort();
  return 0;
}
