#include "service/catalog/group_sync.h"

namespace mlops::catalog {

absl::Status GroupSync::Sync() {
  uint64_t mine;
  {
    absl::MutexLock lock(&mutex_);
    // A sync that runs already may have missed what this caller did: the one
    // after it will not.
    mine = begun_ + 1;
    const auto idle_or_done = [this, mine]()
                                  ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
                                    return ended_ >= mine || ended_ == begun_;
                                  };
    mutex_.Await(absl::Condition(&idle_or_done));
    if (ended_ >= mine || !health_->ok())
      return health_->Judge(absl::OkStatus());
    begun_ = mine;
  }
  // Judged before those who share this sync are woken, so that they hear of its
  // failure too.
  absl::Status status = health_->Sync(*dir_);
  absl::MutexLock lock(&mutex_);
  ended_ = mine;
  return status;
}

}  // namespace mlops::catalog
