#include "service/auth/authenticator.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/status_macros.h"
#include "service/auth/errors.h"

namespace mlops::auth {
namespace {

constexpr absl::string_view kScheme = "Bearer ";

// Returns the token of an `authorization` header (RFC 6750), or "" if the
// header has another form.
absl::string_view BearerToken(absl::string_view header) {
  if (!absl::StartsWithIgnoreCase(header, kScheme)) return "";
  return absl::StripAsciiWhitespace(header.substr(kScheme.size()));
}

// A JWT has three parts separated by dots; our own tokens contain no dots.
bool IsJwt(absl::string_view token) {
  return std::count(token.begin(), token.end(), '.') == 2;
}

absl::StatusOr<Caller> ByCertificate(const std::string& name) {
  if (const auto problem = NameProblem(name); !problem.empty()) {
    return CredentialsInvalid(absl::StrCat("the client certificate's name ",
                                           base::Echo(name), " ", problem));
  }
  return Caller{.name = name, .kind = Kind::kCertificate};
}

// Never returns the proxy's own user: everybody who may pass the proxy would
// have that user's rights.
absl::StatusOr<Caller> ByProxy(std::optional<absl::string_view> name) {
  if (!name.has_value())
    return CredentialsInvalid("the proxy does not say who calls");
  if (const auto problem = NameProblem(*name); !problem.empty()) {
    return CredentialsInvalid(absl::StrCat("the name ", base::Echo(*name),
                                           " from the proxy ", problem));
  }
  return Caller{.name = std::string(*name), .kind = Kind::kProxy};
}

Caller BySocket(std::optional<uint32_t> uid) {
  return {.name = uid ? SocketUserName(*uid) : std::string(kSocketName),
          .kind = Kind::kSocket};
}

}  // namespace

void Authenticator::SetTokens(TokenTable tokens) {
  tokens_.Set(std::make_shared<const TokenTable>(std::move(tokens)));
}

void Authenticator::SetJwtVerifier(std::unique_ptr<JwtVerifier> verifier) {
  verifier_.Set(std::move(verifier));
}

absl::StatusOr<Caller> Authenticator::Authenticate(
    const Presented& presented) const {
  // A token takes precedence, and a wrong one is an error: the caller must not
  // get the rights of another identity by accident.
  if (presented.authorization) {
    const auto tokens = tokens_.Get();
    const auto verifier = verifier_.Get();
    if (tokens || verifier)
      return ByToken(*presented.authorization, tokens.get(), verifier.get());
  }
  if (presented.proxy) return ByProxy(presented.proxied_name);
  if (!presented.certificate_names.empty())
    return ByCertificate(presented.certificate_names.front());
  if (presented.socket) return BySocket(presented.socket_uid);
  if (options_.allow_anonymous)
    return Caller{.name = std::string(kAnonymousName)};
  return CredentialsMissing();
}

absl::StatusOr<Caller> Authenticator::ByToken(
    absl::string_view header, const TokenTable* tokens,
    const JwtVerifier* verifier) const {
  const absl::string_view token = BearerToken(header);
  if (token.empty()) {
    return CredentialsInvalid(
        "the header is not of the form `authorization: Bearer TOKEN`");
  }
  // Bound the size before hashing or parsing the token.
  if (token.size() > JwtVerifier::kMaxTokenBytes)
    return CredentialsInvalid("the token is larger than 8 KiB");
  const absl::Time now = options_.clock();
  // Without tokens, let the verifier explain what is wrong with a malformed
  // JWT.
  if (verifier != nullptr && (tokens == nullptr || IsJwt(token))) {
    ASSIGN_OR_RETURN(std::string name, verifier->Verify(token, now));
    return Caller{.name = std::move(name), .kind = Kind::kJwt};
  }
  ASSIGN_OR_RETURN(std::string name, tokens->Find(token, now));
  return Caller{.name = std::move(name), .kind = Kind::kToken};
}

}  // namespace mlops::auth
