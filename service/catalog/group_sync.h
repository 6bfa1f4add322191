#ifndef MLOPS_SERVICE_CATALOG_GROUP_SYNC_H_
#define MLOPS_SERVICE_CATALOG_GROUP_SYNC_H_

#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "service/core/disk_health.h"
#include "service/fs/dir.h"

namespace mlops::catalog {

// Syncs one directory on behalf of many threads. Callers that arrive while a
// sync runs share the next one. Thread-safe.
class GroupSync {
 public:
  // Both must outlive this object.
  GroupSync(fs::Dir* dir, core::DiskHealth* health)
      : dir_(dir), health_(health) {}

  // Waits for a sync that begins after this call, and returns DiskHealth's
  // verdict on it: OK only if neither this sync nor an earlier one has failed,
  // here or in another user of the same DiskHealth.
  absl::Status Sync();

 private:
  fs::Dir* const dir_;
  core::DiskHealth* const health_;
  absl::Mutex mutex_;
  // Numbers of the last sync that began, and of the last one that ended.
  uint64_t begun_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t ended_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace mlops::catalog

#endif  // MLOPS_SERVICE_CATALOG_GROUP_SYNC_H_
