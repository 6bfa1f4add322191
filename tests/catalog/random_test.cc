// Makes thousands of random changes to a FileCatalog, which is reopened
// from time to time and whose files are edited by hand, and to a MemoryCatalog.
// Both must always return the same results.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <iostream>
#include <random>

#include "absl/strings/str_cat.h"
#include "proto/cpp/base/error.h"
#include "service/catalog/memory_catalog.h"
#include "service/core/workspace_yaml.h"
#include "tests/catalog/harness.h"
#include "tests/support/workspaces.h"

namespace mlops::catalog {
namespace {

using core::ListPage;
using core::ListQuery;
using core::ProjectName;
using core::Workspace;
using core::WorkspacePtr;
using support::Project;

constexpr int kSteps = 1'500;

// Returns a new seed for each run, or MLOPS_TEST_SEED to repeat one.
uint32_t Seed() {
  const char* given = std::getenv("MLOPS_TEST_SEED");
  const uint32_t seed =
      given != nullptr ? static_cast<uint32_t>(std::strtoul(given, nullptr, 10))
                       : std::random_device()();
  std::cout << "MLOPS_TEST_SEED=" << seed << std::endl;
  return seed;
}

// Describes everything that both catalogs store, except the exact
// times of deletion.
std::string Describe(const Workspace& workspace) {
  Workspace told = workspace;
  if (told.delete_time) told.root_path = "";
  return absl::StrCat(told.delete_time ? "deleted\n" : "", "etag: ", told.etag,
                      "\n", core::EncodeWorkspace(told));
}

template <typename T>
std::string Describe(const absl::StatusOr<T>& result) {
  if (!result.ok())
    return absl::StrCat(result.status().code(), " ",
                        base::GetReason(result.status()));
  if constexpr (std::is_same_v<T, WorkspacePtr>) {
    return Describe(**result);
  } else {
    return Describe(*result->workspace);
  }
}

std::string Describe(const ListPage& page) {
  std::string text =
      absl::StrCat(page.total_size, page.more ? " more\n" : "\n");
  for (const WorkspacePtr& workspace : page.workspaces)
    absl::StrAppend(&text, Describe(*workspace), "--\n");
  return text;
}

class TwoCatalogs {
 public:
  TwoCatalogs(uint32_t seed, bool portable) : random_(seed), files_(portable) {}

  void Step() {
    static const std::vector<std::pair<int, void (TwoCatalogs::*)()>>
        operations = {{20, &TwoCatalogs::Create},
                      {25, &TwoCatalogs::Replace},
                      {12, &TwoCatalogs::Delete},
                      {10, &TwoCatalogs::Undelete},
                      {4, &TwoCatalogs::Purge},
                      {10, &TwoCatalogs::Get},
                      {6, &TwoCatalogs::List},
                      {6, &TwoCatalogs::EditByHand},
                      {3, &TwoCatalogs::MakeByHand},
                      {3, &TwoCatalogs::RemoveByHand},
                      {2, &TwoCatalogs::RemoveRecordByHand},
                      {1, &TwoCatalogs::Reopen},
                      {1, &TwoCatalogs::SaveCheckpoint}};
    int total = 0;
    for (const auto& [weight, operation] : operations) total += weight;
    int pick = Below(total);
    for (const auto& [weight, operation] : operations) {
      if ((pick -= weight) < 0) return (this->*operation)();
    }
  }

  // Compares the whole content of both catalogs.
  void CompareAll() {
    Refresh();
    for (const bool show_deleted : {false, true}) {
      const ListQuery all = {.page_size = 1000, .show_deleted = show_deleted};
      EXPECT_EQ(Describe(files_.catalog().List(all).value()),
                Describe(memory_.List(all).value()));
    }
  }

 private:
  int Below(int limit) {
    return std::uniform_int_distribution<int>(0, limit - 1)(random_);
  }
  bool OneIn(int n) { return Below(n) == 0; }
  ProjectName RandomProject() { return Project(absl::StrCat("p", Below(12))); }

  Workspace RandomWorkspace(const ProjectName& project) {
    Workspace workspace =
        support::NewWorkspace(project.str(), files_.base_path(), ++created_);
    // Often equal, to test the tie-breaking of the order.
    workspace.create_time = support::TimeAt(Below(4));
    Change(workspace);
    return workspace;
  }
  void Change(Workspace& workspace) {
    workspace.metadata[absl::StrCat("k", Below(3))] = Below(1000);
    workspace.update_time = support::TimeAt(Below(6));
    if (OneIn(3))
      workspace.settings.mlflow_experiment_id = absl::StrCat(Below(10));
    if (OneIn(5)) workspace.settings.dvc_remote_path.reset();
  }

  void CommitBoth(const core::Change& change) {
    EXPECT_EQ(Describe(files_.catalog().Commit(change)),
              Describe(memory_.Commit(change)));
  }
  // Returns the uid of a workspace in the trash, or one that does not exist.
  std::string RandomDeletedUid(const ProjectName& project) {
    std::vector<std::string> uids = {"0123"};
    const ListPage page =
        memory_.List({.page_size = 1000, .show_deleted = true}).value();
    for (const WorkspacePtr& workspace : page.workspaces) {
      if (workspace->project == project && workspace->delete_time)
        uids.push_back(workspace->uid);
    }
    return uids[Below(static_cast<int>(uids.size()))];
  }

  void Create() {
    CommitBoth(core::CreateChange{RandomWorkspace(RandomProject())});
  }

  void Replace() {
    const ProjectName project = RandomProject();
    const auto current = memory_.Get(project);
    Workspace next = current.ok() ? **current : RandomWorkspace(project);
    const std::string etag = OneIn(8) ? "0123456789abcdef" : next.etag;
    Change(next);
    CommitBoth(core::ReplaceChange{.workspace = next, .expected_etag = etag});
  }

  void Delete() {
    const ProjectName project = RandomProject();
    const auto current = memory_.Get(project);
    const std::string etag = OneIn(8)                   ? "0123456789abcdef"
                             : OneIn(2) && current.ok() ? (*current)->etag
                                                        : "";
    CommitBoth(core::DeleteChange{.project = project, .expected_etag = etag});
  }

  void Undelete() {
    const ProjectName project = RandomProject();
    CommitBoth(core::UndeleteChange{
        .project = project, .uid = OneIn(2) ? "" : RandomDeletedUid(project)});
  }

  void Purge() {
    const ProjectName project = RandomProject();
    CommitBoth(core::PurgeChange{.project = project,
                                 .uid = RandomDeletedUid(project)});
  }

  void Get() {
    const ProjectName project = RandomProject();
    EXPECT_EQ(Describe(files_.catalog().Get(project)),
              Describe(memory_.Get(project)));
  }

  // Walks through all pages.
  void List() {
    Refresh();
    ListQuery query = {
        .order = {.field = static_cast<core::OrderField>(Below(3)),
                  .descending = OneIn(2)},
        .page_size = 1 + Below(10),
        .show_deleted = OneIn(2)};
    while (true) {
      const ListPage page = files_.catalog().List(query).value();
      ASSERT_EQ(Describe(page), Describe(memory_.List(query).value()));
      if (!page.more) return;
      query.after = MakeOrderKey(*page.workspaces.back(), query.order.field);
    }
  }

  void EditByHand() {
    const auto current = memory_.Get(RandomProject());
    if (!current.ok()) return;
    Workspace next = **current;
    Change(next);
    memory_
        .Commit(
            core::ReplaceChange{.workspace = next, .expected_etag = next.etag})
        .value();
    WriteRecord(next);
  }

  void MakeByHand() {
    const Workspace workspace = RandomWorkspace(RandomProject());
    if (memory_.Commit(core::CreateChange{workspace}).ok())
      WriteRecord(workspace);
  }

  void RemoveByHand() {
    const ProjectName project = RandomProject();
    if (PurgeFromMemory(project)) files_.base().Remove(project.str());
  }

  // A directory without a record is not a workspace, but its files stay
  // and the next create adopts them.
  void RemoveRecordByHand() {
    const ProjectName project = RandomProject();
    if (!PurgeFromMemory(project)) return;
    files_.base().WriteFile(absl::StrCat(project.str(), "/notes.txt"), "mine");
    files_.base().Remove(absl::StrCat(project.str(), "/workspace.yaml"));
    if (OneIn(2)) {
      EXPECT_EQ(Describe(files_.catalog().Get(project)),
                Describe(memory_.Get(project)));
    }
    CommitBoth(core::CreateChange{RandomWorkspace(project)});
    EXPECT_EQ(files_.base().ReadFile(absl::StrCat(project.str(), "/notes.txt")),
              "mine");
  }

  bool PurgeFromMemory(const ProjectName& project) {
    const auto deleted = memory_.Commit(core::DeleteChange{.project = project});
    if (!deleted.ok()) return false;
    return memory_
        .Commit(core::PurgeChange{.project = project,
                                  .uid = deleted->workspace->uid})
        .ok();
  }

  void Reopen() {
    files_.Reopen();
    CompareAll();
  }

  void SaveCheckpoint() { EXPECT_TRUE(files_.catalog().SaveCheckpoint().ok()); }

  // Writes in place, or by a rename like most editors.
  void WriteRecord(const Workspace& workspace) {
    const std::string file =
        absl::StrCat(workspace.project.str(), "/workspace.yaml");
    if (OneIn(2))
      return files_.base().WriteFile(file, core::EncodeWorkspace(workspace));
    files_.base().WriteFile(file + "~", core::EncodeWorkspace(workspace));
    files_.base().Move(file + "~", file);
  }

  // Does what the server's maintenance thread does continuously.
  void Refresh() {
    EXPECT_TRUE(files_.catalog().RefreshNames().ok());
    for (const ProjectName& project : files_.catalog().NextProjects(1000))
      files_.catalog().RefreshRecord(project);
  }

  std::mt19937 random_;
  FileHarness files_;
  MemoryCatalog memory_{files_.clock.clock()};
  int created_ = 0;
};

class RandomOperations : public testing::TestWithParam<bool> {};

TEST_P(RandomOperations, FileAndMemoryCatalogAlwaysAgree) {
  const uint32_t seed = Seed();
  TwoCatalogs both(seed, GetParam());
  for (int step = 0; step < kSteps && !HasFailure(); ++step) {
    SCOPED_TRACE(absl::StrCat("MLOPS_TEST_SEED=", seed, " step ", step));
    both.Step();
  }
  both.CompareAll();
}

INSTANTIATE_TEST_SUITE_P(Calls, RandomOperations, testing::Bool(), CallsName);

}  // namespace
}  // namespace mlops::catalog
