#include "service/server/space_guard.h"

#include <sys/statvfs.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "proto/cpp/base/status_macros.h"

namespace mlops::server {

absl::Status SpaceGuard::Check() {
  if (options_.min_free_bytes == 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(const int64_t free_bytes, options_.free_bytes());
  const bool low = free_bytes < options_.min_free_bytes;
  low_.store(low, std::memory_order_relaxed);
  if (!low) return absl::OkStatus();
  const std::string shortage =
      absl::StrCat(free_bytes, " bytes are free, fewer than --min-free-bytes ",
                   options_.min_free_bytes);
  // Purging early breaks a promise, so the operator must permit it.
  if (!options_.purge_early) {
    return absl::ResourceExhaustedError(
        absl::StrCat(shortage,
                     ": enlarge the disk, purge workspaces from the trash, or "
                     "allow --purge-early"));
  }
  // Wait for the last purge, because its space counts only once its files are
  // gone.
  if (options_.is_removing()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const core::WorkspacePtr purged, options_.purge_oldest());
  if (purged == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat(shortage,
                     ", and the trash is empty: enlarge the disk or delete "
                     "workspaces"));
  }
  purged_.fetch_add(1, std::memory_order_relaxed);
  options_.log(absl::StrCat(
      "purged workspace ", purged->project.str(), " with uid ", purged->uid,
      " early, which was to stay in the trash until ",
      absl::FormatTime(purged->purge_time.value_or(absl::InfinitePast()),
                       absl::UTCTimeZone()),
      ": ", shortage));
  return absl::OkStatus();
}

absl::StatusOr<int64_t> FreeBytes(const std::string& path) {
  struct statvfs info;
  if (::statvfs(path.c_str(), &info) != 0)
    return absl::ErrnoToStatus(errno, absl::StrCat("statvfs of ", path));
  return static_cast<int64_t>(info.f_bavail) *
         static_cast<int64_t>(info.f_frsize);
}

}  // namespace mlops::server
