#include "service/server/tcp_listener.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace mlops::server {
namespace {

using base::UniqueFd;

in_port_t PortOf(int fd) {
  sockaddr_storage name = {};
  socklen_t size = sizeof(name);
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&name), &size);
  return PortIn(reinterpret_cast<sockaddr&>(name));
}

// Listens on all addresses of `host`. Replaces "0" in `port` with the actual
// port.
absl::StatusOr<std::vector<UniqueFd>> Bind(const std::string& host,
                                           std::string& port) {
  const addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV,
                          .ai_socktype = SOCK_STREAM};
  addrinfo* found = nullptr;
  if (const int error =
          ::getaddrinfo(host.c_str(), port.c_str(), &hints, &found);
      error != 0) {
    return absl::FailedPreconditionError(::gai_strerror(error));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owned(found,
                                                             ::freeaddrinfo);
  absl::Status problem =
      absl::FailedPreconditionError("the host name has no address");
  std::vector<UniqueFd> listeners;
  // The port of the first socket, which the others must share.
  in_port_t port_number = 0;
  // A name can have several addresses, some of which this machine may lack
  // ("localhost" without IPv6).
  for (addrinfo* info = found; info != nullptr; info = info->ai_next) {
    UniqueFd fd = NewSocket(info->ai_family);
    // SO_REUSEADDR allows binding while connections of an earlier server
    // linger.
    const int yes = 1;
    // Without a socket, errno already holds the reason.
    if (fd.ok())
      ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    if (!listeners.empty()) PortIn(*info->ai_addr) = port_number;
    if (!fd.ok() || ::bind(fd.get(), info->ai_addr, info->ai_addrlen) != 0 ||
        ::listen(fd.get(), kBacklog) != 0) {
      problem = absl::FailedPreconditionError(std::strerror(errno));
      // Skip addresses that this machine lacks, but report a port that is in
      // use.
      if (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL) continue;
      return problem;
    }
    if (listeners.empty()) port_number = PortOf(fd.get());
    listeners.push_back(std::move(fd));
  }
  if (listeners.empty()) return problem;
  port = absl::StrCat(ntohs(port_number));
  return listeners;
}

}  // namespace

absl::StatusOr<std::vector<UniqueFd>> ListenTcp(std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos)
    return CannotListen(address, "it is not <host>:<port>");
  absl::string_view host = absl::string_view(address).substr(0, colon);
  if (absl::ConsumePrefix(&host, "[")) absl::ConsumeSuffix(&host, "]");
  std::string port = address.substr(colon + 1);
  auto listeners = Bind(std::string(host), port);
  if (!listeners.ok())
    return CannotListen(address, listeners.status().message());
  address = absl::StrCat(address.substr(0, colon), ":", port);
  return listeners;
}

UniqueFd NewSocket(int family) {
  UniqueFd fd(::socket(family, SOCK_STREAM, 0));
  if (fd.ok()) SetSocketFlags(fd.get());
  return fd;
}

void SetSocketFlags(int fd) {
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  ::fcntl(fd, F_SETFL, O_NONBLOCK);
}

in_port_t& PortIn(sockaddr& name) {
  return name.sa_family == AF_INET6
             ? reinterpret_cast<sockaddr_in6&>(name).sin6_port
             : reinterpret_cast<sockaddr_in&>(name).sin_port;
}

absl::Status CannotListen(absl::string_view address, absl::string_view why) {
  return absl::FailedPreconditionError(
      absl::StrCat("cannot listen on ", address, ": ", why));
}

}  // namespace mlops::server
