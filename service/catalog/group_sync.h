#ifndef MLOPS_SERVICE_CATALOG_GROUP_SYNC_H_
#define MLOPS_SERVICE_CATALOG_GROUP_SYNC_H_

#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "service/core/disk_health.h"
#include "service/fs/dir.h"

namespace mlops::catalog {

// Syncs one directory for many threads: callers that arrive while a sync runs
// share the next one. Thread-safe.
class GroupSync {
 public:
  // Both must outlive this.
  GroupSync(fs::Dir* dir, core::DiskHealth* health)
      : dir_(dir), health_(health) {}

  // Returns when a sync that began after the call has ended, with what
  // DiskHealth makes of it: OK only if neither this sync nor an earlier one
  // failed, here or for another user of the same DiskHealth.
  absl::Status Sync();

 private:
  fs::Dir* const dir_;
  core::DiskHealth* const health_;
  absl::Mutex mutex_;
  uint64_t begun_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t ended_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace mlops::catalog

#endif  // MLOPS_SERVICE_CATALOG_GROUP_SYNC_H_
