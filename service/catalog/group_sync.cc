#include "service/catalog/group_sync.h"

namespace mlops::catalog {

absl::Status GroupSync::Sync() {
  uint64_t mine;
  {
    absl::MutexLock lock(&mutex_);
    // A running sync may have missed this caller's changes; the next one covers
    // them.
    mine = begun_ + 1;
    const auto idle_or_done = [this, mine]()
                                  ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
                                    return ended_ >= mine || ended_ == begun_;
                                  };
    mutex_.Await(absl::Condition(&idle_or_done));
    // Another caller's sync has covered this call, or a failed sync has made
    // further ones pointless.
    if (ended_ >= mine || !health_->ok())
      return health_->Judge(absl::OkStatus());
    begun_ = mine;
  }
  // Sync without the lock, so that callers can queue up for the next one. Judge
  // the result before waking those that share this one, so that they see a
  // failure too.
  absl::Status status = health_->Sync(*dir_);
  absl::MutexLock lock(&mutex_);
  ended_ = mine;
  return status;
}

}  // namespace mlops::catalog
