#include "service/base/grpc_target.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"

namespace mlops::base {

std::string GrpcTarget(absl::string_view address) {
  absl::string_view path = address;
  if (!absl::ConsumePrefix(&path, "unix:")) return std::string(address);
  std::string target = "unix:";
  for (const unsigned char c : path) {
    if (absl::ascii_isalnum(c) || absl::StrContains("/._-~", static_cast<char>(c))) {
      target += static_cast<char>(c);
    } else {
      absl::StrAppendFormat(&target, "%%%02X", c);
    }
  }
  return target;
}

}  // namespace mlops::base
