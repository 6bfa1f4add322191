#include "service/artifacts/checksum_cache.h"

#include "absl/strings/str_cat.h"
#include "service/artifacts/tree.h"

namespace mlops::artifacts {
namespace {

std::string StampKey(const fs::FileStamp& stamp) {
  return absl::StrCat(stamp.device, " ", ArtifactEtag(stamp));
}

}  // namespace

std::string ChecksumCache::Find(const fs::FileStamp& stamp) {
  absl::MutexLock lock(&mutex_);
  const std::string* found = known_.Find(StampKey(stamp));
  return found == nullptr ? "" : *found;
}

void ChecksumCache::Put(const fs::FileStamp& stamp, absl::Time read_time,
                        const std::string& sha256) {
  // A change in the same clock tick would leave the stamp unchanged.
  if (fs::MayBeRacy(stamp, read_time)) return;
  absl::MutexLock lock(&mutex_);
  known_.Put(StampKey(stamp), sha256, sha256.capacity());
}

}  // namespace mlops::artifacts
