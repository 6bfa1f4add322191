#ifndef MLOPS_SERVICE_ARTIFACTS_CHECKSUM_CACHE_H_
#define MLOPS_SERVICE_ARTIFACTS_CHECKSUM_CACHE_H_

#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "service/base/lru_map.h"
#include "service/fs/dir.h"

namespace mlops::artifacts {

// Caches the SHA-256 of files by their stamps, in bounded memory. Thread-safe.
class ChecksumCache {
 public:
  explicit ChecksumCache(size_t max_bytes) : known_(max_bytes) {}

  // Returns the checksum; "" if it is not cached.
  std::string Find(const fs::FileStamp& stamp);
  // Stores a checksum. `read_time` is a time before the file was read,
  // by the file system's clock. A file that may have changed since then
  // without a visible change of its stamp is not cached.
  void Put(const fs::FileStamp& stamp, absl::Time read_time,
           const std::string& sha256);

  // Returns the memory in use, in bytes.
  size_t bytes() const {
    absl::MutexLock lock(&mutex_);
    return known_.bytes();
  }

 private:
  mutable absl::Mutex mutex_;
  base::LruMap<std::string> known_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mlops::artifacts

#endif  // MLOPS_SERVICE_ARTIFACTS_CHECKSUM_CACHE_H_
