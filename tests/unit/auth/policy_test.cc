#include "service/auth/policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/support/matchers.h"

namespace mlops::auth {
namespace {

using support::HasDetail;
using support::HasMessage;
using support::IsError;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

constexpr Rpc kRpcs[] = {
    {"GetServerInfo", Access::kAnyone}, {"GetWorkspace", Access::kView},
    {"ListWorkspaces", Access::kView},  {"GetWorkspace", Access::kView},
    {"WriteArtifact", Access::kEdit},   {"DeleteWorkspace", Access::kAdmin},
    {"Shutdown", Access::kOperate},
};

const Caller kRobot = {.name = "robot", .kind = Kind::kToken};

std::shared_ptr<const Policy> Parse(absl::string_view text) {
  return Policy::Parse(text, kRpcs).value();
}

std::shared_ptr<const Policy> WithBinding(absl::string_view binding) {
  return Parse(absl::StrCat("bindings:\n  - ", binding, "\n"));
}

void ExpectRefused(absl::string_view text, const std::string& problem) {
  const auto policy = Policy::Parse(text, kRpcs);
  EXPECT_THAT(policy, IsError(absl::StatusCode::kInvalidArgument, "")) << text;
  EXPECT_THAT(policy.status(), HasMessage(HasSubstr(problem)));
}

TEST(Policy, BuiltInRolesIncludeEachOther) {
  constexpr const char* kRoles[] = {"viewer", "editor", "admin", "operator"};
  for (int most = 0; most < 4; ++most) {
    const auto policy =
        WithBinding(absl::StrCat("{principal: robot, role: ", kRoles[most],
                                 most < 3 ? ", projects: [p]}" : "}"));
    for (const Rpc& rpc : kRpcs) {
      EXPECT_EQ(policy->Allows(kRobot, rpc.name, "p"),
                static_cast<int>(rpc.access) <= most + 1)
          << kRoles[most] << " " << rpc.name;
    }
  }
}

TEST(Policy, OnlyTheCallerAndItsProjectsMatch) {
  const auto policy =
      WithBinding("{principal: robot, role: editor, projects: [\"team-a-*\"]}");
  EXPECT_TRUE(policy->Allows(kRobot, "GetWorkspace", "team-a-1"));
  EXPECT_FALSE(policy->Allows(kRobot, "GetWorkspace", "team-b-1"));
  for (const char* name : {"robot2", "robo", "Robot", "", "*", "team-a-1"})
    EXPECT_FALSE(policy->Allows({.name = name}, "GetWorkspace", "team-a-1"));
}

TEST(Policy, PrincipalsMayBePatterns) {
  const auto policy = Parse(
      "bindings:\n"
      "  - {principal: 'system:serviceaccount:a:*', role: editor, "
      "projects: [a]}\n"
      "  - {principal: \"*\", role: viewer, projects: [public]}\n");
  const Caller account = {.name = "system:serviceaccount:a:x"};
  EXPECT_TRUE(policy->Allows(account, "WriteArtifact", "a"));
  EXPECT_TRUE(policy->Allows(account, "GetWorkspace", "public"));
  EXPECT_FALSE(policy->Allows(account, "WriteArtifact", "public"));
  EXPECT_FALSE(policy->Allows(kRobot, "GetWorkspace", "a"));
  EXPECT_TRUE(policy->Allows(kRobot, "GetWorkspace", "public"));
}

TEST(Policy, RolesApplyOnlyToTheirOwnProjects) {
  const auto policy = Parse(
      "bindings:\n"
      "  - {principal: robot, role: viewer, projects: [a, b]}\n"
      "  - {principal: robot, role: editor, projects: [b]}\n");
  EXPECT_FALSE(policy->Allows(kRobot, "WriteArtifact", "a"));
  EXPECT_TRUE(policy->Allows(kRobot, "WriteArtifact", "b"));
}

TEST(Policy, UnknownRpcsAreDenied) {
  const auto policy = Policy::AllowAll(kRpcs);
  EXPECT_FALSE(policy->Allows(kRobot, "", "p"));
  EXPECT_FALSE(policy->Allows(kRobot, "NewRpc", "p"));
  EXPECT_TRUE(policy->SightOf(kRobot, "NewRpc").none());
}

TEST(Policy, RpcsWithoutAProjectNeedTheRoleSomewhere) {
  const auto policy =
      WithBinding("{principal: robot, role: viewer, projects: [a]}");
  EXPECT_TRUE(policy->Allows(kRobot, "ListWorkspaces", ""));
  EXPECT_FALSE(policy->Allows(kRobot, "DeleteWorkspace", ""));
  EXPECT_FALSE(policy->Allows({.name = "other"}, "ListWorkspaces", ""));
  EXPECT_TRUE(policy->Allows({.name = "other"}, "GetServerInfo", ""));
}

TEST(Policy, WithoutAFileEverybodyMayDoEverything) {
  const auto policy = Policy::AllowAll(kRpcs);
  for (const Rpc& rpc : kRpcs) {
    for (const char* project : {"", "p"})
      EXPECT_TRUE(policy->Allows({.name = "anonymous"}, rpc.name, project));
  }
  EXPECT_TRUE(policy->SightOf(kRobot, "ListWorkspaces").everything());
}

TEST(Policy, OwnRolesIncludeOthersInAnyOrder) {
  const auto policy = Parse(
      "roles:\n"
      "  cleaner: {include: [uploader], rpcs: [DeleteWorkspace]}\n"
      "  uploader:\n"
      "    include: [viewer]\n"
      "    rpcs: [WriteArtifact]\n"
      "  writer: {rpcs: [WriteArtifact]}\n"
      "  nothing: {}\n"
      "bindings:\n"
      "  - {principal: c, role: cleaner, projects: [p]}\n"
      "  - {principal: w, role: writer, projects: [p]}\n"
      "  - {principal: n, role: nothing, projects: [p]}\n");
  for (const char* rpc : {"GetWorkspace", "WriteArtifact", "DeleteWorkspace"})
    EXPECT_TRUE(policy->Allows({.name = "c"}, rpc, "p"));
  EXPECT_FALSE(policy->Allows({.name = "c"}, "Shutdown", "p"));
  EXPECT_TRUE(policy->Allows({.name = "w"}, "WriteArtifact", "p"));
  EXPECT_FALSE(policy->Allows({.name = "w"}, "GetWorkspace", "p"));
  EXPECT_FALSE(policy->Allows({.name = "n"}, "GetWorkspace", "p"));
}

TEST(Policy, DenialsSayWhatIsMissing) {
  const auto policy =
      WithBinding("{principal: robot, role: viewer, projects: [a]}");
  EXPECT_OK(policy->Check(kRobot, "GetWorkspace", "a"));
  const absl::Status denied = policy->Check(kRobot, "WriteArtifact", "a");
  EXPECT_THAT(denied, IsError(absl::StatusCode::kPermissionDenied,
                              "PERMISSION_MISSING"));
  EXPECT_THAT(denied, HasDetail("permission", "WriteArtifact"));
  EXPECT_EQ(denied.message(),
            "robot may not call WriteArtifact on the project a; ask the "
            "server's operator for a role that includes it: editor, admin, "
            "operator");
  EXPECT_THAT(policy->Check(kRobot, "Shutdown", ""),
              HasMessage("robot may not call Shutdown; ask the server's "
                         "operator for a role that includes it: operator"));
}

TEST(Policy, SightsSeeWhatTheCallerMayUse) {
  const auto policy = Parse(
      "bindings:\n"
      "  - {principal: robot, role: viewer, projects: [a, \"b-*\"]}\n"
      "  - {principal: r*, role: editor, projects: [c]}\n"
      "  - {principal: boss, role: operator}\n");
  const Sight view = policy->SightOf(kRobot, "ListWorkspaces");
  for (const char* project : {"a", "b-1", "c"})
    EXPECT_TRUE(view.Sees(project)) << project;
  EXPECT_FALSE(view.Sees("d"));
  EXPECT_FALSE(view.none());
  EXPECT_FALSE(view.everything());
  const Sight edit = policy->SightOf(kRobot, "WriteArtifact");
  EXPECT_TRUE(edit.Sees("c"));
  EXPECT_FALSE(edit.Sees("a"));
  EXPECT_TRUE(policy->SightOf({.name = "x"}, "ListWorkspaces").none());
  EXPECT_TRUE(policy->SightOf({.name = "boss"}, "ListWorkspaces").everything());
}

TEST(Policy, ASightOutlivesItsPolicy) {
  auto policy = WithBinding("{principal: robot, role: viewer, projects: [a]}");
  const Sight sight = policy->SightOf(kRobot, "ListWorkspaces");
  policy.reset();
  EXPECT_TRUE(sight.Sees("a"));
}

TEST(Policy, GrantsAreListedInTheOrderOfTheFile) {
  const auto policy = Parse(
      "bindings:\n"
      "  - {principal: robot, role: viewer, projects: [a, b]}\n"
      "  - {principal: other, role: admin, projects: [a]}\n"
      "  - {principal: \"*\", role: operator}\n");
  const auto grants = policy->GrantsOf(kRobot);
  ASSERT_EQ(grants.size(), 2u);
  EXPECT_EQ(grants[0].role, "viewer");
  EXPECT_THAT(grants[0].projects, ElementsAre("a", "b"));
  EXPECT_EQ(grants[1].role, "operator");
  EXPECT_THAT(grants[1].projects, ElementsAre("*"));
  EXPECT_THAT(policy->PatternsOf(kRobot, "GetWorkspace"),
              ElementsAre("a", "b", "*"));
  EXPECT_THAT(policy->PatternsOf(kRobot, "DeleteWorkspace"), ElementsAre("*"));
  EXPECT_THAT(policy->PatternsOf(kRobot, "NoSuchRpc"), testing::IsEmpty());
}

TEST(Policy, ExplanationsNameTheBinding) {
  const auto policy = Parse(
      "bindings:\n"
      "  - {principal: robot, role: viewer, projects: [\"*\"]}\n"
      "  - principal: robot\n"
      "    role: editor\n"
      "    projects: [team-a, \"x-*\"]\n");
  EXPECT_EQ(policy->Explain("robot", "WriteArtifact", "x-1"),
            "allowed: robot has the role editor on team-a, x-* (line 3), which "
            "includes WriteArtifact");
  EXPECT_EQ(policy->Explain("robot", "DeleteWorkspace", "x-1"),
            "denied: robot needs a role that includes DeleteWorkspace on x-1 "
            "(admin, operator), and has only the role viewer on * (line 2), "
            "the role editor on "
            "team-a, x-* (line 3)");
  EXPECT_EQ(
      policy->Explain("alice", "GetWorkspace", "x"),
      "denied: alice needs a role that includes GetWorkspace on x (viewer, "
      "editor, admin, operator), and has none");
  EXPECT_EQ(policy->Explain("alice", "GetServerInfo", ""),
            "allowed: every caller may call GetServerInfo");
  EXPECT_EQ(policy->Explain("robot", "GetWorkspaces", "x"),
            "denied: there is no RPC GetWorkspaces; the nearest is "
            "GetWorkspace");
}

TEST(Policy, ExplanationsAgreeWithDecisions) {
  const auto policy = Parse(
      "roles: {w: {rpcs: [WriteArtifact]}}\n"
      "bindings:\n"
      "  - {principal: a, role: viewer, projects: [x, \"y*\"]}\n"
      "  - {principal: \"a*\", role: w, projects: [\"*z\"]}\n"
      "  - {principal: \"?\", role: admin, projects: [q]}\n"
      "  - {principal: ab, role: operator}\n");
  for (const char* name : {"a", "ab", "abc", "b", "zz"}) {
    for (const Rpc& rpc : kRpcs) {
      for (const char* project : {"", "x", "yz", "q", "z", "other"}) {
        const bool allowed = policy->Allows({.name = name}, rpc.name, project);
        EXPECT_THAT(policy->Explain(name, rpc.name, project),
                    StartsWith(allowed ? "allowed" : "denied"))
            << name << " " << rpc.name << " " << project;
        const Sight sight = policy->SightOf({.name = name}, rpc.name);
        if (*project != '\0') {
          EXPECT_EQ(sight.Sees(project), allowed);
        } else {
          EXPECT_EQ(!sight.none(), allowed);
        }
      }
    }
  }
}

TEST(Policy, TyposNameTheNearestName) {
  ExpectRefused("bindings: []\nrols: {}\n",
                "line 2: a policy has no key rols; the nearest is "
                "roles");
  ExpectRefused(
      "bindings:\n  - {principle: robot, role: viewer, projects: [a]}\n",
      "line 2: a binding has no key principle; the nearest is "
      "principal");
  ExpectRefused(
      "bindings:\n  - {principal: robot, role: edtior, projects: [a]}\n",
      "line 2: there is no role edtior; the nearest is editor");
  ExpectRefused("roles:\n  r: {includes: [viewer]}\nbindings: []\n",
                "line 2: a role has no key includes; the nearest is "
                "include");
  ExpectRefused("roles:\n  r:\n    rpcs:\n      - GetWorkspce\nbindings: []\n",
                "line 4: there is no RPC GetWorkspce; the nearest is "
                "GetWorkspace");
  ExpectRefused("roles:\n  r: {include: [viewr]}\nbindings: []\n",
                "line 2: there is no role viewr; the nearest is viewer");
}

TEST(Policy, CyclesAreRefused) {
  ExpectRefused("roles: {a: {include: [a]}}\nbindings: []\n",
                "the role includes itself: a > a");
  ExpectRefused(
      "roles:\n  a: {include: [b]}\n  b: {include: [viewer, c]}\n"
      "  c: {include: [a]}\nbindings: []\n",
      "line 2: the role includes itself: a > b > c > a");
}

TEST(Policy, IncludingARoleTwiceIsNoCycle) {
  EXPECT_OK(Policy::Parse(
      "roles:\n  a: {include: [b, c]}\n  b: {include: [d]}\n"
      "  c: {include: [d]}\n  d: {include: [viewer]}\nbindings: []\n",
      kRpcs));
}

TEST(Policy, LongChainsOfRolesAreRefused) {
  std::string text = "roles:\n";
  for (int i = 0; i < 10'000; ++i)
    absl::StrAppend(&text, "  r", i, ": {include: [r", i + 1, "]}\n");
  ExpectRefused(text + "bindings: []\n", "more than 256 roles");
}

TEST(Policy, RolesAreDefinedOnce) {
  ExpectRefused("roles:\n  a: {}\n  a: {}\nbindings: []\n",
                "line 3: the key a occurs twice");
  ExpectRefused("roles:\n  viewer: {}\nbindings: []\n",
                "line 2: the role viewer is built in; choose another name");
}

TEST(Policy, ProjectsAreRequired) {
  ExpectRefused("bindings:\n  - {principal: robot, role: editor}\n",
                "line 2: `projects` is missing; [\"*\"] means all projects");
  ExpectRefused(
      "bindings:\n  - {principal: robot, role: editor, projects: []}\n",
      "`projects` is missing");
  ExpectRefused(
      "bindings:\n  - {principal: robot, role: operator, projects: [a]}\n",
      "line 2: the role operator is for all projects");
  EXPECT_OK(Policy::Parse(
      "bindings:\n  - {principal: x, role: operator, projects: [\"*\"]}\n",
      kRpcs));
}

TEST(Policy, PatternsThatMatchNoProjectAreRefused) {
  for (const char* pattern : {"\"\"", "a/b", "\"a b\"", "\"team a*\"", "ä"}) {
    ExpectRefused(absl::StrCat("bindings:\n  - {principal: r, role: viewer, "
                               "projects: [",
                               pattern, "]}\n"),
                  "line 2: the pattern");
  }
}

TEST(Policy, StructureIsChecked) {
  ExpectRefused("", "is empty");
  ExpectRefused("[]", "a policy must be a map with the keys roles, bindings");
  ExpectRefused("roles: {}\n", "`bindings` must be a list");
  ExpectRefused("bindings: {}\n", "line 1: `bindings` must be a list");
  ExpectRefused("bindings:\n", "`bindings` must be a list");
  ExpectRefused("bindings: [x]\n", "a binding must be a map");
  ExpectRefused("roles: [x]\nbindings: []\n", "`roles` must be a map");
  ExpectRefused("roles: {x: [GetWorkspace]}\nbindings: []\n",
                "a role must be a map with the keys include, rpcs");
  ExpectRefused("roles: {x: {rpcs: GetWorkspace}}\nbindings: []\n",
                "`rpcs` must be a list");
  ExpectRefused("roles: {'a b': {}}\nbindings: []\n", "the role name a b");
  ExpectRefused("bindings: [{role: viewer, projects: [a]}]\n",
                "`principal` is missing");
  ExpectRefused("bindings: [{principal: [a], role: viewer, projects: [a]}]\n",
                "`principal` must be text");
  ExpectRefused("bindings: [{principal: a, role: viewer, projects: a}]\n",
                "`projects` must be a list");
  ExpectRefused("bindings: [{principal: a, role: viewer, projects: [[a]]}]\n",
                "`projects` must be a list");
  ExpectRefused("bindings: [\n", "line ");
  ExpectRefused("bindings: []\n---\nbindings: []\n", "first document");
  ExpectRefused("\xff", "UTF-8");
}

TEST(Policy, StarsOutsideQuotesAreExplained) {
  ExpectRefused("bindings:\n  - {principal: *, role: operator}\n",
                "in quotes: \"*\"");
  ExpectRefused(
      "bindings:\n  - {principal: a, role: viewer, projects: [*-x]}\n",
      "in quotes: \"*\"");
}

TEST(Policy, AThousandBindings) {
  std::string text = "bindings:\n";
  for (int i = 0; i < 1000; ++i) {
    absl::StrAppend(&text, "  - {principal: robot-", i, i % 2 ? "" : "-*",
                    ", role: editor, projects: [\"team-", i, "-*\"]}\n");
  }
  const auto policy = Parse(text);
  for (int i = 0; i < 1000; ++i) {
    const Caller caller = {.name =
                               absl::StrCat("robot-", i, i % 2 ? "" : "-x")};
    EXPECT_TRUE(policy->Allows(caller, "WriteArtifact",
                               absl::StrCat("team-", i, "-p")));
    EXPECT_FALSE(policy->Allows(caller, "WriteArtifact",
                                absl::StrCat("team-", i + 1, "-p")));
  }
}

}  // namespace
}  // namespace mlops::auth
