#ifndef MLOPS_SERVICE_RPC_TRANSFER_SLOTS_H_
#define MLOPS_SERVICE_RPC_TRANSFER_SLOTS_H_

#include <atomic>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "service/base/thread_pool.h"
#include "service/core/errors.h"

namespace mlops::rpc {

// Bounds how many workspaces are cloned, exported and imported at once, all
// three together: each keeps a disk busy for long. Has a thread for each
// of them, so that they may block and no other call waits for one. Thread-safe.
class TransferSlots {
 public:
  static constexpr int kMax = 4;

  // A slot, returned on destruction. Not thread-safe.
  class Slot {
   public:
    Slot() = default;
    Slot(Slot&& other) noexcept
        : slots_(std::exchange(other.slots_, nullptr)) {}
    Slot& operator=(Slot&& other) noexcept {
      std::swap(slots_, other.slots_);
      return *this;
    }
    ~Slot() {
      if (slots_ != nullptr) slots_->taken_.fetch_sub(1);
    }

    // Takes a slot of `slots`. Returns UNAVAILABLE/OVERLOADED if all are taken.
    absl::Status Take(TransferSlots* slots) {
      if (slots->taken_.fetch_add(1) < kMax) {
        *this = Slot(slots);
        return absl::OkStatus();
      }
      slots->taken_.fetch_sub(1);
      return core::Overloaded(
          "workspaces that are cloned, exported or imported at once",
          absl::Seconds(1));
    }

   private:
    explicit Slot(TransferSlots* slots) : slots_(slots) {}
    TransferSlots* slots_ = nullptr;
  };

  int taken() const { return taken_.load(); }
  // For the tasks of calls that have a slot, one at a time for each.
  base::ThreadPool& workers() { return workers_; }

 private:
  std::atomic<int> taken_ = 0;
  // A call may give up its slot right before its last task ends.
  base::ThreadPool workers_{kMax, 2 * kMax};
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_TRANSFER_SLOTS_H_
