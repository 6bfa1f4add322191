#include "client-cpp/src/address.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "nlohmann/json.hpp"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/field_invalid.h"
#include "proto/cpp/base/loopback.h"
#include "proto/cpp/base/unique_fd.h"

namespace mlops::internal {
namespace {

namespace fs = std::filesystem;

constexpr char kEnvironmentVariable[] = "MLOPS_WORKSPACE_ADDRESS";
constexpr size_t kMaxSocketPathBytes = sizeof(sockaddr_un::sun_path) - 1;
// Bounds the memory for a lock file, which may be any file that somebody put
// there.
constexpr size_t kMaxLockBytes = 65536;

// The contact data that a server publishes in `<base>/.workspaced/lock`.
struct Lock {
  std::string host;
  std::vector<std::string> addresses;
};

std::string SocketPath(const std::string& address) {
  return std::string(absl::StripPrefix(address, "unix:"));
}

bool IsUnix(const std::string& address) {
  return absl::StartsWith(address, "unix:");
}

// Returns `address` without its scheme, which says whether to encrypt.
absl::string_view WithoutScheme(absl::string_view address) {
  if (!absl::ConsumePrefix(&address, "https://"))
    absl::ConsumePrefix(&address, "http://");
  return address;
}

// Returns the problem of `given`, or "" if it is valid.
std::string AddressProblem(const std::string& given) {
  const std::string address(WithoutScheme(given));
  if (IsUnix(address)) {
    if (SocketPath(address).empty()) return "has no path after unix:";
    if (SocketPath(address).size() <= kMaxSocketPathBytes) return "";
    return absl::StrCat("is longer than a Unix socket's path may be, ",
                        kMaxSocketPathBytes, " bytes");
  }
  // The last colon separates the port, because an IPv6 host contains colons. A
  // slash would begin the path of a URL.
  const size_t colon = address.rfind(':');
  int port = 0;
  const bool has_port = colon != std::string::npos &&
                        absl::SimpleAtoi(address.substr(colon + 1), &port);
  if (!has_port || port < 1 || port > 65535 || colon == 0 ||
      absl::StrContains(address, "/")) {
    return absl::StrCat("must be unix:PATH or HOST:PORT, not ",
                        base::Echo(given));
  }
  return "";
}

absl::StatusOr<std::string> Checked(const std::string& field,
                                    std::string address) {
  const std::vector<std::string> all = SplitAddresses(address);
  for (const std::string& one : all) {
    std::string problem = AddressProblem(one);
    if (all.size() > 1 && IsUnix(one))
      problem = "can list only HOST:PORT, not unix:PATH";
    if (!problem.empty()) return base::FieldInvalid(field, problem);
  }
  return address;
}

// Reads the lock file. Returns nullopt if it is missing or malformed.
std::optional<Lock> ReadLock(const fs::path& path) {
  std::string text(kMaxLockBytes, '\0');
  std::ifstream file(path, std::ios::binary);
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  const auto json =
      nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("addresses") ||
      !json["addresses"].is_array())
    return std::nullopt;
  Lock lock;
  if (json.contains("host") && json["host"].is_string())
    lock.host = json["host"];
  for (const auto& address : json["addresses"]) {
    if (address.is_string()) lock.addresses.push_back(address);
  }
  return lock;
}

std::string HostName() {
  char name[256] = {};
  return gethostname(name, sizeof(name) - 1) == 0 ? name : "";
}

bool IsSocket(const fs::path& path) {
  std::error_code ignored;
  return fs::is_socket(path, ignored);
}

// Returns whether a process listens on the Unix socket `path`. EAGAIN means
// that it listens, but its backlog is full.
bool IsAnswered(const fs::path& path) {
  const std::string& name = path.native();
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (name.size() > kMaxSocketPathBytes) return false;
  name.copy(address.sun_path, kMaxSocketPathBytes);
  const base::UniqueFd probe(
      socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  return probe.ok() &&
         (connect(probe.get(), reinterpret_cast<const sockaddr*>(&address),
                  sizeof(address)) == 0 ||
          errno == EAGAIN);
}

// Replaces a wildcard address such as 0.0.0.0, on which a server listens, with
// `host`, to which a client can connect.
std::string Reachable(const std::string& address, const std::string& host) {
  for (const char* any : {"0.0.0.0:", "[::]:"}) {
    if (absl::StartsWith(address, any))
      return absl::StrCat(host, ":", absl::StripPrefix(address, any));
  }
  return address;
}

// Chooses the address of a server on this host. Prefers Unix sockets, and most
// of all the base's own, because the lock file may be a copy that names the
// socket of another base.
std::optional<std::string> ChooseHere(const Lock& lock,
                                      const fs::path& default_socket) {
  if (IsSocket(default_socket))
    return absl::StrCat("unix:", default_socket.string());
  for (const std::string& address : lock.addresses) {
    if (IsUnix(address) && IsSocket(SocketPath(address))) return address;
  }
  for (const std::string& address : lock.addresses) {
    if (!IsUnix(address)) return Reachable(address, "localhost");
  }
  return std::nullopt;
}

// Chooses the address of a server on another host that shares the file system.
std::optional<std::string> ChooseElsewhere(const Lock& lock) {
  // Another host's Unix sockets and loopback addresses are unreachable.
  for (const std::string& address : lock.addresses) {
    if (!IsLocal(address)) return Reachable(address, lock.host);
  }
  return std::nullopt;
}

// Finds the server of `base_path` through its lock file and its socket.
absl::StatusOr<std::string> FindServer(const std::string& base_path) {
  std::error_code error;
  const fs::path base = fs::absolute(base_path, error);
  // Without a readable lock file, the base's own socket may still answer.
  const Lock lock = ReadLock(base / ".workspaced" / "lock").value_or(Lock());
  const fs::path socket = base / ".workspaced" / "socket";
  // A host's name can change, for example in containers, so a server that
  // answers on the local socket also counts as local.
  const bool here =
      lock.host.empty() || lock.host == HostName() || IsAnswered(socket);
  const auto found = here ? ChooseHere(lock, socket) : ChooseElsewhere(lock);
  if (found) return Checked("base_path", *found);
  if (here) {
    return absl::UnavailableError(
        absl::StrCat("No server is running for ", base.string(),
                     ": start one with workspaced --base ", base.string()));
  }
  return absl::UnavailableError(
      absl::StrCat(base.string(), " is served on the host ", lock.host,
                   ", but only at ", absl::StrJoin(lock.addresses, ", "),
                   ": add a --listen address that this host can reach or, if "
                   "that server has crashed, start workspaced --base ",
                   base.string()));
}

// Returns the URI of the Unix socket `path`, which must not contain a comma.
std::string UnixUri(absl::string_view path) {
  std::string uri = "unix:";
  for (const unsigned char c : path) {
    if (absl::ascii_isalnum(c) ||
        absl::StrContains("/._-~", static_cast<char>(c))) {
      uri += static_cast<char>(c);
    } else {
      absl::StrAppendFormat(&uri, "%%%02X", c);
    }
  }
  return uri;
}

// Returns the target of the Unix socket `path`, and names its directory by a
// descriptor.
absl::StatusOr<GrpcTarget> TargetByDirectory(const fs::path& path) {
  const std::string name = path.filename();
  if (absl::StrContains(name, ',')) {
    return absl::UnavailableError(absl::StrCat("The name of the Unix socket ",
                                               base::Echo(path.native()),
                                               " must not have a comma"));
  }
  const fs::path parent = path.has_parent_path() ? path.parent_path() : ".";
  base::UniqueFd directory(
      open(parent.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!directory.ok()) {
    return absl::UnavailableError(
        absl::StrCat("The server at unix:", base::Echo(path.native()),
                     " cannot be reached: ", std::strerror(errno)));
  }
  // The path through the descriptor contains no comma.
  const std::string seen = absl::StrCat("/proc/self/fd/", directory.get());
  return GrpcTarget{.uri = UnixUri(absl::StrCat(seen, "/", name)),
                    .directory = std::move(directory)};
}

}  // namespace

absl::StatusOr<std::string> ResolveAddress(const ClientOptions& options) {
  if (!options.address.empty() && !options.base_path.empty()) {
    return base::FieldInvalid(
        "address", "give either the address or the base_path, not both");
  }
  if (!options.address.empty()) return Checked("address", options.address);
  if (!options.base_path.empty()) return FindServer(options.base_path);
  if (const char* address = std::getenv(kEnvironmentVariable))
    return Checked(kEnvironmentVariable, address);
  return base::FieldInvalid(
      "address", absl::StrCat("missing: give an address, a base_path, or set ",
                              kEnvironmentVariable));
}

std::vector<std::string> SplitAddresses(const std::string& address) {
  // A Unix socket's path may contain commas.
  if (IsUnix(address)) return {address};
  std::vector<std::string> addresses = absl::StrSplit(address, ',');
  for (std::string& one : addresses) absl::StripAsciiWhitespace(&one);
  return addresses;
}

absl::StatusOr<GrpcTarget> MakeGrpcTarget(absl::string_view address) {
  absl::string_view path = address;
  if (!absl::ConsumePrefix(&path, "unix:"))
    return GrpcTarget{.uri = std::string(WithoutScheme(address))};
  if (absl::StrContains(path, ',')) return TargetByDirectory(std::string(path));
  return GrpcTarget{.uri = UnixUri(path)};
}

bool IsLocal(absl::string_view address) {
  if (absl::StartsWith(address, "unix:")) return true;
  const absl::string_view host = WithoutScheme(address);
  return base::IsLoopbackHost(host.substr(0, host.rfind(':')));
}

}  // namespace mlops::internal
