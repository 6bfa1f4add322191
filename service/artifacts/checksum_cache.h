#ifndef MLOPS_SERVICE_ARTIFACTS_CHECKSUM_CACHE_H_
#define MLOPS_SERVICE_ARTIFACTS_CHECKSUM_CACHE_H_

#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "service/base/lru_map.h"
#include "service/fs/dir.h"

namespace mlops::core {

// The SHA-256 of files by their stamps, in bounded memory. Thread-safe.
class ChecksumCache {
 public:
  explicit ChecksumCache(size_t max_bytes) : known_(max_bytes) {}

  // "" if it is not known.
  std::string Find(const fs::FileStamp& stamp);
  // `read_time` is from before the file was read, by the clock of the file
  // system: what may have changed since without a trace in the stamp is not
  // kept.
  void Put(const fs::FileStamp& stamp, absl::Time read_time,
           const std::string& sha256);

 private:
  absl::Mutex mutex_;
  base::LruMap<std::string> known_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_ARTIFACTS_CHECKSUM_CACHE_H_
