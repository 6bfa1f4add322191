#ifndef MLOPS_SERVICE_SERVER_TCP_LISTENER_H_
#define MLOPS_SERVICE_SERVER_TCP_LISTENER_H_

#include <netinet/in.h>
#include <sys/socket.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/cpp/base/unique_fd.h"

namespace mlops::server {

// Listens on all addresses of "<host>:<port>"; an IPv6 address is in brackets.
// If the port is 0, replaces it in `address` with the actual one. The sockets
// are close-on-exec and non-blocking. Returns FAILED_PRECONDITION, as a
// sentence for the operator, if the address cannot be bound.
absl::StatusOr<std::vector<base::UniqueFd>> ListenTcp(std::string& address);

// Returns a stream socket that is close-on-exec and non-blocking. If a client
// leaves the queue before it is accepted, accept(2) must not block the clients
// behind it.
base::UniqueFd NewSocket(int family);

// Sets close-on-exec and non-blocking.
void SetSocketFlags(int fd);

// Number of connections that the kernel queues for a listening socket.
inline constexpr int kBacklog = 1024;

// Returns the port, in network byte order, in an address of either family.
in_port_t& PortIn(sockaddr& name);

// Returns FAILED_PRECONDITION as a sentence.
absl::Status CannotListen(absl::string_view address, absl::string_view why);

}  // namespace mlops::server

#endif  // MLOPS_SERVICE_SERVER_TCP_LISTENER_H_
