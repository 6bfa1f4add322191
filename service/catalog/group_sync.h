#ifndef MLOPS_SERVICE_CATALOG_GROUP_SYNC_H_
#define MLOPS_SERVICE_CATALOG_GROUP_SYNC_H_

#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "service/fs/dir.h"

namespace mlops::catalog {

// Syncs one directory for many threads: callers that arrive while a sync runs share the next one. Thread-safe.
class GroupSync {
 public:
  // `dir` must outlive this.
  explicit GroupSync(fs::Dir* dir) : dir_(dir) {}

  // Returns when a sync that began after the call has ended, with its result. Once one failed, that failure is the
  // answer for ever: a later sync that succeeds proves nothing about what the failed one lost.
  absl::Status Sync();

 private:
  fs::Dir* const dir_;
  absl::Mutex mutex_;
  uint64_t begun_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t ended_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mlops::catalog

#endif  // MLOPS_SERVICE_CATALOG_GROUP_SYNC_H_
