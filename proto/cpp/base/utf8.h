#ifndef MLOPS_PROTO_CPP_BASE_UTF8_H_
#define MLOPS_PROTO_CPP_BASE_UTF8_H_

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace mlops::base {

// The length in bytes of the well-formed UTF-8 sequence (RFC 3629) that `text`,
// which must not be empty, begins with, and its code point in `*code_point`; 0,
// and the code point untouched, if there is none.
size_t DecodeUtf8(absl::string_view text, char32_t* code_point);

bool IsValidUtf8(absl::string_view text);

// `path`, which may have any bytes, as text that can be sent and shown: `\xHH`
// (lower-case hexadecimal digits) for each byte that is no UTF-8. A path of
// valid UTF-8 stays as it is.
std::string PathText(absl::string_view path);

}  // namespace mlops::base

#endif  // MLOPS_PROTO_CPP_BASE_UTF8_H_
