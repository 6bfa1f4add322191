#ifndef MLOPS_PROTO_CPP_BASE_ID_H_
#define MLOPS_PROTO_CPP_BASE_ID_H_

#include <string>

#include "absl/strings/string_view.h"

namespace mlops::base {

// Returns 128 random bits as 32 lower-case hexadecimal digits. Thread-safe.
std::string RandomId();

// Returns the first `digits` (at most 64) lower-case hexadecimal digits of the
// SHA-256 of `data`. Thread-safe.
std::string HashHex(absl::string_view data, size_t digits);

}  // namespace mlops::base

#endif  // MLOPS_PROTO_CPP_BASE_ID_H_
