#include "service/server/listeners.h"

#include <sys/socket.h>
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
#include "proto/cpp/base/loopback.h"
#include "proto/cpp/base/unique_fd.h"
#include "service/core/layout.h"

namespace mlops::server {
namespace {

constexpr size_t kMaxSocketPathBytes = sizeof(sockaddr_un::sun_path) - 1;

// Creates the directory `path` with access only for this user, or checks that
// it already is such a directory.
absl::Status MakePrivateDir(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot make the directory ", path,
                     " for the Unix socket: ", std::strerror(errno)));
  }
  // Check what exists: in /tmp, another user may have created the directory, or
  // a link, first.
  struct stat info;
  if (::lstat(path.c_str(), &info) != 0 || !S_ISDIR(info.st_mode) ||
      info.st_uid != ::geteuid() || (info.st_mode & 0077) != 0) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the directory ", path,
        " for the Unix socket must belong to this user and have mode 0700"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckAddress(absl::string_view address, bool insecure) {
  if (absl::ConsumePrefix(&address, "unix:")) {
    if (!address.empty() && address.size() <= kMaxSocketPathBytes)
      return absl::OkStatus();
    return absl::FailedPreconditionError(
        absl::StrCat("the path of a Unix socket must have 1 to ",
                     kMaxSocketPathBytes, " bytes: ", address));
  }
  // The last colon separates the port, because an IPv6 host contains colons.
  const size_t colon = address.rfind(':');
  int port = 0;
  if (colon == absl::string_view::npos || colon == 0 ||
      !absl::SimpleAtoi(address.substr(colon + 1), &port) || port < 0 ||
      port > 65535) {
    return absl::FailedPreconditionError(absl::StrCat(
        "\"", address,
        "\" is not an address: expected HOST:PORT, with a port of 0 "
        "to 65535, or unix:PATH"));
  }
  if (!insecure && !base::IsLoopbackHost(address.substr(0, colon))) {
    return absl::FailedPreconditionError(
        absl::StrCat("other machines could reach ", address,
                     ", unencrypted: set --tls-cert and --tls-key, listen on "
                     "127.0.0.1, or use --insecure"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> UnixSocketAddress(const std::string& base_path) {
  const std::string path = absl::StrCat(
      base_path, "/", core::layout::kServerDir, "/", core::layout::kSocketFile);
  if (path.size() <= kMaxSocketPathBytes) return absl::StrCat("unix:", path);
  return SocketAddressOutside(base_path);
}

absl::StatusOr<std::string> SocketAddressOutside(absl::string_view key) {
  const char* runtime_dir = std::getenv("XDG_RUNTIME_DIR");
  // A long runtime directory would make the socket's path too long.
  const std::string dir = runtime_dir != nullptr && *runtime_dir == '/' &&
                                  std::strlen(runtime_dir) < 60
                              ? absl::StrCat(runtime_dir, "/workspaced")
                              : absl::StrCat("/tmp/workspaced-", ::geteuid());
  if (absl::Status made = MakePrivateDir(dir); !made.ok()) return made;
  return absl::StrCat("unix:", dir, "/", base::HashHex(key, 16), ".sock");
}

absl::StatusOr<std::string> ReadOnlySocketAddress(
    const std::string& base_path) {
  struct stat info;
  if (::stat(base_path.c_str(), &info) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot find ", base_path, ": ", std::strerror(errno)));
  }
  // Device and inode distinguish directories that share a path.
  return SocketAddressOutside(absl::StrCat("read-only ", info.st_dev, " ",
                                           info.st_ino, " ", base_path));
}

bool IsAnswered(const std::string& address) {
  const absl::string_view path = absl::StripPrefix(address, "unix:");
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  if (path.size() > kMaxSocketPathBytes) return false;
  path.copy(name.sun_path, kMaxSocketPathBytes);
  const base::UniqueFd probe(
      ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  // EAGAIN means that a process listens, but its queue is full.
  return probe.ok() &&
         (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&name),
                    sizeof(name)) == 0 ||
          errno == EAGAIN);
}

}  // namespace mlops::server
