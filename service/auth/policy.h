#ifndef MLOPS_SERVICE_AUTH_POLICY_H_
#define MLOPS_SERVICE_AUTH_POLICY_H_

#include <bitset>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "service/auth/access.h"
#include "service/auth/caller.h"
#include "service/auth/pattern_index.h"

namespace mlops::auth {

class Sight;

inline constexpr absl::string_view kOperatorRole = "operator";

// Defines which callers may call which RPCs on which projects:
//
//   roles:
//     uploader: {include: [viewer], rpcs: [WriteArtifact, GetUpload]}
//   bindings:
//     - {principal: robot, role: uploader, projects: ["team-a-*"]}
//     - {principal: "system:serviceaccount:team-a:*", role: editor,
//        projects: [shared]}
//     - {principal: alice, role: operator}
//
// The roles viewer, editor, admin and operator are built in; see Access.
// Principals and projects may be patterns with "*" (any text) and "?" (one
// byte). The principal "*" is every caller that the server accepts. The role
// operator covers all projects, so its bindings have no `projects`.
//
// An RPC that names no project is allowed if the caller has a role with it on
// any project; lists show only what a Sight sees. Immutable, and therefore
// thread-safe.
class Policy : public std::enable_shared_from_this<Policy> {
 public:
  // Maximum number of RPCs; further ones are denied.
  static constexpr size_t kMaxRpcs = 128;
  using RpcSet = std::bitset<kMaxRpcs>;

  // A role that a caller has on some projects.
  struct Grant {
    std::string role;
    // Patterns of project names.
    std::vector<std::string> projects;
  };

  // Parses YAML. `rpcs` lists every RPC that Allows() will be asked about;
  // names may repeat with the same Access. Returns INVALID_ARGUMENT (no
  // reason), with the line number, if the text is not as above. That is
  // malformed YAML, an unknown key, role or RPC (the error suggests the nearest
  // known name), a repeated name, a role that includes itself, or a pattern
  // that can match no project.
  static absl::StatusOr<std::shared_ptr<const Policy>> Parse(
      absl::string_view text, absl::Span<const Rpc> rpcs);

  // Returns the policy of a server without a policy file: everybody may do
  // everything.
  static std::shared_ptr<const Policy> AllowAll(absl::Span<const Rpc> rpcs);

  // Returns whether `caller` may call `rpc` on `project`, which is "" if the
  // RPC names none. Returns false for an unknown RPC. Takes a few hash
  // look-ups, no matter how many bindings there are.
  bool Allows(const Caller& caller, absl::string_view rpc,
              absl::string_view project) const;

  // Returns OK if Allows(), otherwise PERMISSION_DENIED/PERMISSION_MISSING.
  absl::Status Check(const Caller& caller, absl::string_view rpc,
                     absl::string_view project) const;

  // Returns the projects on which `caller` may call `rpc`.
  Sight SightOf(const Caller& caller, absl::string_view rpc) const;

  // Returns the patterns of those projects, in the order of the file. A pattern
  // may occur several times.
  std::vector<std::string> PatternsOf(const Caller& caller,
                                      absl::string_view rpc) const;

  // Returns the roles of `caller`, in the order of the file.
  std::vector<Grant> GrantsOf(const Caller& caller) const;

  // Returns a sentence that begins with "allowed" or "denied" and names the
  // binding that decided, or what is missing. Intended for people.
  std::string Explain(absl::string_view principal, absl::string_view rpc,
                      absl::string_view project) const;

 private:
  friend class Sight;
  friend class PolicyParser;

  struct Role {
    std::string name;
    RpcSet rpcs;
  };
  struct Binding {
    std::string principal;
    // Index into roles_.
    int role = 0;
    std::vector<std::string> projects;
    int line = 0;
  };
  // The projects on which a principal has one role.
  struct RoleGrant {
    int role = 0;
    // Whether `projects` contains "*".
    bool everywhere = false;
    PatternIndex projects;

    bool Covers(absl::string_view project) const {
      return everywhere || projects.Any(project);
    }
  };
  // The roles that the bindings of one principal, or principal pattern, grant.
  using Grants = std::vector<RoleGrant>;

  // Creates a policy with the built-in roles and no bindings.
  explicit Policy(absl::Span<const Rpc> rpcs);

  // Adds `binding` to the look-up tables.
  void Add(Binding binding);
  // Returns the index of the RPC `name` in rpcs_, or -1.
  int FindRpc(absl::string_view name) const;
  bool Includes(const RoleGrant& grant, int rpc) const {
    return roles_[grant.role].rpcs[rpc];
  }
  // Returns the names of the roles that include `rpc`.
  std::string RolesWith(int rpc) const;
  std::string Describe(const Binding& binding) const;

  // Each name occurs once.
  std::vector<Rpc> rpcs_;
  absl::flat_hash_map<absl::string_view, int> rpc_index_;
  // The built-in roles come first.
  std::vector<Role> roles_;
  std::vector<Binding> bindings_;
  std::vector<Grants> grants_;
  // Map a principal to its index in grants_: by the exact text, and by all
  // patterns that match a name.
  absl::flat_hash_map<std::string, int> grants_index_;
  PatternIndex principals_;
};

// The projects that a caller may see. Keeps the policy that it came from alive.
// Thread-safe.
class Sight {
 public:
  // Whether the caller may see `project`.
  bool Sees(absl::string_view project) const;
  // Whether the policy grants the RPC on no project at all.
  bool none() const { return !everything_ && grants_.empty(); }
  // Whether the caller certainly sees every project.
  bool everything() const { return everything_; }

 private:
  friend class Policy;

  std::shared_ptr<const Policy> policy_;
  std::vector<const Policy::RoleGrant*> grants_;
  bool everything_ = false;
};

}  // namespace mlops::auth

#endif  // MLOPS_SERVICE_AUTH_POLICY_H_
