#ifndef MLOPS_SERVICE_AUTH_TOKEN_FILE_H_
#define MLOPS_SERVICE_AUTH_TOKEN_FILE_H_

#include <optional>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace mlops::auth {

// A token is "mlw_" followed by 256 random bits in base64url. The prefix lets
// scanners for leaked secrets find tokens. The server knows only the SHA-256 of
// each token, from a text file with one token per line:
//
//   # NAME  SHA-256 in hexadecimal  [EXPIRES, RFC 3339]
//   robot   9f86d0818...            2027-03-01T00:00:00Z
//
// Empty lines are ignored, and so is text from a "#" at the start of a line or
// after a space. A name may have several tokens, so that an old one can be
// replaced without a gap.
inline constexpr absl::string_view kTokenPrefix = "mlw_";

// Returns a new token. Returns INTERNAL (no reason) if the system cannot
// provide random numbers.
absl::StatusOr<std::string> MakeToken();

// Returns a line of the file for `token`, with its newline. Truncates `expires`
// to seconds.
std::string TokenLine(absl::string_view name, absl::string_view token,
                      std::optional<absl::Time> expires);

// Returns why the file cannot contain `name`, or "" if it can. Besides
// NameProblem(), names must not contain white space, "*" or "?", or begin with
// "#".
absl::string_view TokenNameProblem(absl::string_view name);

// The tokens of a file. Immutable, and therefore thread-safe.
class TokenTable {
 public:
  // Returns INVALID_ARGUMENT (no reason), with the line number, if a line has
  // another form, a name that TokenNameProblem() refuses, or the hash of an
  // earlier line. Never repeats a hash, because it may be a token that somebody
  // pasted in its place.
  static absl::StatusOr<TokenTable> Parse(absl::string_view text);

  // Returns the name of the caller with `token`. Returns
  // UNAUTHENTICATED/CREDENTIALS_INVALID if the file lacks the token, or if it
  // has expired by `now`. The time taken does not depend on how much of a wrong
  // token is right.
  absl::StatusOr<std::string> Find(absl::string_view token,
                                   absl::Time now) const;

  // Returns the number of tokens, including expired ones.
  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    std::string name;
    absl::Time expires = absl::InfiniteFuture();
    int line = 0;
  };

  absl::Status AddLine(absl::string_view line, int number);

  // Keyed by the bytes of the digest.
  absl::flat_hash_map<std::string, Entry> entries_;
};

}  // namespace mlops::auth

#endif  // MLOPS_SERVICE_AUTH_TOKEN_FILE_H_
