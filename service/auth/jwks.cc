#include "service/auth/jwks.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "proto/cpp/base/error.h"
#include "service/auth/base64url.h"

namespace mlops::auth {
namespace {

using nlohmann::json;

// Returns the text of the member `name`, or "" if it is absent or not text.
std::string Text(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>()
                                                     : "";
}

// Returns the algorithm that `key` is for, or nullopt if the key must be
// skipped.
std::optional<JwtAlgorithm> AlgorithmOf(const json& key) {
  JwtAlgorithm algorithm;
  if (Text(key, "kty") == "RSA") {
    algorithm = JwtAlgorithm::kRs256;
  } else if (Text(key, "kty") == "EC" && Text(key, "crv") == "P-256") {
    algorithm = JwtAlgorithm::kEs256;
  } else {
    return std::nullopt;
  }
  if (key.contains("use") && Text(key, "use") != "sig") return std::nullopt;
  if (key.contains("alg") && Text(key, "alg") != AlgorithmName(algorithm))
    return std::nullopt;
  return algorithm;
}

// Returns null if the members are missing or invalid.
std::unique_ptr<PublicKey> ToPublicKey(const json& key,
                                       JwtAlgorithm algorithm) {
  const bool rsa = algorithm == JwtAlgorithm::kRs256;
  const auto first = DecodeBase64Url(Text(key, rsa ? "n" : "x"));
  const auto second = DecodeBase64Url(Text(key, rsa ? "e" : "y"));
  if (!first || !second) return nullptr;
  return rsa ? PublicKey::Rsa(*first, *second)
             : PublicKey::P256(*first, *second);
}

// Returns the problem of a key that must not be skipped.
std::string Problem(const json& key, JwtAlgorithm algorithm) {
  if (key.contains("d")) {
    return "is a private key; give the server public keys only, and replace "
           "this one";
  }
  return algorithm == JwtAlgorithm::kRs256
             ? "is not an RSA key of 2,048 to 8,192 bits in `n` and `e`"
             : "is not a point on P-256 in `x` and `y`";
}

}  // namespace

absl::string_view AlgorithmName(JwtAlgorithm algorithm) {
  return algorithm == JwtAlgorithm::kRs256 ? "RS256" : "ES256";
}

absl::StatusOr<Jwks> Jwks::Parse(absl::string_view text) {
  const json set = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!set.is_object() || !set.contains("keys") || !set["keys"].is_array()) {
    return absl::InvalidArgumentError(
        "is not a JSON object with an array `keys` (RFC 7517)");
  }
  Jwks jwks;
  int number = 0;
  for (const json& key : set["keys"]) {
    ++number;
    if (!key.is_object()) continue;
    // RFC 7517 requires readers to skip keys that they cannot use.
    const auto algorithm = AlgorithmOf(key);
    if (!algorithm) continue;
    Entry entry = {.id = Text(key, "kid")};
    const auto fail = [&](absl::string_view problem) {
      return absl::InvalidArgumentError(absl::StrCat(
          "key ", number, " (kid ", base::Echo(entry.id), ") ", problem));
    };
    // Do not even decode a private key, which the server must refuse.
    if (!key.contains("d")) entry.key = ToPublicKey(key, *algorithm);
    if (!entry.key) return fail(Problem(key, *algorithm));
    // An id must identify one key per algorithm.
    const auto is_same = [&](const Entry& other) {
      return other.id == entry.id && other.key->algorithm() == *algorithm;
    };
    if (std::any_of(jwks.keys_.begin(), jwks.keys_.end(), is_same))
      return fail("has the kid of an earlier key");
    jwks.keys_.push_back(std::move(entry));
  }
  if (jwks.keys_.empty())
    return absl::InvalidArgumentError("has no key for RS256 or ES256");
  return jwks;
}

const PublicKey* Jwks::Find(absl::string_view id,
                            JwtAlgorithm algorithm) const {
  // Without an id, the choice must be unambiguous.
  const PublicKey* found = nullptr;
  for (const Entry& entry : keys_) {
    if (entry.key->algorithm() != algorithm) continue;
    if (!id.empty() && entry.id == id) return entry.key.get();
    if (!id.empty()) continue;
    if (found != nullptr) return nullptr;
    found = entry.key.get();
  }
  return found;
}

}  // namespace mlops::auth
