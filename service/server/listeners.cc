#include "service/server/listeners.h"

#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "proto/cpp/base/id.h"
#include "service/core/layout.h"

namespace mlops::server {
namespace {

constexpr size_t kMaxSocketPathBytes = sizeof(sockaddr_un::sun_path) - 1;

bool IsLoopback(absl::string_view host) {
  return host == "localhost" || host == "::1" || host == "[::1]" || absl::StartsWith(host, "127.");
}

// Makes `path` a directory that only this user can enter, or finds that it is one.
absl::Status MakePrivateDir(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot make the directory ", path, " for the Unix socket: ", std::strerror(errno)));
  }
  struct stat info;
  if (::lstat(path.c_str(), &info) != 0 || !S_ISDIR(info.st_mode) || info.st_uid != ::geteuid() ||
      (info.st_mode & 0077) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("the directory ", path, " for the Unix socket must be this user's alone (mode 0700)"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckAddress(absl::string_view address, bool insecure) {
  if (absl::ConsumePrefix(&address, "unix:")) {
    if (!address.empty() && address.size() <= kMaxSocketPathBytes) return absl::OkStatus();
    return absl::FailedPreconditionError(
        absl::StrCat("the path of a Unix socket must have 1 to ", kMaxSocketPathBytes, " bytes: ", address));
  }
  const size_t colon = address.rfind(':');
  int port = 0;
  if (colon == absl::string_view::npos || colon == 0 || !absl::SimpleAtoi(address.substr(colon + 1), &port) ||
      port < 0 || port > 65535) {
    return absl::FailedPreconditionError(
        absl::StrCat("\"", address, "\" is no address: want HOST:PORT, with a port of 0 to 65535, or unix:PATH"));
  }
  if (!insecure && !IsLoopback(address.substr(0, colon))) {
    return absl::FailedPreconditionError(
        absl::StrCat("other machines could reach ", address, ", unencrypted: listen on 127.0.0.1, or say --insecure"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> UnixSocketAddress(const std::string& base_path) {
  const std::string path = absl::StrCat(base_path, "/", core::layout::kServerDir, "/", core::layout::kSocketFile);
  if (path.size() <= kMaxSocketPathBytes) return absl::StrCat("unix:", path);
  const char* runtime_dir = std::getenv("XDG_RUNTIME_DIR");
  const std::string dir = runtime_dir != nullptr && *runtime_dir == '/' && std::strlen(runtime_dir) < 60
                              ? absl::StrCat(runtime_dir, "/workspaced")
                              : absl::StrCat("/tmp/workspaced-", ::geteuid());
  if (absl::Status made = MakePrivateDir(dir); !made.ok()) return made;
  return absl::StrCat("unix:", dir, "/", base::HashHex(base_path, 16), ".sock");
}

}  // namespace mlops::server
