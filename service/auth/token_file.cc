#include "service/auth/token_file.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/status_macros.h"
#include "service/auth/caller.h"
#include "service/auth/digest.h"
#include "service/auth/errors.h"

namespace mlops::auth {
namespace {

constexpr size_t kSecretBytes = 32;
constexpr absl::string_view kTimeFormat = "%Y-%m-%dT%H:%M:%SZ";

absl::Status LineError(int line, absl::string_view problem) {
  return absl::InvalidArgumentError(absl::StrCat("line ", line, ": ", problem));
}

// Returns the fields of a line, without its comment.
std::vector<absl::string_view> Fields(absl::string_view line) {
  std::vector<absl::string_view> fields =
      absl::StrSplit(line, absl::ByAnyChar(" \t\r"), absl::SkipEmpty());
  const auto comment = std::find_if(
      fields.begin(), fields.end(),
      [](absl::string_view field) { return absl::StartsWith(field, "#"); });
  fields.erase(comment, fields.end());
  return fields;
}

// Returns the digest in bytes, or "" if `hex` is not 64 hexadecimal digits.
std::string ParseDigest(absl::string_view hex) {
  if (hex.size() != 2 * kDigestBytes ||
      !std::all_of(hex.begin(), hex.end(), absl::ascii_isxdigit))
    return "";
  return absl::HexStringToBytes(hex);
}

}  // namespace

absl::StatusOr<std::string> MakeToken() {
  unsigned char secret[kSecretBytes];
  if (RAND_bytes(secret, sizeof(secret)) != 1)
    return absl::InternalError("The system has no random numbers");
  return absl::StrCat(kTokenPrefix, absl::WebSafeBase64Escape(absl::string_view(
                                        reinterpret_cast<const char*>(secret),
                                        sizeof(secret))));
}

std::string TokenLine(absl::string_view name, absl::string_view token,
                      std::optional<absl::Time> expires) {
  std::string line =
      absl::StrCat(name, " ", absl::BytesToHexString(Digest(token)));
  if (expires) {
    absl::StrAppend(
        &line, " ",
        absl::FormatTime(kTimeFormat, *expires, absl::UTCTimeZone()));
  }
  return line + "\n";
}

absl::string_view TokenNameProblem(absl::string_view name) {
  if (absl::string_view problem = NameProblem(name); !problem.empty())
    return problem;
  if (std::any_of(name.begin(), name.end(), absl::ascii_isspace))
    return "has white space";
  if (name[0] == '#') return "begins with #, like a comment";
  if (name.find_first_of("*?") != name.npos)
    return "has * or ?, which policies use for patterns";
  return "";
}

absl::StatusOr<TokenTable> TokenTable::Parse(absl::string_view text) {
  TokenTable table;
  int number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n'))
    RETURN_IF_ERROR(table.AddLine(line, ++number));
  return table;
}

absl::Status TokenTable::AddLine(absl::string_view line, int number) {
  const auto fields = Fields(line);
  if (fields.empty()) return absl::OkStatus();
  if (fields.size() < 2 || fields.size() > 3) {
    return LineError(number, absl::StrCat("has ", fields.size(),
                                          " fields instead of NAME SHA256 or "
                                          "NAME SHA256 EXPIRES"));
  }
  const absl::string_view name = fields[0];
  if (const auto problem = TokenNameProblem(name); !problem.empty()) {
    return LineError(number,
                     absl::StrCat("the name ", base::Echo(name), " ", problem));
  }
  // Recognize a token in place of its hash, so that the operator learns that it
  // has leaked.
  if (absl::StartsWith(fields[1], kTokenPrefix)) {
    return LineError(
        number,
        absl::StrCat("holds the token of ", name,
                     " instead of its SHA-256; remove the "
                     "line and make another token with `workspaced token`"));
  }
  const std::string digest = ParseDigest(fields[1]);
  if (digest.empty()) {
    return LineError(
        number, absl::StrCat("the second field, the SHA-256 of the token of ",
                             name, ", is not 64 hexadecimal digits"));
  }
  Entry entry = {.name = std::string(name), .line = number};
  if (fields.size() == 3 && !absl::ParseTime(absl::RFC3339_full, fields[2],
                                             &entry.expires, nullptr)) {
    return LineError(
        number,
        absl::StrCat("the third field, when the token of ", name,
                     " expires, is not a time such as 2027-01-31T00:00:00Z"));
  }
  // Two lines for one token would make its name and expiry ambiguous.
  const auto [known, is_new] = entries_.emplace(digest, std::move(entry));
  if (!is_new) {
    return LineError(number, absl::StrCat("has the same token as line ",
                                          known->second.line));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> TokenTable::Find(absl::string_view token,
                                             absl::Time now) const {
  // Look up the digest: its timing reveals nothing about the token.
  const std::string digest = Digest(token);
  const auto found = entries_.find(digest);
  if (found == entries_.end() ||
      CRYPTO_memcmp(found->first.data(), digest.data(), kDigestBytes) != 0) {
    return CredentialsInvalid(
        "the server does not know this token; it may have been removed");
  }
  const Entry& entry = found->second;
  if (now >= entry.expires) {
    return CredentialsInvalid(absl::StrCat(
        "this token of ", entry.name, " expired at ",
        absl::FormatTime(kTimeFormat, entry.expires, absl::UTCTimeZone()),
        "; ask the server's operator for another one"));
  }
  return entry.name;
}

}  // namespace mlops::auth
