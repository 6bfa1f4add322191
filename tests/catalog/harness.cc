#include "tests/catalog/harness.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "service/catalog/memory_catalog.h"
#include "tests/support/workspaces.h"

namespace mlops::catalog {
namespace {

class MemoryHarness : public Harness {
 public:
  core::Catalog& catalog() override { return catalog_; }
  core::ChangeLog& changes() override { return changes_; }
  std::string base_path() const override { return "/base"; }
  bool durable() const override { return false; }
  void Reopen() override {}
  std::string Stage() override { return "staged"; }

 private:
  core::ChangeLog changes_;
  MemoryCatalog catalog_{clock.clock(), absl::Hours(72), &changes_};
};

}  // namespace

std::unique_ptr<Harness> MakeMemoryHarness() {
  return std::make_unique<MemoryHarness>();
}

FileHarness::FileHarness(bool portable, absl::Duration purge_delay)
    : purge_delay(purge_delay), portable_(portable) {
  Reopen();
}

void FileHarness::Reopen() { ReopenAt(base_.path()); }

void FileHarness::ReopenAt(const std::string& path) {
  catalog_.reset();
  catalog_ = TryOpen(path).value();
}

absl::StatusOr<std::unique_ptr<FileCatalog>> FileHarness::TryOpen(
    const std::string& path) {
  auto dir = fs::OpenBaseDir(path, {.portable = portable_}).value();
  logs_.push_back(std::make_unique<core::ChangeLog>());
  return FileCatalog::Open(
      std::make_unique<support::ObservedDir>(std::move(dir), observer_), path,
      {.purge_delay = purge_delay,
       .clock = clock.clock(),
       .steady_clock = clock.steady_clock(),
       .log = [this](absl::string_view line) { log_lines.emplace_back(line); },
       .changes = logs_.back().get()});
}

std::vector<std::string> ChangesAfter(const core::ChangeLog& log,
                                      int64_t cursor) {
  const auto everything = [](absl::string_view) { return true; };
  std::vector<std::string> changes;
  for (int64_t at = cursor;;) {
    const core::LoggedChangePtr next =
        log.Next(at, everything, 1).value().change;
    if (next == nullptr) return changes;
    const core::ChangeKind kind = next->kind;
    changes.push_back(
        absl::StrCat(kind == core::ChangeKind::kCreated   ? "created "
                     : kind == core::ChangeKind::kUpdated ? "updated "
                                                          : "deleted ",
                     next->workspace->project.str()));
    at = next->sequence;
  }
}

std::string FileHarness::Stage() {
  base_.MakeDirs(".staging/filled/models");
  base_.WriteFile(".staging/filled/models/model.bin", "weights");
  return "filled";
}

core::WorkspacePtr FileCatalogTest::Create(absl::string_view name,
                                           int64_t seconds) {
  return catalog()
      .Commit(core::CreateChange{
          support::NewWorkspace(name, base().path(), seconds)})
      .value()
      .workspace;
}

absl::StatusOr<core::WorkspacePtr> FileCatalogTest::Get(
    absl::string_view name) {
  return catalog().Get(support::Project(name));
}

std::vector<std::string> FileCatalogTest::Listed(bool show_deleted) {
  return support::NamesOf(
      catalog()
          .List({.page_size = 1'000'000, .show_deleted = show_deleted})
          .value()
          .workspaces);
}

std::vector<std::string> FileCatalogTest::Unreachable() {
  return catalog().List({}).value().unreachable;
}

std::string CallsName(const testing::TestParamInfo<bool>& info) {
  return info.param ? "Portable" : "Linux";
}

}  // namespace mlops::catalog
