// A policy can contain anything. It must either be refused, with a text that
// can be logged, or give the same decision however it is asked.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "proto/cpp/base/utf8.h"
#include "service/auth/policy.h"

namespace {

using mlops::auth::Access;
using mlops::auth::Caller;
using mlops::auth::Kind;
using mlops::auth::Rpc;

constexpr Rpc kRpcs[] = {{"GetServerInfo", Access::kAnyone},
                         {"GetWorkspace", Access::kView},
                         {"WriteArtifact", Access::kEdit},
                         {"DeleteWorkspace", Access::kAdmin},
                         {"ListWorkspaces", Access::kView}};
constexpr absl::string_view kProjects[] = {"", "p", "team-a", "team-a-fraud"};

void CheckDecisions(const mlops::auth::Policy& policy, const Caller& caller) {
  for (const Rpc& rpc : kRpcs) {
    const auto sight = policy.SightOf(caller, rpc.name);
    for (const absl::string_view project : kProjects) {
      const bool allowed = policy.Allows(caller, rpc.name, project);
      if (rpc.access == Access::kAnyone && !allowed) std::abort();
      if (project.empty() || rpc.access == Access::kAnyone) continue;
      if ((sight.everything() || sight.Sees(project)) != allowed) std::abort();
      const std::string why = policy.Explain(caller.name, rpc.name, project);
      if (absl::StartsWith(why, "allowed") != allowed) std::abort();
      if (!mlops::base::IsValidUtf8(why)) std::abort();
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const auto policy = mlops::auth::Policy::Parse(text, kRpcs);
  if (!policy.ok()) {
    if (!mlops::base::IsValidUtf8(policy.status().message())) std::abort();
    return 0;
  }
  for (const char* name : {"robot", "alice", "uid:0", "anonymous"})
    CheckDecisions(**policy, {.name = name, .kind = Kind::kToken});
  return 0;
}
