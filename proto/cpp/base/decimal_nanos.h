#ifndef MLOPS_PROTO_CPP_BASE_DECIMAL_NANOS_H_
#define MLOPS_PROTO_CPP_BASE_DECIMAL_NANOS_H_

#include <cstdint>
#include <sstream>
#include <string>

#include "absl/numeric/int128.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace mlops::base {

// Returns `time` as decimal nanoseconds since 1970, without rounding. The
// result may exceed 64 bits, because file systems can store such times.
inline std::string DecimalNanos(absl::Time time) {
  constexpr int64_t kNanosPerSecond = 1'000'000'000;
  const int64_t seconds = absl::ToUnixSeconds(time);
  const int64_t nanos =
      absl::ToInt64Nanoseconds(time - absl::FromUnixSeconds(seconds));
  // These bounds keep the product within 64 bits.
  if (seconds > -kNanosPerSecond && seconds < kNanosPerSecond * 9)
    return absl::StrCat(seconds * kNanosPerSecond + nanos);
  std::ostringstream text;
  text << absl::int128(seconds) * kNanosPerSecond + nanos;
  return text.str();
}

}  // namespace mlops::base

#endif  // MLOPS_PROTO_CPP_BASE_DECIMAL_NANOS_H_
