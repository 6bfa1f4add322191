#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/status_macros.h"
#include "service/auth/policy.h"
#include "service/base/nearest.h"
#include "service/core/yaml_tree.h"

namespace mlops::auth {
namespace {

using core::yaml::Entry;
using core::yaml::Node;

// Also bounds the recursion through roles that include each other.
constexpr size_t kMaxRoles = 256;
constexpr size_t kMaxNameBytes = 64;
constexpr size_t kMaxPatternBytes = 256;

absl::Status LineError(int line, absl::string_view problem) {
  return absl::InvalidArgumentError(
      line == 0 ? std::string(problem)
                : absl::StrCat("line ", line, ": ", problem));
}

// Returns the error for a name that is none of `known`. `what` begins a
// sentence that ends with the name.
absl::Status Unknown(const Node& node, absl::string_view what,
                     absl::Span<const absl::string_view> known) {
  return LineError(node.line, absl::StrCat(what, " ", base::Echo(node.text),
                                           "; the nearest is ",
                                           base::Nearest(node.text, known)));
}

absl::Status CheckKeys(const Node& map, absl::string_view what,
                       absl::Span<const absl::string_view> known) {
  if (map.kind != Node::Kind::kMap) {
    return LineError(map.line,
                     absl::StrCat("a ", what, " must be a map with the keys ",
                                  absl::StrJoin(known, ", ")));
  }
  for (const Entry& entry : map.entries) {
    if (std::find(known.begin(), known.end(), entry.key.text) == known.end())
      return Unknown(entry.key, absl::StrCat("a ", what, " has no key"), known);
  }
  return absl::OkStatus();
}

// Returns the value of `key`, or null if it is absent.
const Node* Find(const Node& map, absl::string_view key) {
  for (const Entry& entry : map.entries) {
    if (entry.key.text == key) return &entry.value;
  }
  return nullptr;
}

absl::StatusOr<const Node*> FindText(const Node& map, absl::string_view key) {
  const Node* value = Find(map, key);
  if (value == nullptr)
    return LineError(map.line, absl::StrCat("`", key, "` is missing"));
  if (value->kind != Node::Kind::kScalar || value->text.empty())
    return LineError(value->line, absl::StrCat("`", key, "` must be text"));
  return value;
}

// Returns the texts of the list `key`, or none if it is absent.
absl::StatusOr<std::vector<const Node*>> FindList(const Node& map,
                                                  absl::string_view key) {
  std::vector<const Node*> texts;
  const Node* list = Find(map, key);
  if (list == nullptr) return texts;
  const auto is_text = [](const Node& item) {
    return item.kind == Node::Kind::kScalar;
  };
  if (list->kind != Node::Kind::kSequence ||
      !std::all_of(list->items.begin(), list->items.end(), is_text)) {
    return LineError(
        list->line, absl::StrCat("`", key, "` must be a list, such as [a, b]"));
  }
  for (const Node& item : list->items) texts.push_back(&item);
  return texts;
}

absl::Status CheckRoleName(const Node& name) {
  const auto allowed = [](char c) {
    return absl::ascii_isalnum(c) || c == '_' || c == '-';
  };
  if (!name.text.empty() && name.text.size() <= kMaxNameBytes &&
      std::all_of(name.text.begin(), name.text.end(), allowed))
    return absl::OkStatus();
  return LineError(name.line,
                   absl::StrCat("the role name ", base::Echo(name.text),
                                " must have 1 to 64 letters, "
                                "digits, '_' and '-'"));
}

absl::Status CheckPrincipal(const Node& pattern) {
  if (pattern.text.size() <= kMaxPatternBytes &&
      std::none_of(pattern.text.begin(), pattern.text.end(),
                   absl::ascii_iscntrl))
    return absl::OkStatus();
  return LineError(pattern.line,
                   "`principal` must have at most 256 bytes and no control "
                   "characters");
}

absl::Status CheckProject(const Node& pattern) {
  const auto allowed = [](char c) {
    return absl::ascii_isalnum(c) || absl::StrContains("._-*?", c);
  };
  if (!pattern.text.empty() && pattern.text.size() <= kMaxPatternBytes &&
      std::all_of(pattern.text.begin(), pattern.text.end(), allowed))
    return absl::OkStatus();
  return LineError(pattern.line,
                   absl::StrCat("the pattern ", base::Echo(pattern.text),
                                " matches no project, whose names have "
                                "letters, digits, '.', '_' and '-'"));
}

}  // namespace

// Fills a policy from YAML.
class PolicyParser {
 public:
  explicit PolicyParser(Policy* policy) : policy_(*policy) {}

  absl::Status Parse(const Node& root) {
    RETURN_IF_ERROR(CheckKeys(root, "policy", {"roles", "bindings"}));
    if (const Node* roles = Find(root, "roles"))
      RETURN_IF_ERROR(AddRoles(*roles));
    // Require `bindings`, so that a mistyped key does not silently lock
    // everybody out.
    const Node* bindings = Find(root, "bindings");
    if (bindings == nullptr || bindings->kind != Node::Kind::kSequence) {
      return LineError(bindings == nullptr ? root.line : bindings->line,
                       "`bindings` must be a list; [] lets nobody do anything");
    }
    for (const Node& binding : bindings->items)
      RETURN_IF_ERROR(AddBinding(binding));
    return absl::OkStatus();
  }

 private:
  // Adds all names first, so that roles may include each other in any order.
  absl::Status AddRoles(const Node& roles) {
    if (roles.kind != Node::Kind::kMap)
      return LineError(roles.line, "`roles` must be a map from names to roles");
    if (roles.entries.size() > kMaxRoles) {
      return LineError(roles.line,
                       absl::StrCat("has more than ", kMaxRoles, " roles"));
    }
    for (const Entry& role : roles.entries) {
      RETURN_IF_ERROR(CheckRoleName(role.key));
      if (FindRole(role.key.text) >= 0) {
        return LineError(role.key.line,
                         absl::StrCat("the role ", role.key.text,
                                      " is built in; choose another name"));
      }
      policy_.roles_.push_back({.name = role.key.text});
      nodes_.push_back(&role);
    }
    for (const Entry* role : nodes_) RETURN_IF_ERROR(Complete(*role));
    return absl::OkStatus();
  }

  // Sets the RPCs of a role in the file, after completing the roles that it
  // includes.
  absl::Status Complete(const Entry& node) {
    const int role = FindRole(node.key.text);
    if (done_.count(role) > 0) return absl::OkStatus();
    // `path_` leads from a role of the file to this one; meeting a role twice
    // is a cycle.
    const bool cycle =
        std::find(path_.begin(), path_.end(), node.key.text) != path_.end();
    path_.push_back(node.key.text);
    if (cycle) {
      return LineError(node.key.line,
                       absl::StrCat("the role includes itself: ",
                                    absl::StrJoin(path_, " > ")));
    }
    RETURN_IF_ERROR(CheckKeys(node.value, "role", {"include", "rpcs"}));
    ASSIGN_OR_RETURN(const auto includes, FindList(node.value, "include"));
    for (const Node* name : includes) {
      ASSIGN_OR_RETURN(const int included, KnownRole(*name));
      // Built-in roles are complete from the start.
      if (included >= built_in_)
        RETURN_IF_ERROR(Complete(*nodes_[included - built_in_]));
      policy_.roles_[role].rpcs |= policy_.roles_[included].rpcs;
    }
    ASSIGN_OR_RETURN(const auto rpcs, FindList(node.value, "rpcs"));
    for (const Node* name : rpcs) {
      ASSIGN_OR_RETURN(const int rpc, KnownRpc(*name));
      policy_.roles_[role].rpcs.set(rpc);
    }
    path_.pop_back();
    done_.insert(role);
    return absl::OkStatus();
  }

  absl::Status AddBinding(const Node& node) {
    RETURN_IF_ERROR(
        CheckKeys(node, "binding", {"principal", "role", "projects"}));
    ASSIGN_OR_RETURN(const Node* principal, FindText(node, "principal"));
    RETURN_IF_ERROR(CheckPrincipal(*principal));
    ASSIGN_OR_RETURN(const Node* role_name, FindText(node, "role"));
    ASSIGN_OR_RETURN(const int role, KnownRole(*role_name));
    Policy::Binding binding = {
        .principal = principal->text, .role = role, .line = node.line};
    ASSIGN_OR_RETURN(const auto projects, FindList(node, "projects"));
    for (const Node* project : projects) {
      RETURN_IF_ERROR(CheckProject(*project));
      binding.projects.push_back(project->text);
    }
    RETURN_IF_ERROR(CheckProjects(node, role_name->text, binding.projects));
    if (binding.projects.empty()) binding.projects = {"*"};
    policy_.Add(std::move(binding));
    return absl::OkStatus();
  }

  // Checks that only the role operator covers all projects without `projects`,
  // so that omitting a line never grants a right everywhere.
  static absl::Status CheckProjects(const Node& binding, absl::string_view role,
                                    const std::vector<std::string>& projects) {
    if (role != kOperatorRole && projects.empty()) {
      return LineError(binding.line,
                       "`projects` is missing; [\"*\"] means all projects");
    }
    if (role != kOperatorRole || projects.empty() ||
        projects == std::vector<std::string>{"*"})
      return absl::OkStatus();
    return LineError(binding.line,
                     "the role operator is for all projects; remove "
                     "`projects`, or bind the role admin");
  }

  // Returns the index of the role `name`, or -1.
  int FindRole(absl::string_view name) const {
    const auto& roles = policy_.roles_;
    const auto found =
        std::find_if(roles.begin(), roles.end(),
                     [name](const auto& role) { return role.name == name; });
    return found == roles.end() ? -1 : static_cast<int>(found - roles.begin());
  }

  absl::StatusOr<int> KnownRole(const Node& name) const {
    const int role = FindRole(name.text);
    if (role >= 0) return role;
    std::vector<absl::string_view> known;
    for (const auto& other : policy_.roles_) known.push_back(other.name);
    return Unknown(name, "there is no role", known);
  }

  absl::StatusOr<int> KnownRpc(const Node& name) const {
    const int rpc = policy_.FindRpc(name.text);
    if (rpc >= 0) return rpc;
    std::vector<absl::string_view> known;
    for (const Rpc& other : policy_.rpcs_) known.push_back(other.name);
    return Unknown(name, "there is no RPC", known);
  }

  Policy& policy_;
  const int built_in_ = static_cast<int>(policy_.roles_.size());
  // The roles in the file, in its order.
  std::vector<const Entry*> nodes_;
  // The completed roles, and the path of inclusions from a role in the file to
  // the one being completed.
  std::set<int> done_;
  std::vector<std::string> path_;
};

absl::StatusOr<std::shared_ptr<const Policy>> Policy::Parse(
    absl::string_view text, absl::Span<const Rpc> rpcs) {
  Node root;
  if (const auto problem = core::yaml::Parse(text, &root)) {
    const absl::string_view hint =
        absl::StrContains(text, '*')
            ? "; put a pattern that begins with * in quotes: \"*\""
            : "";
    return LineError(problem->line, absl::StrCat(problem->what, hint));
  }
  std::shared_ptr<Policy> policy(new Policy(rpcs));
  RETURN_IF_ERROR(PolicyParser(policy.get()).Parse(root));
  return policy;
}

}  // namespace mlops::auth
