#include "service/auth/policy.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "proto/cpp/base/error.h"
#include "service/auth/errors.h"
#include "service/base/nearest.h"

namespace mlops::auth {
namespace {

// Maximum number of bindings that an explanation lists.
constexpr size_t kMaxExplained = 10;

}  // namespace

Policy::Policy(absl::Span<const Rpc> rpcs) {
  for (const Rpc& rpc : rpcs) {
    if (rpcs_.size() == kMaxRpcs) break;
    if (rpc_index_.emplace(rpc.name, static_cast<int>(rpcs_.size())).second)
      rpcs_.push_back(rpc);
  }
  // A built-in role includes all RPCs up to its access level.
  const auto add_role = [this](absl::string_view name, Access most) {
    Role& role = roles_.emplace_back(Role{.name = std::string(name)});
    for (size_t i = 0; i < rpcs_.size(); ++i)
      role.rpcs[i] = rpcs_[i].access <= most;
  };
  add_role("viewer", Access::kView);
  add_role("editor", Access::kEdit);
  add_role("admin", Access::kAdmin);
  add_role(kOperatorRole, Access::kOperate);
}

std::shared_ptr<const Policy> Policy::AllowAll(absl::Span<const Rpc> rpcs) {
  std::shared_ptr<Policy> policy(new Policy(rpcs));
  // The last built-in role, operator, includes every RPC.
  policy->Add({.principal = "*",
               .role = static_cast<int>(policy->roles_.size()) - 1,
               .projects = {"*"}});
  return policy;
}

void Policy::Add(Binding binding) {
  const auto [known, is_new] = grants_index_.emplace(
      binding.principal, static_cast<int>(grants_.size()));
  if (is_new) {
    principals_.Add(binding.principal, known->second);
    grants_.emplace_back();
  }
  Grants& grants = grants_[known->second];
  // Merge the bindings of a principal by role, so that Allows() checks each
  // role once.
  auto grant = std::find_if(
      grants.begin(), grants.end(),
      [&binding](const RoleGrant& g) { return g.role == binding.role; });
  if (grant == grants.end())
    grant = grants.insert(grant, RoleGrant{.role = binding.role});
  for (const std::string& project : binding.projects) {
    grant->projects.Add(project, 0);
    grant->everywhere |= project == "*";
  }
  bindings_.push_back(std::move(binding));
}

int Policy::FindRpc(absl::string_view name) const {
  const auto found = rpc_index_.find(name);
  return found == rpc_index_.end() ? -1 : found->second;
}

bool Policy::Allows(const Caller& caller, absl::string_view rpc,
                    absl::string_view project) const {
  const int index = FindRpc(rpc);
  if (index < 0) return false;
  if (rpcs_[index].access == Access::kAnyone) return true;
  return principals_.Any(caller.name, [&](int principal) {
    const Grants& grants = grants_[principal];
    return std::any_of(grants.begin(), grants.end(),
                       [&](const RoleGrant& grant) {
                         return Includes(grant, index) &&
                                (project.empty() || grant.Covers(project));
                       });
  });
}

absl::Status Policy::Check(const Caller& caller, absl::string_view rpc,
                           absl::string_view project) const {
  if (Allows(caller, rpc, project)) return absl::OkStatus();
  const int index = FindRpc(rpc);
  return PermissionMissing(caller.name, rpc, project,
                           index < 0 ? "" : RolesWith(index));
}

Sight Policy::SightOf(const Caller& caller, absl::string_view rpc) const {
  Sight sight;
  // Keep the policy alive, because the grants point into it.
  sight.policy_ = shared_from_this();
  const int index = FindRpc(rpc);
  if (index < 0) return sight;
  sight.everything_ = rpcs_[index].access == Access::kAnyone;
  principals_.Any(caller.name, [&](int principal) {
    for (const RoleGrant& grant : grants_[principal]) {
      if (!Includes(grant, index)) continue;
      sight.grants_.push_back(&grant);
      sight.everything_ |= grant.everywhere;
    }
    // False continues the search, because all matching principals count.
    return false;
  });
  return sight;
}

bool Sight::Sees(absl::string_view project) const {
  return everything_ ||
         std::any_of(grants_.begin(), grants_.end(),
                     [project](const auto* g) { return g->Covers(project); });
}

std::vector<std::string> Policy::PatternsOf(const Caller& caller,
                                            absl::string_view rpc) const {
  std::vector<std::string> patterns;
  const int index = FindRpc(rpc);
  if (index < 0) return patterns;
  for (const Binding& binding : bindings_) {
    if (!roles_[binding.role].rpcs[index]) continue;
    if (!Matches(binding.principal, caller.name)) continue;
    patterns.insert(patterns.end(), binding.projects.begin(),
                    binding.projects.end());
  }
  return patterns;
}

std::vector<Policy::Grant> Policy::GrantsOf(const Caller& caller) const {
  std::vector<Grant> grants;
  for (const Binding& binding : bindings_) {
    if (!Matches(binding.principal, caller.name)) continue;
    grants.push_back(
        {.role = roles_[binding.role].name, .projects = binding.projects});
  }
  return grants;
}

std::string Policy::RolesWith(int rpc) const {
  std::vector<absl::string_view> names;
  for (const Role& role : roles_) {
    if (role.rpcs[rpc]) names.push_back(role.name);
  }
  return absl::StrJoin(names, ", ");
}

std::string Policy::Describe(const Binding& binding) const {
  return absl::StrCat("the role ", roles_[binding.role].name, " on ",
                      absl::StrJoin(binding.projects, ", "), " (line ",
                      binding.line, ")");
}

std::string Policy::Explain(absl::string_view principal, absl::string_view rpc,
                            absl::string_view project) const {
  const int index = FindRpc(rpc);
  if (index < 0) {
    std::vector<absl::string_view> names;
    for (const Rpc& known : rpcs_) names.push_back(known.name);
    return absl::StrCat("denied: there is no RPC ", base::Echo(rpc),
                        "; the nearest is ", base::Nearest(rpc, names));
  }
  if (rpcs_[index].access == Access::kAnyone)
    return absl::StrCat("allowed: every caller may call ", rpc);
  // Collect the other bindings, so that a denial shows what the caller has.
  std::vector<std::string> others;
  for (const Binding& binding : bindings_) {
    if (!Matches(binding.principal, principal)) continue;
    const bool covers =
        project.empty() ||
        std::any_of(binding.projects.begin(), binding.projects.end(),
                    [&](const auto& p) { return Matches(p, project); });
    if (covers && roles_[binding.role].rpcs[index]) {
      return absl::StrCat("allowed: ", principal, " has ", Describe(binding),
                          ", which includes ", rpc);
    }
    if (others.size() < kMaxExplained) others.push_back(Describe(binding));
  }
  return absl::StrCat("denied: ", principal, " needs a role that includes ",
                      rpc, project.empty() ? "" : absl::StrCat(" on ", project),
                      " (", RolesWith(index), "), and has ",
                      others.empty() ? "none" : "only ",
                      absl::StrJoin(others, ", "));
}

}  // namespace mlops::auth
