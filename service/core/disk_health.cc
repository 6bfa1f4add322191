#include "service/core/disk_health.h"

#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/status_macros.h"

namespace mlops::core {

absl::Status DiskHealth::Check() const {
  if (permit_) RETURN_IF_ERROR(permit_());
  return CheckDisk();
}

absl::Status DiskHealth::CheckDisk() const {
  if (ok()) return absl::OkStatus();
  absl::MutexLock lock(&mutex_);
  const auto info = base::GetErrorInfo(failure_);
  return base::MakeError(
      absl::StatusCode::kInternal,
      absl::StrCat("The server is read-only until it is restarted, because a "
                   "directory could not be synced: ",
                   failure_.message()),
      {.reason = "IO_ERROR",
       .metadata =
           info ? info->metadata : std::map<std::string, std::string>()});
}

absl::Status DiskHealth::Judge(absl::Status synced) {
  // Ignore the permit: the change has already been made.
  if (synced.ok()) return CheckDisk();
  {
    // Update() keeps the first failure and ignores later ones.
    absl::MutexLock lock(&mutex_);
    failure_.Update(synced);
    ok_.store(false, std::memory_order_release);
  }
  absl::MutexLock lock(&listener_mutex_);
  // Call the listener before returning, so that the health service reports
  // NOT_SERVING before the caller sees the error.
  if (listener_ && !std::exchange(told_, true)) listener_(synced);
  return synced;
}

void DiskHealth::SetListener(Listener listener) {
  absl::MutexLock lock(&listener_mutex_);
  listener_ = std::move(listener);
  if (!listener_ || ok() || std::exchange(told_, true)) return;
  listener_(CheckDisk());
}

}  // namespace mlops::core
