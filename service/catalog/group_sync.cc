#include "service/catalog/group_sync.h"

namespace mlops::catalog {

absl::Status GroupSync::Sync() {
  uint64_t mine;
  {
    absl::MutexLock lock(&mutex_);
    // A sync that runs already may have missed what this caller did: the one after it will not.
    mine = begun_ + 1;
    const auto idle_or_done = [this, mine]()
                                  ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return ended_ >= mine || ended_ == begun_; };
    mutex_.Await(absl::Condition(&idle_or_done));
    if (ended_ >= mine || !failure_.ok()) return failure_;
    begun_ = mine;
  }
  absl::Status status = dir_->Sync();
  absl::MutexLock lock(&mutex_);
  ended_ = mine;
  failure_.Update(status);
  return failure_;
}

}  // namespace mlops::catalog
