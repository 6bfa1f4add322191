#include "service/auth/jwt.h"

#include <algorithm>
#include <optional>
#include <set>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "nlohmann/json.hpp"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/status_macros.h"
#include "service/auth/base64url.h"
#include "service/auth/caller.h"
#include "service/auth/digest.h"
#include "service/auth/errors.h"

namespace mlops::auth {
namespace {

using nlohmann::json;

// Parses a JSON object in base64url. Returns nullopt if it is malformed or
// repeats a member, because readers disagree on which one counts.
std::optional<json> DecodeObject(absl::string_view encoded) {
  const auto text = DecodeBase64Url(encoded);
  if (!text) return std::nullopt;
  bool unique = true;
  std::set<std::string> names;
  const auto visit = [&](int depth, json::parse_event_t event, json& value) {
    if (event == json::parse_event_t::key && depth == 1)
      unique &= names.insert(value.get<std::string>()).second;
    return true;
  };
  json object = json::parse(*text, visit, /*allow_exceptions=*/false);
  if (!object.is_object() || !unique) return std::nullopt;
  return object;
}

// Returns the text of the member `name`, or nullopt if it is absent or not
// text.
std::optional<std::string> Text(const json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_string()) return std::nullopt;
  return found->get<std::string>();
}

// Returns a NumericDate (RFC 7519, section 2), or nullopt if it is absent or
// not a number.
std::optional<absl::Time> Date(const json& claims, const char* name) {
  const auto found = claims.find(name);
  if (found == claims.end() || !found->is_number()) return std::nullopt;
  return absl::UnixEpoch() + absl::Seconds(found->get<double>());
}

std::string TimeText(absl::Time time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", time, absl::UTCTimeZone());
}

std::string Quoted(absl::string_view text) {
  return absl::StrCat("\"", base::Echo(text, 80), "\"");
}

absl::StatusOr<JwtAlgorithm> AlgorithmOf(const json& header) {
  const std::string name = Text(header, "alg").value_or("");
  for (const auto algorithm : {JwtAlgorithm::kRs256, JwtAlgorithm::kEs256}) {
    if (name == AlgorithmName(algorithm)) return algorithm;
  }
  return CredentialsInvalid(
      absl::StrCat("the JWT's algorithm is ", Quoted(name),
                   "; the server accepts RS256 and ES256"));
}

// Checks the header except for the algorithm and the key. Issuers also sign
// objects that prove no identity, such as logout notices, and give them another
// type.
absl::Status CheckHeader(const json& header) {
  if (header.contains("crit")) {
    return CredentialsInvalid(
        "the JWT requires extensions (crit), which the server does not have");
  }
  if (!header.contains("typ")) return absl::OkStatus();
  const std::string typ =
      absl::AsciiStrToLower(Text(header, "typ").value_or(""));
  const absl::string_view type = absl::StripPrefix(typ, "application/");
  if (type == "jwt" || type == "at+jwt") return absl::OkStatus();
  return CredentialsInvalid(
      absl::StrCat("the JWT has the type ", Quoted(typ),
                   "; the server accepts JWT and at+jwt"));
}

absl::StatusOr<const PublicKey*> FindKey(const Jwks& keys, const json& header) {
  ASSIGN_OR_RETURN(const JwtAlgorithm algorithm, AlgorithmOf(header));
  const std::string id = Text(header, "kid").value_or("");
  const PublicKey* key = keys.Find(id, algorithm);
  if (key != nullptr) return key;
  if (id.empty()) {
    return CredentialsInvalid(
        absl::StrCat("the JWT names no key (kid), and the server does not have "
                     "exactly one for ",
                     AlgorithmName(algorithm)));
  }
  return CredentialsInvalid(absl::StrCat(
      "the server's key set has no ", AlgorithmName(algorithm), " key ",
      Quoted(id), "; the issuer may have changed its keys"));
}

bool IsForAudience(const json& claims, absl::string_view audience) {
  const auto aud = claims.find("aud");
  if (aud == claims.end()) return false;
  const auto matches = [audience](const json& value) {
    return value.is_string() && value.get_ref<const std::string&>() == audience;
  };
  if (!aud->is_array()) return matches(*aud);
  return std::any_of(aud->begin(), aud->end(), matches);
}

// Checks that `name`, a time before which the token is not valid, is absent or
// has passed.
absl::Status CheckStart(const json& claims, const char* name, absl::Time now) {
  if (!claims.contains(name)) return absl::OkStatus();
  const auto start = Date(claims, name);
  if (!start)
    return CredentialsInvalid(
        absl::StrCat("the JWT's ", name, " is not a time"));
  if (*start <= now + JwtVerifier::kSkew) return absl::OkStatus();
  return CredentialsInvalid(absl::StrCat(
      "the JWT is valid only from ", TimeText(*start), " on (", name,
      "); the clocks of issuer and server may differ by 60 s"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<JwtVerifier>> JwtVerifier::Make(
    absl::string_view jwks, std::string issuer, std::string audience) {
  ASSIGN_OR_RETURN(Jwks keys, Jwks::Parse(jwks));
  return std::unique_ptr<JwtVerifier>(
      new JwtVerifier(std::move(keys), std::move(issuer), std::move(audience)));
}

absl::StatusOr<std::string> JwtVerifier::Verify(absl::string_view token,
                                                absl::Time now) const {
  if (token.size() > kMaxTokenBytes)
    return CredentialsInvalid("the JWT is larger than 8 KiB");
  std::string digest = Digest(token);
  {
    absl::MutexLock lock(&mutex_);
    const Verified* known = verified_.Find(digest);
    if (known != nullptr && now < known->expires) return known->name;
  }
  // Verify without the lock, because a signature takes long.
  ASSIGN_OR_RETURN(Verified verified, VerifyAnew(token, now));
  std::string name = verified.name;
  const size_t bytes = name.capacity();
  absl::MutexLock lock(&mutex_);
  verified_.Put(std::move(digest), std::move(verified), bytes);
  return name;
}

absl::StatusOr<JwtVerifier::Verified> JwtVerifier::VerifyAnew(
    absl::string_view token, absl::Time now) const {
  const std::vector<absl::string_view> parts = absl::StrSplit(token, '.');
  const auto malformed = [](absl::string_view what) {
    return CredentialsInvalid(
        absl::StrCat("the JWT's ", what, " is malformed; it may be cut off"));
  };
  if (parts.size() != 3) return malformed("form");
  // Decode only the header before the signature is verified.
  const auto header = DecodeObject(parts[0]);
  if (!header) return malformed("header");
  // Take only a key for the header's algorithm, so that a token cannot use a
  // key with another one.
  ASSIGN_OR_RETURN(const PublicKey* key, FindKey(keys_, *header));
  RETURN_IF_ERROR(CheckHeader(*header));
  const auto signature = DecodeBase64Url(parts[2]);
  if (!signature) return malformed("signature");
  // The signature covers the encoded header and claims.
  const absl::string_view signed_part =
      token.substr(0, parts[0].size() + 1 + parts[1].size());
  if (!key->Verify(signed_part, *signature))
    return CredentialsInvalid("the JWT's signature is wrong");
  return CheckClaims(parts[1], now);
}

absl::StatusOr<JwtVerifier::Verified> JwtVerifier::CheckClaims(
    absl::string_view payload, absl::Time now) const {
  const auto claims = DecodeObject(payload);
  if (!claims)
    return CredentialsInvalid("the JWT's claims are not a JSON object");
  // The same key may sign tokens for other servers, so check issuer and
  // audience.
  const std::string issuer = Text(*claims, "iss").value_or("");
  if (issuer != issuer_) {
    return CredentialsInvalid(absl::StrCat("the JWT is from the issuer ",
                                           Quoted(issuer), ", not ", issuer_));
  }
  if (!IsForAudience(*claims, audience_)) {
    return CredentialsInvalid(
        absl::StrCat("the JWT is not for the audience ", audience_, " (aud)"));
  }
  // Allow for the issuer's clock, but not for a token without an end.
  const auto expires = Date(*claims, "exp");
  if (!expires)
    return CredentialsInvalid("the JWT does not say when it expires (exp)");
  if (now >= *expires + kSkew) {
    return CredentialsInvalid(
        absl::StrCat("the JWT expired at ", TimeText(*expires)));
  }
  RETURN_IF_ERROR(CheckStart(*claims, "nbf", now));
  RETURN_IF_ERROR(CheckStart(*claims, "iat", now));
  // The subject becomes a principal, so it must not be a reserved name.
  std::string name = Text(*claims, "sub").value_or("");
  if (const auto problem = NameProblem(name); !problem.empty())
    return CredentialsInvalid(
        absl::StrCat("the JWT's subject (sub) ", problem));
  return Verified{.name = std::move(name), .expires = *expires + kSkew};
}

}  // namespace mlops::auth
