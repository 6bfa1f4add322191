#include "service/rpc/identify.h"

#include <iterator>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "grpcpp/support/string_ref.h"
#include "service/auth/errors.h"
#include "service/rpc/method_table.h"

namespace mlops::rpc {

absl::StatusOr<auth::Caller> Identify(
    const auth::Gate& gate, const PeerFacts& facts,
    const grpc::CallbackServerContext& context) {
  auth::Presented presented;
  const auto [first, last] =
      context.client_metadata().equal_range("authorization");
  if (first != last) {
    if (std::next(first) != last)
      return auth::CredentialsInvalid("there are several of them");
    presented.authorization.emplace(first->second.data(), first->second.size());
  }
  const std::string peer = context.peer();
  presented.socket = absl::StartsWith(peer, "unix");
  if (presented.socket) {
    presented.socket_uid = facts.socket_user(peer);
    // Users are forgotten with their connections. Nobody would get the answer,
    // and the call must not be made under another name.
    if (!presented.socket_uid.has_value())
      return auth::CredentialsInvalid("the connection has ended");
  }
  const std::vector<std::string> names =
      facts.certificate_names(*context.auth_context());
  presented.certificate_names = names;
  return gate.Authenticate(presented);
}

std::vector<auth::Rpc> RpcsForPolicy() {
  std::vector<auth::Rpc> rpcs;
  for (const Method* method : kMethods)
    rpcs.push_back({.name = method->name, .access = method->access});
  return rpcs;
}

core::Sight SightOf(const auth::Policy& policy, const auth::Caller& caller,
                    absl::string_view rpc) {
  auto sight = std::make_shared<const auth::Sight>(policy.SightOf(caller, rpc));
  if (sight->everything()) return {};
  return {.caller = caller.name,
          .sees = [sight = std::move(sight)](absl::string_view project) {
            return sight->Sees(project);
          }};
}

}  // namespace mlops::rpc
