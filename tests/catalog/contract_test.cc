// Tests what every catalog promises (service/core/catalog.h), for each of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <thread>

#include "absl/strings/str_cat.h"
#include "proto/cpp/base/error.h"
#include "service/core/authority.h"
#include "tests/catalog/harness.h"
#include "tests/support/matchers.h"
#include "tests/support/workspaces.h"

namespace mlops::catalog {
namespace {

using absl::StatusCode;
using core::CreateChange;
using core::DeleteChange;
using core::ListPage;
using core::ListQuery;
using core::MakeOrderKey;
using core::OrderField;
using core::OrderKey;
using core::PurgeChange;
using core::ReplaceChange;
using core::UndeleteChange;
using core::Workspace;
using core::WorkspacePtr;
using support::HasDetail;
using support::IsError;
using support::NamesOf;
using support::Project;
using support::TimeAt;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;
using testing::UnorderedElementsAre;

struct Kind {
  std::string name;
  std::function<std::unique_ptr<Harness>()> make;

  friend void PrintTo(const Kind& kind, std::ostream* out) {
    *out << kind.name;
  }
};

class CatalogContract : public testing::TestWithParam<Kind> {
 protected:
  Workspace New(absl::string_view name, int64_t seconds = 0) {
    return support::NewWorkspace(name, harness->base_path(), seconds);
  }
  WorkspacePtr Create(absl::string_view name, int64_t seconds = 0) {
    return Commit(CreateChange{New(name, seconds)});
  }
  WorkspacePtr Delete(absl::string_view name) {
    return Commit(DeleteChange{.project = Project(name)});
  }
  WorkspacePtr Commit(const core::Change& change) {
    return TryCommit(change).value().workspace;
  }
  absl::StatusOr<core::CommitResult> TryCommit(const core::Change& change) {
    return harness->catalog().Commit(change);
  }
  absl::StatusOr<WorkspacePtr> Get(absl::string_view name) {
    return harness->catalog().Get(Project(name));
  }
  ListPage List(const ListQuery& query = {}) {
    return harness->catalog().List(query).value();
  }

  // Returns the names of a whole walk in pages of `query.page_size`.
  // Calls `between` after each page.
  std::vector<std::string> Walk(
      ListQuery query, const std::function<void()>& between = [] {}) {
    std::vector<std::string> names;
    while (true) {
      const ListPage page = List(query);
      for (const WorkspacePtr& workspace : page.workspaces)
        names.push_back(workspace->project.str());
      if (!page.more) return names;
      query.after = MakeOrderKey(*page.workspaces.back(), query.order.field);
      between();
    }
  }

  std::unique_ptr<Harness> harness = GetParam().make();
};

// Matches a workspace with the same values in all fields that a catalog stores.
MATCHER_P(SameAs, other, "") {
  const Workspace &a = arg, &b = other;
  return a.project == b.project && a.uid == b.uid &&
         a.root_path == b.root_path && a.settings == b.settings &&
         a.metadata == b.metadata && a.create_time == b.create_time &&
         a.update_time == b.update_time && a.delete_time == b.delete_time &&
         a.request_id == b.request_id && a.unknown_keys == b.unknown_keys;
}

// --- Get and Create ---

TEST_P(CatalogContract, GetOfNoWorkspaceIsNotFound) {
  EXPECT_THAT(Get("fraud"),
              IsError(StatusCode::kNotFound, "WORKSPACE_NOT_FOUND"));
  EXPECT_THAT(Get("fraud"), HasDetail("project", "fraud"));
}

TEST_P(CatalogContract, CreateReturnsWhatGetReads) {
  const WorkspacePtr created = Create("fraud");
  EXPECT_THAT(*created, SameAs(New("fraud")));
  EXPECT_THAT(*Get("fraud").value(), SameAs(*created));
  EXPECT_EQ(Get("fraud").value()->etag, created->etag);
  EXPECT_THAT(created->etag, testing::MatchesRegex("[0-9a-f]{16}"));
}

TEST_P(CatalogContract, AStagedDirectoryBecomesTheWorkspace) {
  const WorkspacePtr created = Commit(
      CreateChange{.workspace = New("fraud"), .staged = harness->Stage()});
  EXPECT_THAT(*created, SameAs(New("fraud")));
  EXPECT_THAT(*Get("fraud").value(), SameAs(*created));
  EXPECT_THAT(TryCommit(CreateChange{.workspace = New("fraud"),
                                     .staged = harness->Stage()}),
              IsError(StatusCode::kAlreadyExists, "WORKSPACE_EXISTS"));
  EXPECT_THAT(*Get("fraud").value(), SameAs(*created));
}

TEST_P(CatalogContract, CreateIgnoresTheGivenEtag) {
  Workspace workspace = New("fraud");
  workspace.etag = "of another";
  EXPECT_NE(Commit(CreateChange{workspace})->etag, "of another");
  EXPECT_NE(Get("fraud").value()->etag, "of another");
}

TEST_P(CatalogContract, CreateRefusesATakenName) {
  const WorkspacePtr first = Create("fraud", 1);
  const auto second = TryCommit(CreateChange{New("fraud", 2)});
  EXPECT_THAT(second, IsError(StatusCode::kAlreadyExists, "WORKSPACE_EXISTS"));
  EXPECT_THAT(second, HasDetail("uid", first->uid));
  EXPECT_THAT(*Get("fraud").value(), SameAs(*first));
}

TEST_P(CatalogContract, NamesAreCaseSensitive) {
  Create("Fraud", 1);
  Create("fraud", 2);
  EXPECT_EQ(Get("Fraud").value()->create_time, TimeAt(1));
  EXPECT_EQ(Get("fraud").value()->create_time, TimeAt(2));
}

TEST_P(CatalogContract, EveryKindOfMetadataComesBackEqualAndOfItsType) {
  Workspace workspace = New("fraud");
  workspace.metadata = core::Metadata::parse(
      R"({"int": 7, "negative": -9007199254740991, "float": 0.1, "whole": 2.0,
      "tiny": 1e-300, "big": 4503599627370496.5, "-0": -0.5, "bool": true, "null": null, "text": "yes", "digits": "007", "empty": "",
      "newline": "a\nb\tc", "quote": "\"'\\", "unicode": "Größe 🚀 日本", "list": [1, "1", [], {}, [null]],
      "map": {"a": {"b": {"c": [true]}}}, "key with: colon #": 1, "": 2, "-": 3, "yes": 4})");
  Commit(CreateChange{workspace});
  harness->Reopen();
  const core::Metadata read = Get("fraud").value()->metadata;
  EXPECT_EQ(read, workspace.metadata);
  for (const auto& [key, value] : workspace.metadata.items()) {
    // 2 and 2.0 would compare equal.
    EXPECT_EQ(read[key].is_number_float(), value.is_number_float()) << key;
    EXPECT_STREQ(read[key].type_name(), value.type_name()) << key;
  }
}

TEST_P(CatalogContract, AbsentAndEmptySettingsStayApart) {
  Workspace workspace = New("fraud");
  workspace.settings = {.mlflow_experiment_id = "",
                        .dvc_remote_path = "s3://bucket/päth with space"};
  Commit(CreateChange{workspace});
  harness->Reopen();
  EXPECT_EQ(Get("fraud").value()->settings, workspace.settings);
}

TEST_P(CatalogContract, RequestIdAndUnknownKeysAreKept) {
  Workspace workspace = New("fraud");
  workspace.request_id = "try-1";
  workspace.unknown_keys = "team:\n  lead: ana\n  size: 0x1f\n";
  Commit(CreateChange{workspace});
  harness->Reopen();
  EXPECT_THAT(*Get("fraud").value(), SameAs(workspace));
}

// --- Replace ---

TEST_P(CatalogContract, ReplaceStoresAllOfTheNewRecord) {
  Workspace next = *Create("fraud");
  next.metadata = {{"owner", "bob"}, {"n", 3}};
  next.settings.mlflow_experiment_id = "12";
  next.update_time = TimeAt(9);
  const WorkspacePtr replaced =
      Commit(ReplaceChange{.workspace = next, .expected_etag = next.etag});
  EXPECT_THAT(*replaced, SameAs(next));
  EXPECT_NE(replaced->etag, next.etag);
  EXPECT_THAT(*Get("fraud").value(), SameAs(next));
  EXPECT_EQ(Get("fraud").value()->etag, replaced->etag);
}

TEST_P(CatalogContract, ReplaceOfAnotherEtagChangesNothing) {
  Workspace next = *Create("fraud");
  const std::string etag = next.etag;
  next.metadata = {{"owner", "bob"}};
  const auto result = TryCommit(
      ReplaceChange{.workspace = next, .expected_etag = "0123456789abcdef"});
  EXPECT_THAT(result, IsError(StatusCode::kAborted, "ETAG_MISMATCH"));
  EXPECT_THAT(result, HasDetail("etag", "0123456789abcdef"));
  EXPECT_THAT(result, HasDetail("current_etag", etag));
  EXPECT_EQ(Get("fraud").value()->etag, etag);
}

TEST_P(CatalogContract, AnEtagIsGoodForOneChange) {
  Workspace next = *Create("fraud");
  const std::string etag = next.etag;
  for (const char* owner : {"bob", "eve"}) {
    next.metadata = {{"owner", owner}};
    const auto result =
        TryCommit(ReplaceChange{.workspace = next, .expected_etag = etag});
    EXPECT_EQ(result.ok(), next.metadata["owner"] == "bob");
  }
  EXPECT_EQ(Get("fraud").value()->metadata["owner"], "bob");
}

TEST_P(CatalogContract, ReplaceOfNoWorkspaceIsNotFound) {
  const auto result = TryCommit(ReplaceChange{
      .workspace = New("fraud"), .expected_etag = "0123456789abcdef"});
  EXPECT_THAT(result, IsError(StatusCode::kNotFound, "WORKSPACE_NOT_FOUND"));
  EXPECT_THAT(Get("fraud"),
              IsError(StatusCode::kNotFound, "WORKSPACE_NOT_FOUND"));
}

TEST_P(CatalogContract, EqualRecordsHaveEqualEtags) {
  const WorkspacePtr first = Create("fraud");
  Workspace next = *first;
  next.metadata["owner"] = "bob";
  const std::string etag =
      Commit(ReplaceChange{.workspace = next, .expected_etag = first->etag})
          ->etag;
  EXPECT_NE(etag, first->etag);
  EXPECT_EQ(
      Commit(ReplaceChange{.workspace = *first, .expected_etag = etag})->etag,
      first->etag);
}

// --- Delete, undelete, purge ---

TEST_P(CatalogContract, DeleteMovesIntoTheTrashAndFreesTheName) {
  const WorkspacePtr created = Create("fraud", 1);
  const WorkspacePtr deleted = Delete("fraud");
  EXPECT_EQ(deleted->uid, created->uid);
  EXPECT_EQ(deleted->metadata, created->metadata);
  ASSERT_TRUE(deleted->delete_time && deleted->purge_time);
  EXPECT_EQ(*deleted->purge_time - *deleted->delete_time, absl::Hours(72));
  EXPECT_LE(*deleted->delete_time, harness->clock.Now());
  EXPECT_THAT(Get("fraud"),
              IsError(StatusCode::kNotFound, "WORKSPACE_NOT_FOUND"));
  EXPECT_EQ(Create("fraud", 2)->create_time, TimeAt(2));
}

TEST_P(CatalogContract, DeleteOfNoWorkspaceIsNotFound) {
  EXPECT_THAT(TryCommit(DeleteChange{.project = Project("fraud")}),
              IsError(StatusCode::kNotFound, "WORKSPACE_NOT_FOUND"));
  Create("fraud");
  Delete("fraud");
  EXPECT_THAT(TryCommit(DeleteChange{.project = Project("fraud")}),
              IsError(StatusCode::kNotFound, "WORKSPACE_NOT_FOUND"));
}

TEST_P(CatalogContract, DeleteWithAnEtagNeedsTheCurrentOne) {
  const WorkspacePtr created = Create("fraud");
  const auto refused = TryCommit(DeleteChange{
      .project = Project("fraud"), .expected_etag = "0123456789abcdef"});
  EXPECT_THAT(refused, IsError(StatusCode::kAborted, "ETAG_MISMATCH"));
  EXPECT_THAT(refused, HasDetail("current_etag", created->etag));
  EXPECT_OK(Get("fraud"));
  EXPECT_OK(TryCommit(DeleteChange{.project = Project("fraud"),
                                   .expected_etag = created->etag}));
}

TEST_P(CatalogContract, UndeleteBringsEverythingBack) {
  Workspace workspace = New("fraud");
  workspace.request_id = "try-1";
  workspace.unknown_keys = "team: risk\n";
  const WorkspacePtr created = Commit(CreateChange{workspace});
  Delete("fraud");
  harness->Reopen();
  if (harness->durable()) {
    const WorkspacePtr restored =
        Commit(UndeleteChange{.project = Project("fraud")});
    EXPECT_THAT(*restored, SameAs(*created));
    EXPECT_EQ(restored->purge_time, std::nullopt);
    EXPECT_EQ(restored->etag, created->etag);
    EXPECT_THAT(List({.show_deleted = true}).workspaces, SizeIs(1));
  }
}

TEST_P(CatalogContract, UndeleteTakesTheOneDeletedLast) {
  for (const int64_t seconds : {1, 3, 2}) {
    Create("fraud", seconds);
    Delete("fraud");
    harness->clock.Advance(absl::Seconds(1));
  }
  EXPECT_EQ(Commit(UndeleteChange{.project = Project("fraud")})->create_time,
            TimeAt(2));
  EXPECT_EQ(Get("fraud").value()->create_time, TimeAt(2));
  EXPECT_EQ(List({.show_deleted = true}).total_size, 3);
}

TEST_P(CatalogContract, UndeleteTakesTheOneNamedByUid) {
  for (const int64_t seconds : {1, 2, 3}) {
    Create("fraud", seconds);
    Delete("fraud");
  }
  const std::string uid = New("fraud", 2).uid;
  EXPECT_EQ(Commit(UndeleteChange{.project = Project("fraud"), .uid = uid})
                ->create_time,
            TimeAt(2));
  EXPECT_THAT(
      TryCommit(UndeleteChange{.project = Project("fraud"), .uid = uid}),
      IsError(StatusCode::kNotFound, "WORKSPACE_NOT_FOUND"));
}

TEST_P(CatalogContract, UndeleteRefusesATakenNameAndKeepsTheTrash) {
  Create("fraud", 1);
  Delete("fraud");
  const WorkspacePtr second = Create("fraud", 2);
  const auto refused = TryCommit(UndeleteChange{.project = Project("fraud")});
  EXPECT_THAT(refused, IsError(StatusCode::kAlreadyExists, "WORKSPACE_EXISTS"));
  EXPECT_THAT(refused, HasDetail("uid", second->uid));
  EXPECT_THAT(*Get("fraud").value(), SameAs(*second));
  Delete("fraud");
  EXPECT_OK(TryCommit(
      UndeleteChange{.project = Project("fraud"), .uid = New("fraud", 1).uid}));
}

TEST_P(CatalogContract, UndeleteOfWhatIsNotInTheTrashIsNotFound) {
  Create("fraud");
  Create("churn");
  Delete("churn");
  const auto not_found = IsError(StatusCode::kNotFound, "WORKSPACE_NOT_FOUND");
  EXPECT_THAT(TryCommit(UndeleteChange{.project = Project("fraud")}),
              not_found);
  EXPECT_THAT(
      TryCommit(UndeleteChange{.project = Project("churn"), .uid = "0123"}),
      not_found);
  EXPECT_THAT(TryCommit(UndeleteChange{.project = Project("chur")}), not_found);
}

TEST_P(CatalogContract, PurgeRemovesOneFromTheTrashForGood) {
  for (const int64_t seconds : {1, 2}) {
    Create("fraud", seconds);
    Delete("fraud");
  }
  Create("fraud", 3);
  const std::string uid = New("fraud", 1).uid;
  EXPECT_EQ(Commit(PurgeChange{.project = Project("fraud"), .uid = uid})->uid,
            uid);
  EXPECT_THAT(
      TryCommit(UndeleteChange{.project = Project("fraud"), .uid = uid}),
      IsError(StatusCode::kNotFound, "WORKSPACE_NOT_FOUND"));
  EXPECT_EQ(List({.show_deleted = true}).total_size, 2);
  harness->Reopen();
  EXPECT_EQ(List({.show_deleted = true}).total_size, 2);
  EXPECT_EQ(Get("fraud").value()->create_time, TimeAt(3));
}

TEST_P(CatalogContract, PurgeNeverTouchesALiveWorkspace) {
  const WorkspacePtr live = Create("fraud");
  const auto not_found = IsError(StatusCode::kNotFound, "WORKSPACE_NOT_FOUND");
  EXPECT_THAT(
      TryCommit(PurgeChange{.project = Project("fraud"), .uid = live->uid}),
      not_found);
  EXPECT_THAT(
      TryCommit(PurgeChange{.project = Project("churn"), .uid = live->uid}),
      not_found);
  EXPECT_THAT(*Get("fraud").value(), SameAs(*live));
}

TEST_P(CatalogContract, TwoDeletedWorkspacesOfOneUidAreBothKept) {
  // This happens if someone restores a backup of a deleted workspace
  // and then deletes it.
  Create("fraud", 1);
  const WorkspacePtr first = Delete("fraud");
  Create("fraud", 1);
  const WorkspacePtr second = Delete("fraud");
  EXPECT_NE(first->uid, second->uid);
  EXPECT_EQ(List({.show_deleted = true}).total_size, 2);
  harness->Reopen();
  EXPECT_EQ(List({.show_deleted = true}).total_size, 2);
  EXPECT_OK(
      TryCommit(PurgeChange{.project = Project("fraud"), .uid = second->uid}));
  EXPECT_OK(TryCommit(
      UndeleteChange{.project = Project("fraud"), .uid = first->uid}));
}

// --- List ---

TEST_P(CatalogContract, AnEmptyCatalogListsNothing) {
  const ListPage page = List({.show_deleted = true});
  EXPECT_THAT(page.workspaces, IsEmpty());
  EXPECT_FALSE(page.more);
  EXPECT_EQ(page.total_size, 0);
  EXPECT_THAT(page.unreachable, IsEmpty());
}

TEST_P(CatalogContract, ListsInOrderOfProjectByBytes) {
  for (const char* name : {"b", "a", "B", "a.b", "a-b", "ab"}) Create(name);
  EXPECT_THAT(NamesOf(List().workspaces),
              ElementsAre("B", "a", "a-b", "a.b", "ab", "b"));
}

TEST_P(CatalogContract, ListsInEachOrderAndDirection) {
  for (const auto& [name, created, updated] :
       {std::tuple("a", 3, 3), {"b", 1, 9}, {"c", 2, 5}}) {
    Workspace workspace = New(name, created);
    workspace.update_time = TimeAt(updated);
    Commit(CreateChange{workspace});
  }
  const auto listed = [this](OrderField field, bool descending) {
    return NamesOf(
        List({.order = {.field = field, .descending = descending}}).workspaces);
  };
  EXPECT_THAT(listed(OrderField::kProject, false), ElementsAre("a", "b", "c"));
  EXPECT_THAT(listed(OrderField::kProject, true), ElementsAre("c", "b", "a"));
  EXPECT_THAT(listed(OrderField::kCreateTime, false),
              ElementsAre("b", "c", "a"));
  EXPECT_THAT(listed(OrderField::kCreateTime, true),
              ElementsAre("a", "c", "b"));
  EXPECT_THAT(listed(OrderField::kUpdateTime, false),
              ElementsAre("a", "c", "b"));
  EXPECT_THAT(listed(OrderField::kUpdateTime, true),
              ElementsAre("b", "c", "a"));
}

TEST_P(CatalogContract, EqualTimesAreListedInOrderOfProject) {
  for (const char* name : {"c", "a", "b"}) Create(name, 1);
  const ListQuery by_time = {.order = {.field = OrderField::kCreateTime},
                             .page_size = 1};
  EXPECT_THAT(Walk(by_time), ElementsAre("a", "b", "c"));
  const ListQuery down = {
      .order = {.field = OrderField::kCreateTime, .descending = true},
      .page_size = 2};
  EXPECT_THAT(Walk(down), ElementsAre("c", "b", "a"));
}

TEST_P(CatalogContract, AReplaceMovesAWorkspaceInTheOrderOfUpdates) {
  for (const auto& [name, seconds] : {std::pair("a", 1), {"b", 2}, {"c", 3}})
    Create(name, seconds);
  Workspace next = *Get("a").value();
  next.update_time = TimeAt(10);
  Commit(ReplaceChange{.workspace = next, .expected_etag = next.etag});
  EXPECT_THAT(
      NamesOf(List({.order = {.field = OrderField::kUpdateTime}}).workspaces),
      ElementsAre("b", "c", "a"));
  EXPECT_THAT(
      NamesOf(List({.order = {.field = OrderField::kCreateTime}}).workspaces),
      ElementsAre("a", "b", "c"));
}

TEST_P(CatalogContract, AWalkInPagesOfAnySizeIsTheWholeList) {
  std::vector<std::string> expected;
  for (int i = 0; i < 20; ++i) expected.push_back(absl::StrCat("p", 10 + i));
  for (const std::string& name : expected) Create(name);
  for (int page_size = 1; page_size <= 21; ++page_size) {
    EXPECT_EQ(Walk({.page_size = page_size}), expected);
    const ListPage page = List({.page_size = page_size});
    EXPECT_EQ(page.more, page_size < 20);
    EXPECT_EQ(page.total_size, 20);
  }
}

TEST_P(CatalogContract, APageGoesOnBehindAKeyThatVanished) {
  for (const char* name : {"a", "b", "c", "d"}) Create(name);
  const OrderKey after_b = {.project = "b"}, before_all = {.project = "A"},
                 behind_all = {.project = "z"};
  Delete("b");
  EXPECT_THAT(NamesOf(List({.after = after_b}).workspaces),
              ElementsAre("c", "d"));
  EXPECT_THAT(
      NamesOf(
          List({.order = {.descending = true}, .after = after_b}).workspaces),
      ElementsAre("a"));
  EXPECT_THAT(NamesOf(List({.after = before_all}).workspaces),
              ElementsAre("a", "c", "d"));
  EXPECT_THAT(NamesOf(List({.after = behind_all}).workspaces), IsEmpty());
}

TEST_P(CatalogContract, TotalSizeIsTheSameOnEveryPage) {
  for (const char* name : {"a", "b", "c"}) Create(name);
  Delete("b");
  const ListPage first = List({.page_size = 1});
  EXPECT_EQ(first.total_size, 2);
  EXPECT_EQ(
      List({.page_size = 1, .after = OrderKey{.project = "a"}}).total_size, 2);
  EXPECT_EQ(List({.page_size = 1, .show_deleted = true}).total_size, 3);
}

TEST_P(CatalogContract, DeletedWorkspacesAreListedOnlyOnRequest) {
  for (const int64_t seconds : {1, 2}) {
    Create("b", seconds);
    Delete("b");
  }
  for (const char* name : {"a", "b", "c"}) Create(name, 3);
  EXPECT_THAT(Walk({.page_size = 2}), ElementsAre("a", "b", "c"));
  EXPECT_THAT(Walk({.page_size = 2, .show_deleted = true}),
              ElementsAre("a", "b", "b", "b", "c"));
  EXPECT_THAT(Walk({.order = {.descending = true},
                    .page_size = 2,
                    .show_deleted = true}),
              ElementsAre("c", "b", "b", "b", "a"));
  const auto page = List({.show_deleted = true}).workspaces;
  EXPECT_EQ(page[1]->delete_time, std::nullopt);
  EXPECT_TRUE(page[2]->delete_time && page[3]->delete_time);
}

TEST_P(CatalogContract, WhatStaysIsListedOnceWhateverComesAndGoes) {
  for (const char* name : {"b", "d", "f", "h"}) Create(name);
  int round = 0;
  const auto disturb = [&] {
    Create(absl::StrCat("a", round));
    Create(absl::StrCat("g", round));
    if (round++ > 0) Delete("g0");
  };
  const std::vector<std::string> seen =
      Walk({.page_size = 1}, [&] { round < 2 ? disturb() : void(); });
  for (const char* name : {"b", "d", "f", "h"})
    EXPECT_THAT(seen, testing::Contains(name).Times(1)) << name;
}

// --- Durability and threads ---

TEST_P(CatalogContract, WhatIsCommittedOutlivesTheCatalog) {
  if (!harness->durable()) GTEST_SKIP() << "nothing outlives this catalog";
  const WorkspacePtr a = Create("a", 1);
  Workspace b = *Create("b", 2);
  b.metadata["round"] = 2;
  Commit(ReplaceChange{.workspace = b, .expected_etag = b.etag});
  Create("c", 3);
  const WorkspacePtr deleted = Delete("c");
  harness->Reopen();
  EXPECT_THAT(*Get("a").value(), SameAs(*a));
  EXPECT_THAT(*Get("b").value(), SameAs(b));
  const ListPage page = List({.show_deleted = true});
  EXPECT_THAT(NamesOf(page.workspaces), ElementsAre("a", "b", "c"));
  EXPECT_THAT(*page.workspaces[2], SameAs(*deleted));
  EXPECT_EQ(page.workspaces[2]->purge_time, deleted->purge_time);
}

TEST_P(CatalogContract, ThreadsOnDifferentProjectsDoNotDisturbEachOther) {
  constexpr int kThreads = 8, kRounds = 20;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([this, name = absl::StrCat("p", t)] {
      Create(name);
      for (int i = 0; i < kRounds; ++i) {
        Workspace next = *Get(name).value();
        next.metadata["round"] = i;
        Commit(ReplaceChange{.workspace = next, .expected_etag = next.etag});
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const ListPage page = List();
  EXPECT_THAT(page.workspaces, SizeIs(kThreads));
  for (const WorkspacePtr& workspace : page.workspaces)
    EXPECT_EQ(workspace->metadata["round"], kRounds - 1);
}

TEST_P(CatalogContract, ReadersSeeTheOldRecordOrTheNewOne) {
  constexpr int kRounds = 100;
  Create("fraud");
  std::atomic<bool> done = false;
  std::thread reader([&] {
    int64_t last = -1;
    while (!done) {
      const WorkspacePtr seen = Get("fraud").value();
      const int64_t round = seen->metadata.value("round", int64_t{-1});
      EXPECT_EQ(seen->update_time, round < 0 ? TimeAt(0) : TimeAt(round));
      EXPECT_GE(round, last);
      last = round;
    }
  });
  for (int64_t i = 0; i < kRounds; ++i) {
    Workspace next = *Get("fraud").value();
    next.metadata["round"] = i;
    next.update_time = TimeAt(i);
    Commit(ReplaceChange{.workspace = next, .expected_etag = next.etag});
  }
  done = true;
  reader.join();
}

// --- Below an authority ---

class CatalogBelowAuthority : public CatalogContract {
 protected:
  // Runs `work` on `count` threads.
  static void InThreads(int count, const std::function<void()>& work) {
    std::vector<std::thread> threads;
    for (int t = 0; t < count; ++t) threads.emplace_back(work);
    for (std::thread& thread : threads) thread.join();
  }

  core::Authority authority{&harness->catalog(), nullptr, harness->base_path(),
                            harness->clock.clock()};
};

TEST_P(CatalogBelowAuthority, OfRacingEnsuresExactlyOneCreates) {
  for (int n = 0; n < 5; ++n) {
    std::atomic<int> created = 0;
    InThreads(32, [&] {
      created += authority.Ensure({.project = Project(absl::StrCat("p", n))})
                         .value()
                         .created
                     ? 1
                     : 0;
    });
    EXPECT_EQ(created, 1);
  }
  EXPECT_EQ(List().total_size, 5);
}

TEST_P(CatalogBelowAuthority, UpdatesWithEtagsLoseNoUpdate) {
  constexpr int kThreads = 6, kEach = 10;
  Create("fraud");
  InThreads(kThreads, [&] {
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
  EXPECT_EQ(Get("fraud").value()->metadata["count"], kThreads * kEach);
}

TEST_P(CatalogBelowAuthority, ChangesOfAllKindsAtOnceLeaveWhatCanBeRead) {
  std::atomic<int> turn = 0;
  InThreads(8, [&] {
    for (int i = 0; i < 25; ++i) {
      const core::ProjectName project = Project(absl::StrCat("p", turn % 2));
      switch (turn++ % 5) {
        case 0:
          authority.Ensure({.project = project}).status().IgnoreError();
          break;
        case 1:
          authority
              .Update({.project = project,
                       .spec = {.metadata = {{"turn", turn.load()}}}})
              .status()
              .IgnoreError();
          break;
        case 2:
          authority.Delete({.project = project, .force = true})
              .status()
              .IgnoreError();
          break;
        case 3:
          authority.Undelete(project, "").status().IgnoreError();
          break;
        default:
          EXPECT_LE(List().workspaces.size(), 2);
      }
    }
  });
  const ListPage listed = List({.page_size = 1000, .show_deleted = true});
  harness->Reopen();
  EXPECT_EQ(NamesOf(List({.page_size = 1000, .show_deleted = true}).workspaces),
            NamesOf(listed.workspaces));
  for (const ListPage page = List();
       const WorkspacePtr& workspace : page.workspaces) {
    EXPECT_EQ(Get(workspace->project.str()).value()->uid, workspace->uid);
  }
}

const auto kKinds = testing::Values(
    Kind{"Memory", MakeMemoryHarness},
    Kind{"File", [] { return std::make_unique<FileHarness>(); }},
    Kind{"FilePortable",
         [] { return std::make_unique<FileHarness>(/*portable=*/true); }});
const auto kKindName = [](const testing::TestParamInfo<Kind>& info) {
  return info.param.name;
};

INSTANTIATE_TEST_SUITE_P(All, CatalogContract, kKinds, kKindName);
INSTANTIATE_TEST_SUITE_P(All, CatalogBelowAuthority, kKinds, kKindName);

}  // namespace
}  // namespace mlops::catalog
