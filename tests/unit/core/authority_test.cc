// Tests Authority over the reference catalog, with a scripted scanner
// and clock.
#include "service/core/authority.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <map>
#include <string>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "service/catalog/memory_catalog.h"
#include "service/core/usage_ledger.h"
#include "tests/support/fake_clock.h"
#include "tests/support/matchers.h"
#include "tests/support/workspaces.h"

namespace mlops::core {
namespace {

using absl::StatusCode;
using support::HasDetail;
using support::IsError;
using support::NamesOf;
using support::Project;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

const auto kNotFound = IsError(StatusCode::kNotFound, "WORKSPACE_NOT_FOUND");
const auto kExists = IsError(StatusCode::kAlreadyExists, "WORKSPACE_EXISTS");
const auto kEtagMismatch = IsError(StatusCode::kAborted, "ETAG_MISMATCH");
const auto kFieldInvalid =
    IsError(StatusCode::kInvalidArgument, "FIELD_INVALID");

// A catalog that runs a test's code in place of its next commits, to simulate
// edits by hand.
class ScriptedCatalog : public catalog::MemoryCatalog {
 public:
  using MemoryCatalog::MemoryCatalog;

  absl::StatusOr<WorkspacePtr> Get(const ProjectName& project) override {
    if (corrupt)
      return base::MakeError(StatusCode::kDataLoss, "ill-formed",
                             {.reason = "WORKSPACE_CORRUPT"});
    return MemoryCatalog::Get(project);
  }
  absl::StatusOr<CommitResult> Commit(const Change& change) override {
    ++commits;
    if (before_commit) before_commit();
    return MemoryCatalog::Commit(change);
  }

  std::atomic<int> commits = 0;
  std::function<void()> before_commit;
  bool corrupt = false;
};

class AuthorityTest : public testing::Test {
 protected:
  WorkspacePtr Create(absl::string_view name) {
    return authority.Create({.project = Project(name)}).value();
  }
  absl::StatusOr<WorkspacePtr> Get(absl::string_view name) {
    return authority.Get(Project(name));
  }
  DeleteResult Delete(absl::string_view name) {
    return authority.Delete({.project = Project(name), .force = true}).value();
  }
  // Commits a new edit, bypassing the authority.
  void EditByHand() {
    Workspace edited = *catalog.MemoryCatalog::Get(Project("fraud")).value();
    edited.metadata["edit"] = catalog.commits.load();
    ASSERT_OK(catalog.MemoryCatalog::Commit(
        ReplaceChange{.workspace = edited, .expected_etag = edited.etag}));
  }
  std::vector<std::string> Listed(bool show_deleted = false) {
    return NamesOf(
        authority.List({.page_size = 1000, .show_deleted = show_deleted})
            .value()
            .workspaces);
  }
  absl::StatusOr<Usage> Scan(const Workspace&, Cancelled cancelled) {
    if (cancelled()) return absl::CancelledError("cancelled");
    if (auto during = std::exchange(during_scan, nullptr)) {
      ++scans;
      return during();
    }
    Usage usage{.scan_time = clock.Now()};
    usage.directories[0] = {.exists = true, .file_count = 3, .size_bytes = 300};
    ++scans;
    return usage;
  }

  support::FakeClock clock;
  ScriptedCatalog catalog{clock.clock()};
  std::atomic<int> scans = 0;
  // Replaces the next scan.
  std::function<absl::Status()> during_scan;
  Authority authority{
      &catalog,
      [this](const Workspace& w, bool, Cancelled c) { return Scan(w, c); },
      "/base", clock.clock(), clock.steady_clock()};
};

// --- Create and Ensure ---

TEST_F(AuthorityTest, CreateMakesAWorkspaceWithDefaults) {
  const WorkspacePtr made =
      authority
          .Create({.project = Project("fraud"), .metadata = {{"owner", "ana"}}})
          .value();
  EXPECT_EQ(made->root_path, "/base/fraud");
  EXPECT_EQ(made->settings, DefaultSettings(Project("fraud"), "/base/fraud"));
  EXPECT_EQ(made->metadata, Metadata({{"owner", "ana"}}));
  EXPECT_EQ(made->create_time, clock.Now());
  EXPECT_EQ(made->uid.size(), 32);
  EXPECT_EQ(Get("fraud").value()->etag, made->etag);
}

TEST_F(AuthorityTest, CreateRefusesATakenNameAndNamesItsUid) {
  const std::string uid = Create("fraud")->uid;
  EXPECT_THAT(authority.Create({.project = Project("fraud")}), kExists);
  EXPECT_THAT(authority.Create({.project = Project("fraud")}),
              HasDetail("uid", uid));
}

TEST_F(AuthorityTest, ARepeatedCreateReturnsWhatTheFirstMade) {
  const CreateArgs args = {.project = Project("fraud"), .request_id = "r-1"};
  const WorkspacePtr first = authority.Create(args).value();
  EXPECT_EQ(authority.Create(args).value()->uid, first->uid);
  EXPECT_EQ(catalog.commits, 1);
  EXPECT_THAT(
      authority.Create({.project = Project("fraud"), .request_id = "r-2"}),
      kExists);
  EXPECT_THAT(authority.Create({.project = Project("fraud")}), kExists);
}

TEST_F(AuthorityTest, ARequestIdIsRememberedAcrossUpdatesButNotAcrossADelete) {
  const CreateArgs args = {.project = Project("fraud"), .request_id = "r-1"};
  const std::string uid = authority.Create(args).value()->uid;
  ASSERT_OK(authority.Update(
      {.project = Project("fraud"), .spec = {.metadata = {{"k", 1}}}}));
  EXPECT_EQ(authority.Create(args).value()->uid, uid);
  Delete("fraud");
  EXPECT_NE(authority.Create(args).value()->uid, uid);
}

TEST_F(AuthorityTest, BadArgumentsAreRefusedBeforeAnythingElse) {
  Create("fraud");
  const CreateArgs bad = {.project = Project("fraud"),
                          .metadata = {{"n", int64_t{1} << 53}}};
  EXPECT_THAT(authority.Create(bad), kFieldInvalid);
  EXPECT_THAT(authority.Ensure(bad), kFieldInvalid);
}

TEST_F(AuthorityTest, NewNamesMustMatchThePattern) {
  Create("old");
  const std::string restored = Delete("old").workspace->uid;
  Create("Served");
  authority.SetNamePolicy(NamePolicy::Parse("team-[a-z]+").value());
  EXPECT_OK(authority.Create({.project = Project("team-a")}));
  for (const char* name : {"team", "my-team-a", "team-a2", "Served"}) {
    const absl::Status refused =
        authority.Create({.project = Project(name)}).status();
    EXPECT_THAT(refused, kFieldInvalid) << name;
    EXPECT_THAT(refused, HasDetail("field", "project"));
    EXPECT_THAT(refused,
                HasDetail("problem", testing::HasSubstr("team-[a-z]+")));
    // The same answer whether or not the workspace exists.
    EXPECT_THAT(authority.Ensure({.project = Project(name)}), kFieldInvalid);
    EXPECT_THAT(authority.EnsureExisting({.project = Project(name)}),
                kFieldInvalid);
  }
  EXPECT_THAT(
      authority.Update({.project = Project("new"), .allow_missing = true}),
      kFieldInvalid);
  EXPECT_THAT(authority.Undelete(Project("old"), restored), kFieldInvalid);
  // What exists is served.
  EXPECT_OK(Get("Served"));
  EXPECT_OK(authority.Update({.project = Project("Served"),
                              .spec = {.metadata = {{"k", 1}}},
                              .allow_missing = true}));
  Delete("Served");
}

TEST(NamePolicy, AnInvalidPatternIsNamed) {
  const auto policy = NamePolicy::Parse("team-(");
  EXPECT_THAT(policy, IsError(StatusCode::kInvalidArgument, ""));
  EXPECT_THAT(policy.status().message(), testing::HasSubstr("\"team-(\""));
  EXPECT_FALSE(NamePolicy::Parse("").value().restricts());
}

TEST_F(AuthorityTest, EnsureMakesOnceAndThenLeavesUntouched) {
  const EnsureResult first =
      authority.Ensure({.project = Project("fraud"), .metadata = {{"n", 1}}})
          .value();
  EXPECT_TRUE(first.created);
  const EnsureResult second =
      authority.Ensure({.project = Project("fraud"), .metadata = {{"n", 2}}})
          .value();
  EXPECT_FALSE(second.created);
  EXPECT_EQ(second.workspace->etag, first.workspace->etag);
  EXPECT_EQ(catalog.commits, 1);
}

TEST_F(AuthorityTest, OfRacingEnsuresExactlyOneCreates) {
  constexpr int kThreads = 32, kNames = 20;
  for (int n = 0; n < kNames; ++n) {
    std::atomic<int> created = 0;
    std::vector<std::thread> threads;
    std::vector<std::string> uids(kThreads);
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        const EnsureResult result =
            authority.Ensure({.project = Project(absl::StrCat("p", n))})
                .value();
        created += result.created ? 1 : 0;
        uids[t] = result.workspace->uid;
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(created, 1);
    EXPECT_THAT(uids, testing::Each(uids[0]));
  }
}

// --- Update ---

TEST_F(AuthorityTest, UpdateChangesAndAnswersWhatIsStored) {
  const WorkspacePtr made = Create("fraud");
  clock.Advance(absl::Seconds(5));
  const WorkspacePtr updated = authority
                                   .Update({.project = Project("fraud"),
                                            .etag = made->etag,
                                            .spec = {.metadata = {{"k", 1}}}})
                                   .value()
                                   .workspace;
  EXPECT_EQ(updated->metadata, Metadata({{"k", 1}}));
  EXPECT_EQ(updated->update_time, made->update_time + absl::Seconds(5));
  EXPECT_NE(updated->etag, made->etag);
  EXPECT_EQ(Get("fraud").value()->etag, updated->etag);
}

TEST_F(AuthorityTest, AnUpdateThatChangesNothingWritesNothing) {
  const WorkspacePtr made = Create("fraud");
  const auto updated = authority
                           .Update({.project = Project("fraud"),
                                    .spec = {.settings = made->settings}})
                           .value()
                           .workspace;
  EXPECT_EQ(updated->etag, made->etag);
  EXPECT_EQ(catalog.commits, 1);
}

TEST_F(AuthorityTest, AStaleEtagIsRefused) {
  Create("fraud");
  EXPECT_THAT(authority.Update({.project = Project("fraud"),
                                .etag = "stale",
                                .spec = {.metadata = {{"k", 1}}}}),
              kEtagMismatch);
  EXPECT_EQ(Get("fraud").value()->metadata, Metadata::object());
}

TEST_F(AuthorityTest, UpdatesWithEtagsLoseNoUpdate) {
  constexpr int kThreads = 8, kEach = 50;
  Create("fraud");
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int done = 0; done < kEach;) {
        const WorkspacePtr seen = Get("fraud").value();
        const int next = seen->metadata.value("count", 0) + 1;
        const auto updated =
            authority.Update({.project = Project("fraud"),
                              .etag = seen->etag,
                              .spec = {.metadata = {{"count", next}}}});
        EXPECT_TRUE(updated.ok() ||
                    base::GetReason(updated.status()) == "ETAG_MISMATCH")
            << updated.status();
        done += updated.ok() ? 1 : 0;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Get("fraud").value()->metadata["count"], kThreads * kEach);
}

TEST_F(AuthorityTest, MergesWithoutEtagsLoseNoKey) {
  constexpr int kThreads = 16;
  Create("fraud");
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, key = absl::StrCat("k", t)] {
      EXPECT_OK(authority.Update(
          {.project = Project("fraud"), .spec = {.metadata = {{key, 1}}}}));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(Get("fraud").value()->metadata, SizeIs(kThreads));
}

TEST_F(AuthorityTest, AnEditInBetweenIsMergedUnlessAnEtagWasGiven) {
  Create("fraud");
  int edits_left = 1;
  catalog.before_commit = [&] {
    if (edits_left-- > 0) EditByHand();
  };
  const auto merged = authority
                          .Update({.project = Project("fraud"),
                                   .spec = {.metadata = {{"k", 1}}}})
                          .value()
                          .workspace;
  EXPECT_EQ(merged->metadata["k"], 1);
  EXPECT_TRUE(merged->metadata.contains("edit"));
  edits_left = 1;
  const UpdateArgs with_etag = {.project = Project("fraud"),
                                .etag = merged->etag,
                                .spec = {.metadata = {{"k", 2}}}};
  EXPECT_THAT(authority.Update(with_etag), kEtagMismatch);
  EXPECT_EQ(Get("fraud").value()->metadata["k"], 1);
}

TEST_F(AuthorityTest, EndlessEditsMakeItBusy) {
  Create("fraud");
  catalog.before_commit = [&] { EditByHand(); };
  const auto result = authority.Update(
      {.project = Project("fraud"), .spec = {.metadata = {{"k", 1}}}});
  EXPECT_THAT(result, IsError(StatusCode::kAborted, "WORKSPACE_BUSY"));
  EXPECT_TRUE(base::GetErrorInfo(result.status())->retry_delay.has_value());
}

TEST_F(AuthorityTest, UpdateMakesAMissingWorkspaceOnlyIfAllowed) {
  UpdateArgs args = {.project = Project("fraud"),
                     .spec = {.metadata = {{"k", 1}}}};
  EXPECT_THAT(authority.Update(args), kNotFound);
  args.allow_missing = true;
  args.etag = "0123";
  EXPECT_THAT(authority.Update(args), kEtagMismatch);
  args.etag = "";
  args.spec.mask = std::vector<std::string>{"nonsense"};
  EXPECT_THAT(authority.Update(args), kFieldInvalid);
  args.spec.mask = std::vector<std::string>{"*"};
  EXPECT_EQ(authority.Update(args).value().workspace->metadata,
            Metadata({{"k", 1}}));
  EXPECT_THAT(Listed(), ElementsAre("fraud"));
}

TEST_F(AuthorityTest, UpdateTellsOfAMistakeAlsoWhereThereIsNoWorkspace) {
  EXPECT_THAT(authority.Update({.project = Project("fraud"),
                                .spec = {.mask = {{"metdata"}}}}),
              kFieldInvalid);
  EXPECT_THAT(authority.Update({.project = Project("fraud"),
                                .spec = {.mask = {{"metadata"}}}}),
              kNotFound);
}

// --- Delete and Undelete ---

TEST_F(AuthorityTest, DeleteNeedsForceWhateverElseIsAsked) {
  Create("fraud");
  for (const bool flag : {false, true}) {
    const auto result = authority.Delete({.project = Project("fraud"),
                                          .allow_missing = flag,
                                          .permanent = flag,
                                          .validate_only = flag});
    EXPECT_THAT(result,
                IsError(StatusCode::kFailedPrecondition, "FORCE_REQUIRED"));
    EXPECT_THAT(result, HasDetail("path", "/base/fraud"));
  }
  EXPECT_THAT(Listed(), ElementsAre("fraud"));
}

TEST_F(AuthorityTest, DeleteMovesIntoTheTrash) {
  const WorkspacePtr made = Create("fraud");
  const DeleteResult result = Delete("fraud");
  EXPECT_EQ(result.workspace->uid, made->uid);
  EXPECT_EQ(result.workspace->delete_time, clock.Now());
  EXPECT_FALSE(result.purged);
  EXPECT_THAT(Listed(), IsEmpty());
  EXPECT_THAT(Listed(true), ElementsAre("fraud"));
}

TEST_F(AuthorityTest, DeleteOfNothingIsNotFoundUnlessAllowed) {
  EXPECT_THAT(authority.Delete({.project = Project("fraud"), .force = true}),
              kNotFound);
  for (const bool permanent : {false, true}) {
    const auto allowed = authority.Delete({.project = Project("fraud"),
                                           .force = true,
                                           .allow_missing = true,
                                           .permanent = permanent});
    EXPECT_EQ(allowed.value().workspace, nullptr);
    EXPECT_FALSE(allowed.value().purged);
  }
}

TEST_F(AuthorityTest, DeleteMindsEtagAndUid) {
  const WorkspacePtr made = Create("fraud");
  const ProjectName project = Project("fraud");
  for (const bool validate_only : {true, false}) {
    EXPECT_THAT(authority.Delete({.project = project,
                                  .force = true,
                                  .etag = "x",
                                  .validate_only = validate_only}),
                kEtagMismatch);
    EXPECT_THAT(authority.Delete({.project = project,
                                  .force = true,
                                  .uid = "x",
                                  .validate_only = validate_only}),
                kNotFound);
    EXPECT_OK(authority.Delete({.project = project,
                                .force = true,
                                .etag = made->etag,
                                .uid = made->uid,
                                .validate_only = validate_only}));
  }
}

TEST_F(AuthorityTest, PermanentSkipsTheTrash) {
  Create("fraud");
  EXPECT_TRUE(
      authority
          .Delete(
              {.project = Project("fraud"), .force = true, .permanent = true})
          .value()
          .purged);
  EXPECT_THAT(Listed(true), IsEmpty());
}

TEST_F(AuthorityTest, PermanentWithAUidEmptiesTheTrashOfIt) {
  const WorkspacePtr old = Create("fraud");
  Delete("fraud");
  const WorkspacePtr live = Create("fraud");
  DeleteArgs args = {.project = Project("fraud"),
                     .force = true,
                     .uid = old->uid,
                     .permanent = true};
  EXPECT_TRUE(authority.Delete(args).value().purged);
  EXPECT_THAT(authority.Delete(args), kNotFound);
  args.uid = "0123";
  EXPECT_THAT(authority.Delete(args), kNotFound);
  EXPECT_EQ(Get("fraud").value()->uid, live->uid);
}

TEST_F(AuthorityTest, OnlyDeletedLeavesARestoredWorkspaceAlone) {
  const WorkspacePtr made = Create("fraud");
  DeleteArgs args = {.project = Project("fraud"),
                     .force = true,
                     .uid = made->uid,
                     .permanent = true,
                     .only_deleted = true};
  for (const bool validate_only : {false, true}) {
    args.validate_only = validate_only;
    EXPECT_THAT(authority.Delete(args), kNotFound);
  }
  EXPECT_EQ(Get("fraud").value()->uid, made->uid);
  Delete("fraud");
  EXPECT_EQ(authority.Delete(args).value().workspace->uid, made->uid);
  args.validate_only = false;
  EXPECT_TRUE(authority.Delete(args).value().purged);
  EXPECT_THAT(Listed(true), IsEmpty());
}

TEST_F(AuthorityTest, OnlyDeletedIgnoresACorruptRecord) {
  const WorkspacePtr made = Create("fraud");
  Delete("fraud");
  Create("fraud");
  catalog.corrupt = true;
  DeleteArgs args = {.project = Project("fraud"),
                     .force = true,
                     .uid = made->uid,
                     .permanent = true,
                     .only_deleted = true,
                     .validate_only = true};
  EXPECT_EQ(authority.Delete(args).value().workspace->uid, made->uid);
  args.validate_only = false;
  EXPECT_TRUE(authority.Delete(args).value().purged);
}

TEST_F(AuthorityTest, PermanentMindsTheEtagInTheTrashToo) {
  const WorkspacePtr old = Create("fraud");
  Delete("fraud");
  DeleteArgs args = {.project = Project("fraud"),
                     .force = true,
                     .etag = "x",
                     .uid = old->uid,
                     .permanent = true};
  EXPECT_THAT(authority.Delete(args), kEtagMismatch);
  EXPECT_THAT(Listed(true), ElementsAre("fraud"));
  args.etag = old->etag;
  EXPECT_TRUE(authority.Delete(args).value().purged);
}

TEST_F(AuthorityTest, ACorruptWorkspaceCanBeDeletedButNotByUid) {
  Create("fraud");
  catalog.corrupt = true;
  EXPECT_THAT(authority.Delete(
                  {.project = Project("fraud"), .force = true, .uid = "x"}),
              IsError(StatusCode::kDataLoss, "WORKSPACE_CORRUPT"));
  const auto would = authority
                         .Delete({.project = Project("fraud"),
                                  .force = true,
                                  .validate_only = true})
                         .value();
  EXPECT_EQ(would.workspace->root_path, "/base/fraud");
  EXPECT_EQ(would.file_count, 3);
  EXPECT_OK(authority.Delete({.project = Project("fraud"), .force = true}));
}

TEST_F(AuthorityTest, UndeleteBringsBackAndRefusesATakenName) {
  const WorkspacePtr made = Create("fraud");
  Delete("fraud");
  EXPECT_EQ(authority.Undelete(Project("fraud"), "").value()->uid, made->uid);
  Delete("fraud");
  Create("fraud");
  EXPECT_THAT(authority.Undelete(Project("fraud"), made->uid), kExists);
  EXPECT_THAT(authority.Undelete(Project("fraud"), "0123"), kNotFound);
}

// --- validate_only ---

TEST_F(AuthorityTest, ValidateOnlyAnswersButChangesNothing) {
  EXPECT_OK(
      authority.Create({.project = Project("new"), .validate_only = true}));
  EXPECT_OK(authority.Update({.project = Project("new"),
                              .allow_missing = true,
                              .validate_only = true}));
  const WorkspacePtr made = Create("fraud");
  const auto updated = authority.Update({.project = Project("fraud"),
                                         .spec = {.metadata = {{"k", 1}}},
                                         .validate_only = true});
  EXPECT_EQ(updated.value().workspace->metadata, Metadata({{"k", 1}}));
  EXPECT_THAT(
      authority.Create({.project = Project("fraud"), .validate_only = true}),
      kExists);
  const auto deleted = authority
                           .Delete({.project = Project("fraud"),
                                    .force = true,
                                    .validate_only = true})
                           .value();
  EXPECT_EQ(deleted.file_count, 3);
  EXPECT_EQ(deleted.size_bytes, 300);
  EXPECT_FALSE(deleted.purged);
  EXPECT_EQ(catalog.commits, 1);
  EXPECT_THAT(Listed(true), ElementsAre("fraud"));
  EXPECT_EQ(Get("fraud").value()->etag, made->etag);
}

TEST_F(AuthorityTest, ValidateOnlyFindsWhatLiesInTheTrash) {
  const WorkspacePtr old = Create("fraud");
  Delete("fraud");
  Create("fraud");
  DeleteArgs args = {.project = Project("fraud"),
                     .force = true,
                     .uid = old->uid,
                     .permanent = true,
                     .validate_only = true};
  EXPECT_EQ(authority.Delete(args).value().workspace->uid, old->uid);
  args.permanent = false;
  EXPECT_THAT(authority.Delete(args), kNotFound);
  EXPECT_THAT(Listed(true), SizeIs(2));
}

// --- List and Status ---

TEST_F(AuthorityTest, ListGoesOnByTokenToTheEnd) {
  for (int i = 0; i < 25; ++i) Create(absl::StrCat("p", 10 + i));
  std::vector<std::string> names;
  ListArgs args = {.page_size = 10};
  do {
    const ListResult page = authority.List(args).value();
    EXPECT_EQ(page.total_size, 25);
    for (const std::string& name : NamesOf(page.workspaces))
      names.push_back(name);
    args.page_token = page.next_page_token;
  } while (!args.page_token.empty());
  EXPECT_EQ(names, Listed());
}

TEST_F(AuthorityTest, PageSizesHaveADefaultAndALimit) {
  for (int i = 0; i < kMaxPageSize + 5; ++i) Create(absl::StrCat("p", i));
  EXPECT_THAT(authority.List({}).value().workspaces, SizeIs(kDefaultPageSize));
  EXPECT_THAT(authority.List({.page_size = 1'000'000}).value().workspaces,
              SizeIs(kMaxPageSize));
  EXPECT_THAT(authority.List({.page_size = -1}), kFieldInvalid);
  EXPECT_THAT(authority.List({.page_size = -1}),
              HasDetail("field", "page_size"));
}

TEST_F(AuthorityTest, ATokenIsForTheSameArguments) {
  for (const char* name : {"a", "b", "c"}) Create(name);
  const std::string token =
      authority.List({.page_size = 1, .order_by = "create_time desc"})
          .value()
          .next_page_token;
  EXPECT_OK(authority.List(
      {.page_size = 2, .page_token = token, .order_by = "create_time  desc"}));
  for (const ListArgs& other :
       {ListArgs{.page_token = token},
        ListArgs{.page_token = token, .order_by = "create_time"},
        ListArgs{.page_token = token,
        .order_by = "create_time desc",
        .show_deleted = true},
        ListArgs{.page_token = token + "x", .order_by = "create_time desc"}}) {
    EXPECT_THAT(authority.List(other),
                IsError(StatusCode::kInvalidArgument, "TOKEN_INVALID"));
  }
  EXPECT_THAT(authority.List({.order_by = "size"}),
              IsError(StatusCode::kInvalidArgument, "FILTER_INVALID"));
}

TEST_F(AuthorityTest, AFilterHoldsOnEveryPageAndItsMatchesAreCountedOnce) {
  // More than one chunk, with matches at both ends.
  for (int i = 0; i < 2 * kMaxPageSize + 5; ++i)
    Create(absl::StrFormat("p%04d", i));
  ListArgs args{
      .page_size = 2,
      .filter = Filter::Parse("p0000 OR p0001 OR p2003 OR p2004").value()};
  ListResult page = authority.List(args).value();
  EXPECT_THAT(NamesOf(page.workspaces), ElementsAre("p0000", "p0001"));
  EXPECT_EQ(page.total_size, 4);
  Delete("p0000");
  args.page_token = page.next_page_token;
  page = authority.List(args).value();
  EXPECT_THAT(NamesOf(page.workspaces), ElementsAre("p2003", "p2004"));
  EXPECT_EQ(page.total_size, 4);
  EXPECT_THAT(page.next_page_token, IsEmpty());
}

TEST_F(AuthorityTest, AListShowsOnlyWhatTheCallerSees) {
  for (int i = 0; i < kMaxPageSize + 5; ++i)
    Create(absl::StrFormat("other%04d", i));
  for (const char* name : {"mine1", "mine2", "theirs"}) Create(name);
  const Sight mine = {.caller = "robot", .sees = [](absl::string_view project) {
                        return absl::StartsWith(project, "mine");
                      }};
  ListArgs args{.page_size = 1, .sight = mine};
  const ListResult first = authority.List(args).value();
  EXPECT_THAT(NamesOf(first.workspaces), ElementsAre("mine1"));
  EXPECT_EQ(first.total_size, 2);
  EXPECT_EQ(authority.Count(mine).value(), 2);
  args.page_token = first.next_page_token;
  const ListResult second = authority.List(args).value();
  EXPECT_THAT(NamesOf(second.workspaces), ElementsAre("mine2"));
  EXPECT_THAT(second.next_page_token, IsEmpty());
  args.sight.caller = "another";
  EXPECT_THAT(authority.List(args),
              IsError(StatusCode::kInvalidArgument, "TOKEN_INVALID"));
}

TEST_F(AuthorityTest, ATokenIsForTheSameFilter) {
  for (const char* name : {"a1", "a2", "b"}) Create(name);
  const Filter filter = Filter::Parse("a*").value();
  const std::string token = authority.List({.page_size = 1, .filter = filter})
                                .value()
                                .next_page_token;
  const auto names = [](const absl::StatusOr<ListResult>& result) {
    return NamesOf(result.value().workspaces);
  };
  EXPECT_THAT(names(authority.List({.page_token = token, .filter = filter})),
              ElementsAre("a2"));
  EXPECT_THAT(authority.List({.page_token = token}),
              IsError(StatusCode::kInvalidArgument, "TOKEN_INVALID"));
  EXPECT_THAT(authority.List(
                  {.page_token = token, .filter = Filter::Parse("a").value()}),
              IsError(StatusCode::kInvalidArgument, "TOKEN_INVALID"));
}

TEST_F(AuthorityTest, AFilterAsksForEachRecordWhetherSomebodyWaits) {
  for (int i = 0; i < 5; ++i) Create(absl::StrCat("p", i));
  int asked = 0;
  const auto cancelled = [&asked] { return ++asked == 3; };
  EXPECT_THAT(authority.List({.filter = Filter::Parse("p").value()}, cancelled)
                  .status(),
              IsError(StatusCode::kCancelled, ""));
  EXPECT_EQ(asked, 3);
}

TEST_F(AuthorityTest, ADeletionThatNobodyWaitsForEnds) {
  Create("fraud");
  const auto cancelled = [] { return true; };
  const DeleteArgs args = {
      .project = Project("fraud"), .force = true, .validate_only = true};
  EXPECT_THAT(authority.Delete(args, cancelled).status(),
              IsError(StatusCode::kCancelled, ""));
  EXPECT_OK(Get("fraud"));
}

TEST_F(AuthorityTest, WhatCouldNotBeReadBackIsNeverAcknowledged) {
  Metadata deep = Metadata(std::vector<int>(32'600, 0));
  for (int i = 0; i < 14; ++i) deep = Metadata{{"a", deep}};
  for (const bool validate_only : {false, true}) {
    const CreateArgs args = {.project = Project("fraud"),
                             .metadata = deep,
                             .validate_only = validate_only};
    EXPECT_THAT(authority.Create(args), kFieldInvalid);
    EXPECT_THAT(authority.Ensure(args), kFieldInvalid);
  }
  Create("fraud");
  EXPECT_THAT(authority.Update(
                  {.project = Project("fraud"), .spec = {.metadata = deep}}),
              kFieldInvalid);
  EXPECT_THAT(authority.Ensure({.project = Project("fraud"), .metadata = deep}),
              kFieldInvalid);
}

// ListWorkspaces' promise, tested with walks during constant changes.
TEST_F(AuthorityTest, WhatExistsDuringAWholeWalkComesExactlyOnce) {
  for (int i = 0; i < 500; ++i) Create(absl::StrCat("stays", i));
  std::atomic<bool> done = false;
  std::thread changes([&] {
    for (int i = 0; !done; ++i) {
      const std::string name = absl::StrCat(i % 2 == 0 ? "a" : "z", i % 37);
      if (!authority.Create({.project = Project(name)}).ok()) Delete(name);
    }
  });
  for (const char* order :
       {"project", "project desc", "create_time", "create_time desc"}) {
    ListArgs args{.page_size = 7,
                  .filter = Filter::Parse("stays OR a OR z").value(),
                  .order_by = order};
    std::map<std::string, int> seen;
    do {
      const ListResult page = authority.List(args).value();
      for (const WorkspacePtr& workspace : page.workspaces)
        ++seen[workspace->project.str()];
      args.page_token = page.next_page_token;
    } while (!args.page_token.empty());
    for (int i = 0; i < 500; ++i)
      EXPECT_EQ(seen[absl::StrCat("stays", i)], 1) << order;
  }
  done = true;
  changes.join();
}

TEST_F(AuthorityTest, CountIsOfWhatIsNotDeleted) {
  for (const char* name : {"a", "b", "c"}) Create(name);
  Delete("b");
  EXPECT_EQ(authority.Count().value(), 2);
}

constexpr StatusArgs kFiveSeconds = {.max_staleness = absl::Seconds(5)};

TEST_F(AuthorityTest, StatusCountsOnceWithinTheStaleness) {
  Create("fraud");
  EXPECT_EQ(authority.Status(Project("fraud"), kFiveSeconds, NeverCancelled)
                .value()
                .usage.size_bytes(),
            300);
  EXPECT_OK(authority.Status(Project("fraud"), kFiveSeconds, NeverCancelled));
  EXPECT_EQ(scans, 1);
  clock.Advance(absl::Seconds(6));
  EXPECT_OK(authority.Status(Project("fraud"), kFiveSeconds, NeverCancelled));
  EXPECT_EQ(scans, 2);
  EXPECT_THAT(authority.Status(Project("churn"), kFiveSeconds, NeverCancelled),
              kNotFound);
}

TEST_F(AuthorityTest, StatusTellsWhetherTheQuotaIsExceeded) {
  const auto over = [&](const Quota& quota, bool counts_only = false) {
    EXPECT_OK(authority.Update(
        {.project = Project("fraud"),
         .spec = {.quota = quota, .mask = std::vector<std::string>{"*"}}}));
    return authority
        .Status(Project("fraud"), {.counts_only = counts_only}, NeverCancelled)
        .value()
        .over_quota;
  };
  EXPECT_OK(authority.Create(
      {.project = Project("fraud"), .quota = {.max_file_count = 3}}));
  EXPECT_EQ(Get("fraud").value()->quota, Quota{.max_file_count = 3});
  EXPECT_FALSE(over({.max_size_bytes = 300, .max_file_count = 3}));
  EXPECT_TRUE(over({.max_size_bytes = 299}));
  EXPECT_TRUE(over({.max_file_count = 2}, true));
  EXPECT_FALSE(over({}));
}

TEST_F(AuthorityTest, TheLedgerIsToldOfQuotasAndDeletions) {
  UsageLedger ledger(
      [this](const Workspace& w, bool, Cancelled c) { return Scan(w, c); });
  authority.SetUsageLedger(&ledger);
  EXPECT_OK(authority.Create(
      {.project = Project("fraud"), .quota = {.max_file_count = 3}}));
  EXPECT_OK(ledger.Scan(*Get("fraud").value(), false, NeverCancelled));
  EXPECT_EQ(ledger.over_quota_count(), 0);
  EXPECT_OK(authority.Update(
      {.project = Project("fraud"), .spec = {.quota = {.max_file_count = 1}}}));
  EXPECT_EQ(ledger.over_quota_count(), 1);
  Delete("fraud");
  EXPECT_EQ(ledger.over_quota_count(), 0);
}

TEST_F(AuthorityTest, AWorkspaceInTheTrashCanBeCounted) {
  Create("fraud");
  const std::string uid = Delete("fraud").workspace->uid;
  Create("fraud");
  const auto counted = authority.StatusInTrash(Project("fraud"), uid,
                                               kFiveSeconds, NeverCancelled);
  ASSERT_OK(counted);
  EXPECT_EQ(counted->workspace->uid, uid);
  EXPECT_TRUE(counted->workspace->delete_time.has_value());
  EXPECT_EQ(counted->usage.file_count(), 3);
  for (const std::string& other :
       {Get("fraud").value()->uid, std::string("none")}) {
    EXPECT_THAT(authority.StatusInTrash(Project("fraud"), other, kFiveSeconds,
                                        NeverCancelled),
                kNotFound);
  }
  during_scan = [] { return absl::NotFoundError("restored meanwhile"); };
  EXPECT_THAT(
      authority.StatusInTrash(Project("fraud"), uid, {}, NeverCancelled),
      kNotFound);
}

TEST_F(AuthorityTest, StatusIsExactByDefault) {
  Create("fraud");
  EXPECT_OK(authority.Status(Project("fraud"), kFiveSeconds, NeverCancelled));
  EXPECT_OK(authority.Status(Project("fraud"), {}, NeverCancelled));
  EXPECT_EQ(scans, 2);
}

TEST_F(AuthorityTest, AWorkspaceThatGoesWhileItIsCountedIsNotFound) {
  Create("fraud");
  during_scan = [this] {
    Delete("fraud");
    return absl::NotFoundError("fraud");
  };
  EXPECT_THAT(authority.Status(Project("fraud"), kFiveSeconds, NeverCancelled),
              kNotFound);
}

TEST_F(AuthorityTest, AWorkspaceThatIsMadeAnewWhileItIsCountedIsCountedAnew) {
  Create("fraud");
  during_scan = [this] {
    Delete("fraud");
    Create("fraud");
    return absl::NotFoundError("fraud");
  };
  EXPECT_OK(authority.Status(Project("fraud"), kFiveSeconds, NeverCancelled));
  EXPECT_EQ(scans, 2);
}

// --- Leases ---

class AuthorityLeaseTest : public AuthorityTest {
 protected:
  AuthorityLeaseTest() { Create("fraud"); }

  int64_t Acquire(const std::string& holder) {
    const auto acquired =
        authority.AcquireLease(Project("fraud"), holder, absl::Seconds(60));
    EXPECT_OK(acquired);
    return acquired.ok() ? acquired->lease.fence : -1;
  }
  absl::StatusOr<UpdateResult> Update(int64_t fence,
                                      bool validate_only = false) {
    return authority.Update({.project = Project("fraud"),
                             .spec = {.metadata = {{"fence", fence}}},
                             .allow_missing = true,
                             .validate_only = validate_only,
                             .fence = fence});
  }
  DeleteArgs DeletionWith(int64_t fence) {
    return {.project = Project("fraud"), .force = true, .fence = fence};
  }

  const testing::Matcher<absl::Status> held =
      IsError(StatusCode::kFailedPrecondition, "LEASE_HELD");
  const testing::Matcher<absl::Status> lost =
      IsError(StatusCode::kFailedPrecondition, "LEASE_LOST");
};

TEST_F(AuthorityLeaseTest, ALeaseNeedsAWorkspace) {
  EXPECT_THAT(authority.AcquireLease(Project("none"), "a", absl::Seconds(60)),
              kNotFound);
  EXPECT_THAT(authority.ReleaseLease(Project("none"), "a", false), kNotFound);
}

TEST_F(AuthorityLeaseTest, OnlyTheFenceUpdates) {
  const int64_t fence = Acquire("a");
  EXPECT_THAT(Update(0).status(), held);
  EXPECT_THAT(Update(0, /*validate_only=*/true).status(), held);
  EXPECT_THAT(Update(fence + 1).status(), lost);
  EXPECT_OK(Update(fence));
  ASSERT_TRUE(authority.ReleaseLease(Project("fraud"), "a", false).value());
  EXPECT_THAT(Update(fence).status(), lost);
  EXPECT_OK(Update(0));
}

TEST_F(AuthorityLeaseTest, NoWayOfDeletionOverridesALease) {
  const int64_t fence = Acquire("a");
  for (const bool permanent : {false, true}) {
    for (const bool validate_only : {false, true}) {
      DeleteArgs args = DeletionWith(0);
      args.permanent = permanent;
      args.validate_only = validate_only;
      args.allow_missing = true;
      EXPECT_THAT(authority.Delete(args).status(), held);
      args.fence = fence + 1;
      EXPECT_THAT(authority.Delete(args).status(), lost);
    }
  }
  EXPECT_OK(authority.Delete(DeletionWith(fence)));
}

TEST_F(AuthorityLeaseTest, TheLeaseEndsWithTheDeletion) {
  const std::string uid = Get("fraud").value()->uid;
  const int64_t fence = Acquire("a");
  ASSERT_OK(authority.Delete(DeletionWith(fence)));
  EXPECT_EQ(authority.lease_count(), 0u);
  // A lease does not protect the trash.
  ASSERT_OK(authority.Undelete(Project("fraud"), ""));
  EXPECT_FALSE(authority.LeaseOf(**Get("fraud")).has_value());
  EXPECT_THAT(Update(fence).status(), lost);
  const int64_t second = Acquire("a");
  EXPECT_GT(second, fence);
  // A repeated deletion whose first answer was lost.
  ASSERT_OK(authority.Delete(DeletionWith(second)));
  DeleteArgs again = DeletionWith(second);
  again.allow_missing = true;
  EXPECT_OK(authority.Delete(again));
  again.uid = uid;
  again.permanent = true;
  EXPECT_TRUE(authority.Delete(again)->purged);
  // Fences grow for the next workspace of that name, too.
  EXPECT_THAT(Update(second).status(), lost);
  Create("fraud");
  EXPECT_GT(Acquire("b"), second);
}

TEST_F(AuthorityLeaseTest, ACorruptWorkspaceCanBeDeletedByItsHolderOnly) {
  const int64_t fence = Acquire("a");
  catalog.corrupt = true;
  EXPECT_THAT(authority.Delete(DeletionWith(0)).status(), held);
  EXPECT_THAT(
      authority.AcquireLease(Project("fraud"), "a", absl::Seconds(60)).status(),
      IsError(StatusCode::kDataLoss, "WORKSPACE_CORRUPT"));
  EXPECT_OK(authority.Delete(DeletionWith(fence)));
}

TEST_F(AuthorityLeaseTest, WhatChangesNothingNeedsNoFence) {
  Acquire("a");
  EXPECT_FALSE(authority.Ensure({.project = Project("fraud")})->created);
  EXPECT_OK(authority.Status(Project("fraud"), {}, NeverCancelled));
  EXPECT_EQ(authority.LeaseOf(**Get("fraud"))->holder, "a");
}

TEST_F(AuthorityLeaseTest, ExpiredLeasesEnd) {
  Acquire("a");
  authority.EndExpiredLeases();
  EXPECT_EQ(authority.lease_count(), 1u);
  clock.Advance(absl::Seconds(60));
  EXPECT_FALSE(authority.LeaseOf(**Get("fraud")).has_value());
  EXPECT_OK(Update(0));
  authority.EndExpiredLeases();
  EXPECT_EQ(authority.lease_count(), 0u);
}

TEST_F(AuthorityLeaseTest, AcquiringWaitsForAnUpdateInFlight) {
  const int64_t fence = Acquire("a");
  std::atomic<bool> acquired = false;
  std::thread next;
  // While the first holder's update is committed, its lease expires and
  // another one wants it.
  catalog.before_commit = [&] {
    if (next.joinable()) return;
    clock.Advance(absl::Seconds(60));
    next = std::thread([&] {
      Acquire("b");
      acquired = true;
    });
    absl::SleepFor(absl::Milliseconds(20));
    EXPECT_FALSE(acquired);
  };
  EXPECT_OK(Update(fence));
  next.join();
  EXPECT_THAT(Update(fence).status(), lost);
}

}  // namespace
}  // namespace mlops::core
