#ifndef MLOPS_SERVICE_SERVER_STORE_H_
#define MLOPS_SERVICE_SERVER_STORE_H_

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "service/archive/archives.h"
#include "service/artifacts/artifacts.h"
#include "service/artifacts/stage.h"
#include "service/artifacts/templates.h"
#include "service/catalog/file_catalog.h"
#include "service/catalog/lease_files.h"
#include "service/core/authority.h"
#include "service/core/change_log.h"
#include "service/core/disk_health.h"
#include "service/core/leases.h"
#include "service/core/usage_ledger.h"
#include "service/fs/dir.h"
#include "service/observe/log.h"
#include "service/server/config.h"
#include "service/server/server_metrics.h"
#include "service/server/space_guard.h"

namespace mlops::server {

// The open base directory and the objects that read and change it. Knows
// neither gRPC nor callers. The methods are thread-safe.
class Store {
 public:
  // The pointers must outlive the store.
  struct Options {
    const Config* config = nullptr;
    std::string base_path;  // Absolute.
    // Returns why no change may begin now, or OK. Runs on any thread.
    std::function<absl::Status()> may_change;
    // Logs a failure that does not prevent the start.
    std::function<void(absl::string_view what, const absl::Status& problem)>
        report;
    observe::Log* log = nullptr;
    ServerMetrics* metrics = nullptr;
  };

  // Opens the base, sweeps what a crash has left, and reads all records and
  // leases. The caller must hold the lock of the base. Returns
  // FAILED_PRECONDITION with a sentence for the operator if the base or its
  // leases cannot be read, or if --project-pattern is invalid.
  static absl::StatusOr<std::unique_ptr<Store>> Open(Options options);

  const std::shared_ptr<fs::Dir>& base() const { return base_; }
  core::DiskHealth& health() { return *health_; }
  core::ChangeLog& changes() { return changes_; }
  catalog::FileCatalog& catalog() { return *catalog_; }
  core::UsageLedger& ledger() { return *ledger_; }
  artifacts::Artifacts& artifacts() { return *artifacts_; }
  artifacts::Stage& stage() { return *stage_; }
  artifacts::Templates& templates() { return *templates_; }
  core::Authority& authority() { return *authority_; }
  archive::Archives& archives() { return *archives_; }
  SpaceGuard& space_guard() { return *space_guard_; }

 private:
  explicit Store(Options options) : options_(std::move(options)) {}

  // The steps of Open(), in this order. Each uses the results of earlier ones.
  absl::Status OpenBase();
  absl::Status OpenCatalog();
  absl::Status OpenLeases();
  void MakeSpaceGuard();
  void MakeArtifacts();
  absl::Status MakeAuthority();
  // Logs a warning if the default template cannot be used.
  void WarnOfTemplate();

  const Config& config() const { return *options_.config; }

  const Options options_;
  // In order of dependency; destroyed in reverse order.
  std::shared_ptr<fs::Dir> base_;
  std::shared_ptr<core::DiskHealth> health_;
  core::ChangeLog changes_;
  std::unique_ptr<catalog::FileCatalog> catalog_;
  std::unique_ptr<SpaceGuard> space_guard_;
  std::shared_ptr<core::UsageLedger> ledger_;
  std::unique_ptr<catalog::LeaseFiles> lease_files_;
  std::unique_ptr<core::Leases> leases_;
  std::unique_ptr<artifacts::Artifacts> artifacts_;
  std::unique_ptr<artifacts::Stage> stage_;
  std::unique_ptr<artifacts::Templates> templates_;
  std::unique_ptr<core::Authority> authority_;
  std::unique_ptr<archive::Archives> archives_;
};

}  // namespace mlops::server

#endif  // MLOPS_SERVICE_SERVER_STORE_H_
