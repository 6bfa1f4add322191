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

// Listens on all addresses of "<host>:<port>"; brackets enclose an IPv6
// address. Replaces port 0 in `address` with the actual port. The sockets are
// close-on-exec and non-blocking. Returns FAILED_PRECONDITION, as a sentence
// for the operator, if the address cannot be bound.
absl::StatusOr<std::vector<base::UniqueFd>> ListenTcp(std::string& address);

// Returns a stream socket that is close-on-exec and non-blocking. Non-blocking,
// because a client may leave the queue before it is accepted, and accept(2)
// must not block the clients behind it.
base::UniqueFd NewSocket(int family);

// Makes a socket close-on-exec and non-blocking.
void SetSocketFlags(int fd);

// Number of connections that the kernel queues for a listening socket.
inline constexpr int kBacklog = 1024;

// Returns the port of an IPv4 or IPv6 address, in network byte order.
in_port_t& PortIn(sockaddr& name);

// Returns FAILED_PRECONDITION with a sentence for the operator.
absl::Status CannotListen(absl::string_view address, absl::string_view why);

}  // namespace mlops::server

#endif  // MLOPS_SERVICE_SERVER_TCP_LISTENER_H_
