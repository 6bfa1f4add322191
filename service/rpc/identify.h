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

// The client at the other end of a Unix socket.
struct SocketPeer {
  uint32_t uid = 0;
  // Whether it is the proxy, which says who calls.
  bool proxy = false;
};

// What the connections of calls say about their clients. Thread-safe.
struct PeerFacts {
  // Returns the client at the other end of a Unix socket, by gRPC's name of the
  // peer, or nullopt.
  std::function<std::optional<SocketPeer>(const std::string& peer)> socket_peer;
  // Returns the verified names in the client's certificate, the best first.
  std::function<std::vector<std::string>(const grpc::AuthContext&)>
      certificate_names;
  // The header, in lower case, in which the proxy names the caller.
  std::string proxy_header;
};

// Returns who makes a call. Returns UNAUTHENTICATED/CREDENTIALS_INVALID
// if the server asks for credentials and the call has none, or invalid ones.
absl::StatusOr<auth::Caller> Identify(
    const auth::Gate& gate, const PeerFacts& facts,
    const grpc::CallbackServerContext& context);

// Returns all methods, for auth::Policy.
std::vector<auth::Rpc> RpcsForPolicy();

// Returns the projects on which `policy` grants `caller` the RPC `rpc`.
core::Sight SightOf(const auth::Policy& policy, const auth::Caller& caller,
                    absl::string_view rpc);

// Returns "" if SightOf() shows everything, otherwise a hash of what decides
// about that.
std::string ViewOf(const auth::Policy& policy, const auth::Caller& caller,
                   absl::string_view rpc);

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_IDENTIFY_H_
