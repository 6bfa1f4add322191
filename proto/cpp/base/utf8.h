#ifndef MLOPS_PROTO_CPP_BASE_UTF8_H_
#define MLOPS_PROTO_CPP_BASE_UTF8_H_

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace mlops::base {

// Decodes the well-formed UTF-8 sequence (RFC 3629) at the beginning of `text`.
// Returns its length in bytes and stores its code point in `*code_point`.
// Returns 0, and leaves `*code_point` unchanged, if there is no such sequence.
// `text` must not be empty.
size_t DecodeUtf8(absl::string_view text, char32_t* code_point);

// Returns whether `text` is well-formed UTF-8. Empty text is.
bool IsValidUtf8(absl::string_view text);

// Returns `path`, which may contain any bytes, as text that can be sent and
// displayed. Replaces each byte that is not part of valid UTF-8 by `\xhh`, with
// lower-case hexadecimal digits. Returns a path of valid UTF-8 unchanged.
std::string PathText(absl::string_view path);

}  // namespace mlops::base

#endif  // MLOPS_PROTO_CPP_BASE_UTF8_H_
