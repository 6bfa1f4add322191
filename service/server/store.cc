#include "service/server/store.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/cpp/base/status_macros.h"
#include "service/catalog/usage_scan.h"
#include "service/core/name_policy.h"
#include "service/server/base_directory.h"

namespace mlops::server {

absl::StatusOr<std::unique_ptr<Store>> Store::Open(Options options) {
  auto store = std::unique_ptr<Store>(new Store(std::move(options)));
  RETURN_IF_ERROR(store->OpenBase());
  RETURN_IF_ERROR(store->OpenCatalog());
  RETURN_IF_ERROR(store->OpenLeases());
  store->MakeSpaceGuard();
  store->MakeArtifacts();
  RETURN_IF_ERROR(store->MakeAuthority());
  store->WarnOfTemplate();
  return store;
}

absl::Status Store::OpenBase() {
  auto base = fs::OpenBaseDir(options_.base_path,
                              {.portable = config().portable_fs,
                               .on_sync = options_.metrics->on_sync()});
  if (!base.ok()) {
    return Refusal(absl::StrCat("cannot open the base directory ",
                                options_.base_path, ": ",
                                base.status().message()));
  }
  base_ = *std::move(base);
  health_ = std::make_shared<core::DiskHealth>(options_.may_change);
  return absl::OkStatus();
}

absl::Status Store::OpenCatalog() {
  auto catalog = catalog::FileCatalog::Open(
      base_, options_.base_path,
      {.purge_delay = config().purge_delay,
       .log = [this](absl::string_view line) { options_.log->Warning(line); },
       .changes = &changes_,
       .health = health_,
       .read_only = config().read_only});
  if (!catalog.ok()) {
    return Refusal(absl::StrCat("cannot read the base directory ",
                                options_.base_path, ": ",
                                catalog.status().message()));
  }
  catalog_ = *std::move(catalog);
  return absl::OkStatus();
}

absl::Status Store::OpenLeases() {
  lease_files_ = std::make_unique<catalog::LeaseFiles>(base_, health_);
  leases_ = std::make_unique<core::Leases>(
      core::Leases::Options{.store = lease_files_.get(),
                            .await_changes =
                                [this](const core::ProjectName& project) {
                                  artifacts_->AwaitChanges(project);
                                },
                            .on_change =
                                [this](const core::ProjectName& project) {
                                  catalog_->Announce(project);
                                },
                            .read_only = config().read_only});
  // A read-only server ignores the leases, because only the server that may
  // change the base knows them.
  if (config().read_only) return absl::OkStatus();
  // A lease that cannot be read must not prevent the start.
  auto stored = lease_files_->Load([this](const absl::Status& problem) {
    options_.report("cannot read a lease", problem);
  });
  if (!stored.ok()) {
    return Refusal(absl::StrCat("cannot read the leases of ",
                                options_.base_path, ": ",
                                stored.status().message()));
  }
  for (const core::StoredLease& lease : *stored) leases_->Restore(lease);
  return absl::OkStatus();
}

void Store::MakeSpaceGuard() {
  // A read-only server cannot purge, so its guard is disabled.
  space_guard_ = std::make_unique<SpaceGuard>(SpaceGuard::Options{
      .min_free_bytes = config().read_only ? 0 : config().min_free_bytes,
      .purge_early = config().purge_early,
      .free_bytes = [this] { return FreeBytes(options_.base_path); },
      .is_removing = [this] { return catalog_->counts().removing > 0; },
      .purge_oldest = [this] { return catalog_->PurgeOldest(); },
      .log = [this](absl::string_view line) { options_.log->Warning(line); }});
}

void Store::MakeArtifacts() {
  ledger_ = std::make_shared<core::UsageLedger>(
      options_.metrics->Measured(catalog::MakeUsageScanner(
          base_, options_.base_path, base::SystemClock())),
      core::UsageLedger::Options{
          .on_flip = [this](const core::Workspace& workspace) {
            catalog_->Announce(workspace.project);
          }});
  artifacts_ = std::make_unique<artifacts::Artifacts>(
      catalog_.get(), base_,
      artifacts::UploadOptions{
          .health = health_, .ledger = ledger_, .leases = leases_.get()});
  stage_ = std::make_unique<artifacts::Stage>(base_, health_);
  templates_ = std::make_unique<artifacts::Templates>(base_, stage_.get());
}

absl::Status Store::MakeAuthority() {
  auto names = core::NamePolicy::Parse(config().project_pattern);
  if (!names.ok())
    return Refusal(
        absl::StrCat("--project-pattern ", names.status().message()));
  // Scan through the ledger, which learns from every result.
  authority_ = std::make_unique<core::Authority>(
      catalog_.get(),
      [this](const core::Workspace& workspace, bool counts_only,
             core::Cancelled cancelled) {
        return ledger_->Scan(workspace, counts_only, cancelled);
      },
      options_.base_path, base::SystemClock(), base::SystemSteadyClock(),
      leases_.get());
  authority_->SetUsageLedger(ledger_.get());
  authority_->SetNamePolicy(*std::move(names));
  authority_->SetTemplates(templates_.get(), config().default_template);
  archives_ = std::make_unique<archive::Archives>(
      authority_.get(), stage_.get(), base_, options_.base_path);
  return absl::OkStatus();
}

void Store::WarnOfTemplate() {
  if (config().default_template.empty() || config().read_only) return;
  const auto loaded = templates_->Load(config().default_template);
  // Only warn, because requests that name another template still work.
  if (loaded.ok()) return;
  options_.log->Warning(absl::StrCat(
      "no workspace can be created without the name of a template: ",
      "--default-template: ", loaded.status().message()));
}

}  // namespace mlops::server
