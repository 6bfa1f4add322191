#ifndef MLOPS_SERVICE_ARTIFACTS_CLAIMS_H_
#define MLOPS_SERVICE_ARTIFACTS_CLAIMS_H_

#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/synchronization/mutex.h"

namespace mlops::artifacts {

// The set of keys that this process is using. Must outlive its claims.
// Thread-safe.
class Claims {
 public:
  // Holds one key until it is destroyed.
  class Claim {
   public:
    Claim(Claims* claims, std::string key)
        : claims_(claims), key_(std::move(key)) {}
    ~Claim() {
      absl::MutexLock lock(&claims_->mutex_);
      claims_->keys_.erase(key_);
    }
    Claim(const Claim&) = delete;
    Claim& operator=(const Claim&) = delete;

   private:
    Claims* const claims_;
    const std::string key_;
  };

  // Claims the key. Returns null if it is already claimed.
  std::unique_ptr<Claim> TryClaim(std::string key) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    if (!keys_.insert(key).second) return nullptr;
    return std::make_unique<Claim>(this, std::move(key));
  }
  bool IsClaimed(const std::string& key) const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return keys_.contains(key);
  }

 private:
  mutable absl::Mutex mutex_;
  absl::flat_hash_set<std::string> keys_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mlops::artifacts

#endif  // MLOPS_SERVICE_ARTIFACTS_CLAIMS_H_
