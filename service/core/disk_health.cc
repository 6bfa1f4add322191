#include "service/core/disk_health.h"

#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/cpp/base/error.h"

namespace mlops::core {

absl::Status DiskHealth::Check() const {
  if (ok()) return absl::OkStatus();
  absl::MutexLock lock(&mutex_);
  const auto info = base::GetErrorInfo(failure_);
  return base::MakeError(
      absl::StatusCode::kInternal,
      absl::StrCat("The server only reads until it is restarted: a directory could not be synced: ",
                   failure_.message()),
      {.reason = "IO_ERROR", .metadata = info ? info->metadata : std::map<std::string, std::string>()});
}

absl::Status DiskHealth::Judge(absl::Status synced) {
  if (synced.ok()) return Check();
  absl::MutexLock lock(&mutex_);
  failure_.Update(synced);
  ok_ = false;
  return synced;
}

}  // namespace mlops::core
