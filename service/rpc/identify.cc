#include "service/rpc/identify.h"

#include <iterator>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "grpcpp/support/string_ref.h"
#include "proto/cpp/base/id.h"
#include "proto/cpp/base/status_macros.h"
#include "service/auth/errors.h"
#include "service/rpc/method_table.h"

namespace mlops::rpc {

namespace {

constexpr size_t kViewDigits = 16;

// Returns the value of a header, or nullopt if the call has none. Rejects a
// repeated header: a client may have added one of the values.
absl::StatusOr<std::optional<absl::string_view>> OnlyValue(
    const grpc::CallbackServerContext& context, const std::string& header) {
  const auto [first, last] = context.client_metadata().equal_range(header);
  if (first == last) return std::nullopt;
  if (std::next(first) != last) {
    return auth::CredentialsInvalid(
        absl::StrCat("there are several `", header, "` headers"));
  }
  return absl::string_view(first->second.data(), first->second.size());
}

}  // namespace

absl::StatusOr<auth::Caller> Identify(
    const auth::Gate& gate, const PeerFacts& facts,
    const grpc::CallbackServerContext& context) {
  auth::Presented presented;
  ASSIGN_OR_RETURN(presented.authorization,
                   OnlyValue(context, "authorization"));
  // A Unix socket identifies its client by the kernel's record of the
  // connection.
  const std::string peer = context.peer();
  presented.socket = absl::StartsWith(peer, "unix");
  if (presented.socket) {
    const std::optional<SocketPeer> client = facts.socket_peer(peer);
    // The acceptor forgets a client when its connection ends. Refuse the call:
    // nobody would get the answer, and it must not run under another name.
    if (!client.has_value())
      return auth::CredentialsInvalid("the connection has ended");
    presented.socket_uid = client->uid;
    presented.proxy = client->proxy;
  }
  // Trust the header only if it comes from the proxy.
  if (presented.proxy) {
    ASSIGN_OR_RETURN(presented.proxied_name,
                     OnlyValue(context, facts.proxy_header));
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
  // Shared, because the returned function may be copied.
  auto sight = std::make_shared<const auth::Sight>(policy.SightOf(caller, rpc));
  if (sight->everything()) return {};
  return {.caller = caller.name,
          .sees = [sight = std::move(sight)](absl::string_view project) {
            return sight->Sees(project);
          }};
}

std::string ViewOf(const auth::Policy& policy, const auth::Caller& caller,
                   absl::string_view rpc) {
  // Hash the patterns rather than the caller's name, so that callers with equal
  // rights share encoded changes.
  if (policy.SightOf(caller, rpc).everything()) return "";
  return base::HashHex(absl::StrJoin(policy.PatternsOf(caller, rpc), "\n"),
                       kViewDigits);
}

}  // namespace mlops::rpc
