#ifndef MLOPS_SERVICE_RPC_IDENTIFY_H_
#define MLOPS_SERVICE_RPC_IDENTIFY_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "grpcpp/security/auth_context.h"
#include "grpcpp/server_context.h"
#include "service/auth/access.h"
#include "service/auth/caller.h"
#include "service/auth/gate.h"
#include "service/auth/policy.h"
#include "service/core/authority.h"

namespace mlops::rpc {

// The client at the other end of a Unix socket connection.
struct SocketPeer {
  uint32_t uid = 0;
  // Whether the client is the proxy, which names the caller in a header.
  bool proxy = false;
};

// Facts that the connections of calls reveal about their clients. Thread-safe.
struct PeerFacts {
  // Returns the client at the other end of a Unix socket. `peer` is gRPC's name
  // for it. Returns nullopt if there is no such connection.
  std::function<std::optional<SocketPeer>(const std::string& peer)> socket_peer;
  // Returns the verified names in the client's certificate, the preferred
  // one first.
  std::function<std::vector<std::string>(const grpc::AuthContext&)>
      certificate_names;
  // Lower-case name of the header in which the proxy names the caller.
  std::string proxy_header;
};

// Returns the caller of a call. Returns UNAUTHENTICATED/CREDENTIALS_INVALID if
// the server requires credentials and the call has none, or invalid ones.
absl::StatusOr<auth::Caller> Identify(
    const auth::Gate& gate, const PeerFacts& facts,
    const grpc::CallbackServerContext& context);

// Returns all methods, for auth::Policy.
std::vector<auth::Rpc> RpcsForPolicy();

// Returns the projects on which `policy` grants `caller` the RPC `rpc`.
core::Sight SightOf(const auth::Policy& policy, const auth::Caller& caller,
                    absl::string_view rpc);

// Returns "" if SightOf() shows everything, otherwise a hash of the patterns
// that decide which projects it shows.
std::string ViewOf(const auth::Policy& policy, const auth::Caller& caller,
                   absl::string_view rpc);

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_IDENTIFY_H_
