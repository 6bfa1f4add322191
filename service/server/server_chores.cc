// The server's periodic work, and what its operator asks for.
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "grpcpp/health_check_service_interface.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/status_macros.h"
#include "service/core/layout.h"
#include "service/server/base_directory.h"
#include "service/server/server.h"

namespace mlops::server {
namespace {

// Maximum share of the time for a chore that reads or writes the whole index.
constexpr double kShareOfLongChores = 0.1;
// How often the disk space is measured.
constexpr absl::Duration kDiskInterval = absl::Seconds(5);
// How often --min-free-bytes is checked, and at most one workspace is purged.
constexpr absl::Duration kSpaceInterval = absl::Seconds(1);
// How often the log reports a certificate that is not valid.
constexpr absl::Duration kCertificateInterval = absl::Hours(1);

}  // namespace

void Server::StartChores() {
  upkeep_ = std::make_unique<catalog::Upkeep>(
      &store_->catalog(),
      fs::MakeWatcher(base_path_, core::layout::kRecord,
                      {.portable = config_.portable_fs}),
      catalog::Upkeep::Options{});
  maintainer_ = std::make_unique<Maintainer>(
      Chores(), Maintainer::Options{.report = [this](absl::string_view failure,
                                                     const absl::Status& why) {
        Report(failure, why);
      }});
}

// Returns the periodic work of the whole server, in the order of each round.
std::vector<Maintainer::Chore> Server::Chores() {
  return {
      {.failure = "the clock jumped",
       .run = [this] { return upkeep_->WatchClock(); }},
      {.failure = "cannot read the names in the base directory",
       .run = [this] { return upkeep_->RefreshNames(); },
       .max_share = kShareOfLongChores},
      {.failure = "edits by hand may be detected late",
       .run = [this] { return upkeep_->RefreshRecords(); }},
      {.failure = "cannot empty the trash",
       .run = [this] { return upkeep_->SweepTrash(); }},
      {.failure = "cannot end leases",
       .run =
           [this] {
             return store_->authority().EndExpiredLeases(), absl::OkStatus();
           }},
      {.failure = "no longer serving", .run = [this] { return WatchBase(); }},
      // Retry, because the disk may have been full before.
      {.failure = "cannot write the lock file",
       .run = [this] { return Announce(); }},
      {.failure = "cannot read a file again",
       .run = [this] { return CheckGate(); }},
      {.failure = "the certificate of the server is not valid",
       .run = [this] { return CheckCertificate(); },
       .interval = kCertificateInterval},
      {.failure = "cannot measure the disk",
       .run =
           [this] {
             return metrics_.MeasureDisk(base_path_), absl::OkStatus();
           },
       .interval = kDiskInterval},
      {.failure = "too little space on the disk",
       .run = [this] { return store_->space_guard().Check(); },
       .interval = kSpaceInterval},
      {.failure = "cannot sweep the artifacts",
       .run =
           [this] {
             return store_->artifacts().SweepSome(), absl::OkStatus();
           }},
      {.failure = "cannot save the checkpoint",
       .run = [this] { return upkeep_->SaveCheckpoint(); },
       .max_share = kShareOfLongChores},
  };
}

absl::Status Server::Announce() {
  // A read-only server must not write to the base.
  announced_ = announced_ || config_.read_only;
  if (announced_ || IsLost()) return absl::OkStatus();
  RETURN_IF_ERROR(lock_->MakeFile());
  RETURN_IF_ERROR(lock_->WriteContent(OwnerContent(addresses_)));
  // Best effort, but retry if the disk is full.
  if (absl::Status written = WriteGitignore(*store_->base());
      absl::IsResourceExhausted(written))
    return written;
  announced_ = true;
  return absl::OkStatus();
}

void Server::ReportFile(const std::string& what, const absl::Status& status) {
  reloads_.at(what).Count(status.ok() ? absl::StatusOr<bool>(true) : status);
  if (status.ok()) {
    log_->Info(absl::StrCat("read the ", what, " again"));
  } else {
    // Unlike Problem(), Warning() logs every error of an operator who is still
    // editing. Each change of the file adds only one line.
    log_->Warning(
        absl::StrCat("keeping the previous ", what, ": ", status.message()));
  }
}

absl::Status Server::CheckGate() {
  gate_->Check(
      [this](const base::ReloadedFile& file, const absl::Status& status) {
        ReportFile(file.what(), status);
      });
  // The certificates have two files, so they follow their own rule.
  if (tls_ == nullptr) return absl::OkStatus();
  const absl::StatusOr<bool> changed = tls_->Reload();
  if (!changed.ok() || *changed) ReportFile(kCertificates, changed.status());
  return absl::OkStatus();
}

absl::Status Server::CheckCertificate() {
  return tls_ == nullptr ? absl::OkStatus() : tls_->CheckValidity();
}

void Server::Reload(const absl::StatusOr<Config>& config) {
  if (!config.ok()) {
    return log_->Warning(absl::StrCat("keeping the previous settings: ",
                                      config.status().message()));
  }
  gate_->Reload(
      [this](const base::ReloadedFile& file, const absl::Status& status) {
        ReportFile(file.what(), status);
      });
  const std::vector<std::string> changed = ChangedSettings(config_, *config);
  if (changed.empty()) return;
  log_->Warning(
      absl::StrCat("these settings have changed, and only a restart "
                   "applies them: ",
                   absl::StrJoin(changed, ", ")));
}

void Server::StopServing(const absl::Status& why) {
  server_->GetHealthCheckService()->SetServingStatus(false);
  log_->Problem("no longer serving", why);
}

void Server::Report(absl::string_view what, const absl::Status& problem) {
  if (problem.ok()) return;
  // Ignore expected errors: this server may not change anything.
  const std::string reason = base::GetReason(problem);
  if (config_.read_only && reason == "READ_ONLY") return;
  if (lost_ && reason == "SHUTTING_DOWN") return;
  log_->Problem(what, problem);
}

absl::Status Server::WatchBase() {
  if (lost_told_ || !IsLost()) return absl::OkStatus();
  lost_told_ = true;
  server_->GetHealthCheckService()->SetServingStatus(false);
  return absl::AbortedError(absl::StrCat(
      base_path_, " or its lock file was moved, removed or replaced"));
}

}  // namespace mlops::server
