#include "tests/crash/scenario.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gtest/gtest.h"
#include "service/core/layout.h"
#include "service/core/workspace_yaml.h"
#include "service/fs/atomic_file.h"

namespace mlops::crash {

using catalog::FileCatalog;
using core::ProjectName;
using core::Workspace;

namespace {

constexpr absl::string_view kBystander = "bystander";
constexpr absl::string_view kFraud = "fraud";
constexpr absl::string_view kGone = "gone";
constexpr absl::string_view kPlain = "plain";
constexpr int64_t kMaxBytes = 1 << 20;

ProjectName Name(absl::string_view text) {
  return ProjectName::Parse(text).value();
}

Workspace NewWorkspace(absl::string_view project,
                       absl::string_view experiment) {
  const absl::Time time = absl::FromUnixSeconds(1'600'000'000);
  return {.project = Name(project),
          .uid = absl::StrCat(project, "-uid"),
          .root_path = absl::StrCat(kBasePath, "/", project),
          .settings = {.mlflow_experiment_id = std::string(experiment)},
          .create_time = time,
          .update_time = time};
}

// Appends a line for each entry of `dir`, recursively.
void DescribeFiles(const fs::Dir& dir, const std::string& prefix,
                   std::vector<std::string>& lines) {
  std::map<std::string, fs::EntryType> entries;
  EXPECT_TRUE(dir.ForEachEntry([&](absl::string_view name, fs::EntryType type) {
                   entries.emplace(name, type);
                   return true;
                 })
                  .ok());
  for (const auto& [name, type] : entries) {
    if (core::layout::IsRecordTempFile(name)) continue;
    if (type == fs::EntryType::kDirectory) {
      lines.push_back(absl::StrCat(prefix, name, "/"));
      const auto subdir = dir.OpenDir(name);
      ASSERT_TRUE(subdir.ok()) << subdir.status();
      DescribeFiles(**subdir, lines.back(), lines);
    } else {
      const auto content = dir.ReadFile(name, kMaxBytes);
      ASSERT_TRUE(content.ok()) << content.status();
      lines.push_back(absl::StrCat(prefix, name, "=", content->data));
    }
  }
}

// Describes the workspace in the directory `path` of the base, for which the
// catalog reports `workspace`.
std::string DescribeWorkspace(const Workspace& workspace, const fs::Dir& base,
                              const std::string& path) {
  std::vector<std::string> lines = {absl::StrCat(
      workspace.delete_time ? "deleted " : "workspace ",
      workspace.project.str(), " uid=", workspace.uid, " experiment=",
      workspace.settings.mlflow_experiment_id.value_or("none"))};
  const auto dir = base.OpenDir(path);
  if (!dir.ok()) return absl::StrCat(lines.front(), ": TORN: no directory");
  DescribeFiles(**dir, "  ", lines);
  for (absl::string_view name : core::kDirectories) {
    if (std::find(lines.begin(), lines.end(), absl::StrCat("  ", name, "/")) ==
        lines.end()) {
      lines.push_back(absl::StrCat("TORN: no ", name));
    }
  }
  const auto record = (*dir)->ReadFile(core::layout::kRecord, kMaxBytes);
  if (!record.ok() || core::RecordEtag(record->data) != workspace.etag)
    lines.push_back("TORN: another record");
  return absl::StrJoin(lines, "\n");
}

// Describes a directory without a record. Leaves out empty workspace
// directories, which an interrupted Create may have made.
std::string DescribePlain(const std::string& name, const fs::Dir& base) {
  std::vector<std::string> lines = {absl::StrCat("plain directory ", name)};
  const auto dir = base.OpenDir(name);
  if (!dir.ok()) return absl::StrCat(lines.front(), ": TORN");
  DescribeFiles(**dir, "  ", lines);
  for (absl::string_view directory : core::kDirectories) {
    const auto it = std::find(lines.begin(), lines.end(),
                              absl::StrCat("  ", directory, "/"));
    const bool empty = it != lines.end() && (it + 1 == lines.end() ||
                                             !absl::StartsWith(*(it + 1), *it));
    if (empty) lines.erase(it);
  }
  return absl::StrJoin(lines, "\n");
}

// Lets the trash expire and sweeps it completely.
absl::Status Sweep(FileCatalog& catalog, ShiftedClock& clock) {
  clock.Advance(2 * kPurgeDelay);
  while (true) {
    const auto more = catalog.SweepTrash(3);
    if (!more.ok()) return more.status();
    if (!*more)
      return catalog.healthy() ? absl::OkStatus()
                               : absl::InternalError("can no longer write");
  }
}

absl::Status Replace(FileCatalog& catalog, ShiftedClock&) {
  const core::ReplaceChange change{
      .workspace = NewWorkspace(kFraud, "new"),
      .expected_etag =
          core::RecordEtag(core::EncodeWorkspace(NewWorkspace(kFraud, "old")))};
  return catalog.Commit(change).status();
}

}  // namespace

ShiftedClock::ShiftedClock(base::Clock clock)
    : clock_(std::move(clock)),
      shift_(std::make_shared<absl::Duration>(absl::ZeroDuration())) {}

base::Clock ShiftedClock::clock() const {
  return [clock = clock_, shift = shift_] { return clock() + *shift; };
}

std::ostream& operator<<(std::ostream& out, const Operation& operation) {
  return out << operation.name;
}

const std::vector<Operation>& Operations() {
  static const auto& operations = *new std::vector<Operation>{
      {"Create",
       [](auto& catalog, auto&) {
         return catalog.Commit(core::CreateChange{NewWorkspace("new", "first")})
             .status();
       },
       absl::StatusCode::kAlreadyExists},
      {"Adopt",
       [](auto& catalog, auto&) {
         return catalog
             .Commit(core::CreateChange{NewWorkspace(kPlain, "first")})
             .status();
       },
       absl::StatusCode::kAlreadyExists},
      {"Replace", Replace, absl::StatusCode::kAborted},
      {"Delete",
       [](auto& catalog, auto&) {
         return catalog.Commit(core::DeleteChange{Name(kFraud)}).status();
       },
       absl::StatusCode::kNotFound},
      {"Undelete",
       [](auto& catalog, auto&) {
         return catalog.Commit(core::UndeleteChange{Name(kGone)}).status();
       },
       absl::StatusCode::kNotFound},
      {"Purge",
       [](auto& catalog, auto&) {
         return catalog.Commit(core::PurgeChange{Name(kGone), "gone-uid"})
             .status();
       },
       absl::StatusCode::kNotFound},
      {"Sweep", Sweep, absl::StatusCode::kOk},
  };
  return operations;
}

void Fill(const OpenBase& open_base, const base::Clock& clock) {
  const auto catalog = Open(open_base(), clock);
  ASSERT_NE(catalog, nullptr);
  const auto base = open_base();
  for (absl::string_view project : {kBystander, kFraud, kGone}) {
    ASSERT_TRUE(
        catalog->Commit(core::CreateChange{NewWorkspace(project, "old")}).ok());
    ASSERT_TRUE(fs::WriteNewFile(*base,
                                 absl::StrCat(project, "/models/model.bin"),
                                 "weights")
                    .ok());
    ASSERT_TRUE(
        fs::WriteNewFile(*base, absl::StrCat(project, "/notes.txt"), "a note")
            .ok());
  }
  ASSERT_TRUE(catalog->Commit(core::DeleteChange{Name(kGone)}).ok());
  ASSERT_TRUE(base->MakeDir(kPlain).ok());
  ASSERT_TRUE(base->MakeDir(absl::StrCat(kPlain, "/models")).ok());
  ASSERT_TRUE(fs::WriteNewFile(*base, absl::StrCat(kPlain, "/models/model.bin"),
                               "weights")
                  .ok());
  ASSERT_TRUE(catalog->RefreshNames().ok());
}

std::unique_ptr<FileCatalog> Open(std::unique_ptr<fs::Dir> base,
                                  const base::Clock& clock) {
  auto catalog = FileCatalog::Open(
      std::move(base), std::string(kBasePath),
      {.purge_delay = kPurgeDelay,
       .clock = clock,
       .steady_clock = [clock] { return clock() - absl::UnixEpoch(); },
       .load_threads = 1});
  EXPECT_TRUE(catalog.ok()) << catalog.status();
  return catalog.ok() ? *std::move(catalog) : nullptr;
}

std::string Describe(FileCatalog& catalog, const fs::Dir& base) {
  // Bring the catalog's memory up to date with the disk first.
  EXPECT_TRUE(catalog.RefreshNames().ok());
  for (const ProjectName& project : catalog.NextProjects(1000))
    catalog.RefreshRecord(project);
  const auto page = catalog.List({.page_size = 1000, .show_deleted = true});
  if (!page.ok()) return page.status().ToString();
  std::vector<std::string> texts;
  std::set<std::string> projects(page->unreachable.begin(),
                                 page->unreachable.end());
  for (const std::string& project : page->unreachable)
    texts.push_back(absl::StrCat("TORN: cannot read ", project));
  for (const core::WorkspacePtr& workspace : page->workspaces) {
    if (!workspace->delete_time) projects.insert(workspace->project.str());
    texts.push_back(DescribeWorkspace(
        *workspace, base, workspace->root_path.substr(kBasePath.size() + 1)));
  }
  for (const std::string& name : Names(base, "")) {
    if (ProjectName::IsValid(name) && !projects.contains(name))
      texts.push_back(DescribePlain(name, base));
  }
  return absl::StrJoin(texts, "\n");
}

std::vector<std::string> Names(const fs::Dir& base, absl::string_view dir) {
  std::vector<std::string> names;
  const auto visit = [&names](absl::string_view name, fs::EntryType) {
    names.emplace_back(name);
    return true;
  };
  if (dir.empty()) {
    EXPECT_TRUE(base.ForEachEntry(visit).ok());
  } else {
    const auto opened = base.OpenDir(dir);
    EXPECT_TRUE(opened.ok() && (*opened)->ForEachEntry(visit).ok()) << dir;
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace mlops::crash
