#include "tests/unit/server/http_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace mlops::server {

base::UniqueFd Connect(absl::string_view address) {
  int port = 0;
  if (!absl::SimpleAtoi(address.substr(address.rfind(':') + 1), &port))
    return {};
  sockaddr_in name = {.sin_family = AF_INET,
                      .sin_port = htons(static_cast<uint16_t>(port))};
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  base::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  // So that no test hangs.
  const timeval timeout = {.tv_sec = 20, .tv_usec = 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&name),
                sizeof(name)) != 0)
    return {};
  return fd;
}

void Send(int fd, absl::string_view text) {
  (void)::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
}

std::string ReceiveAll(int fd) {
  std::string text;
  std::array<char, 65536> buffer;
  ssize_t received;
  while ((received = ::recv(fd, buffer.data(), buffer.size(), 0)) > 0)
    text.append(buffer.data(), static_cast<size_t>(received));
  return text;
}

std::string Ask(absl::string_view address, absl::string_view request) {
  const base::UniqueFd fd = Connect(address);
  Send(fd.get(), request);
  return ReceiveAll(fd.get());
}

std::string Get(absl::string_view address, absl::string_view path) {
  return Ask(address, absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: ", address,
                                   "\r\nConnection: close\r\n\r\n"));
}

}  // namespace mlops::server
