#ifndef MLOPS_SERVICE_ARTIFACTS_CLAIMS_H_
#define MLOPS_SERVICE_ARTIFACTS_CLAIMS_H_

#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "service/artifacts/tree.h"

namespace mlops::artifacts {

// The names in hidden directories of workspaces that this process is using, and
// which the sweep must therefore leave. Must outlive its claims. Thread-safe.
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

  // Claims a name, without its suffix. Returns null if it is already claimed.
  std::unique_ptr<Claim> TryClaim(const ArtifactTree& tree,
                                  absl::string_view id)
      ABSL_LOCKS_EXCLUDED(mutex_) {
    std::string key = KeyOf(tree, id);
    absl::MutexLock lock(&mutex_);
    if (!keys_.insert(key).second) return nullptr;
    return std::make_unique<Claim>(this, std::move(key));
  }
  bool IsClaimed(const ArtifactTree& tree, absl::string_view id) const
      ABSL_LOCKS_EXCLUDED(mutex_) {
    const std::string key = KeyOf(tree, id);
    absl::MutexLock lock(&mutex_);
    return keys_.contains(key);
  }

 private:
  // The inode identifies the workspace: it is unique while the directory is
  // open, and a workspace recreated under the same name has another one.
  static std::string KeyOf(const ArtifactTree& tree, absl::string_view id) {
    return absl::StrCat(tree.stamp().device, " ", tree.stamp().inode, "/", id);
  }

  mutable absl::Mutex mutex_;
  absl::flat_hash_set<std::string> keys_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mlops::artifacts

#endif  // MLOPS_SERVICE_ARTIFACTS_CLAIMS_H_
