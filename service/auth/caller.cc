#include "service/auth/caller.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "proto/cpp/base/utf8.h"

namespace mlops::auth {
namespace {

constexpr size_t kMaxNameBytes = 256;
constexpr absl::string_view kUserPrefix = "uid:";

}  // namespace

absl::string_view KindName(Kind kind) {
  switch (kind) {
    case Kind::kAnonymous:
      return "anonymous";
    case Kind::kSocket:
      return "socket";
    case Kind::kToken:
      return "token";
    case Kind::kCertificate:
      return "certificate";
    case Kind::kJwt:
      return "jwt";
    case Kind::kProxy:
      return "proxy";
  }
  return "";
}

std::string SocketUserName(uint32_t uid) {
  return absl::StrCat(kUserPrefix, uid);
}

absl::string_view NameProblem(absl::string_view name) {
  if (name.empty()) return "is empty";
  if (name.size() > kMaxNameBytes) return "is longer than 256 bytes";
  if (!base::IsValidUtf8(name)) return "is not UTF-8";
  if (std::any_of(name.begin(), name.end(), absl::ascii_iscntrl))
    return "has control characters";
  if (name == kAnonymousName || name == kSocketName ||
      absl::StartsWith(name, kUserPrefix))
    return "is reserved for callers without credentials";
  return "";
}

}  // namespace mlops::auth
