#ifndef MLOPS_SERVICE_AUTH_BASE64URL_H_
#define MLOPS_SERVICE_AUTH_BASE64URL_H_

#include <optional>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/string_view.h"

namespace mlops::auth {

// Decodes base64url as JSON Web Tokens use it (RFC 7515, section 2), without
// padding or white space. Returns nullopt unless encoding the result would
// produce `text` again.
inline std::optional<std::string> DecodeBase64Url(absl::string_view text) {
  std::string data;
  if (!absl::WebSafeBase64Unescape(text, &data) ||
      absl::WebSafeBase64Escape(data) != text)
    return std::nullopt;
  return data;
}

}  // namespace mlops::auth

#endif  // MLOPS_SERVICE_AUTH_BASE64URL_H_
