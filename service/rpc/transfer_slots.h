#ifndef MLOPS_SERVICE_RPC_TRANSFER_SLOTS_H_
#define MLOPS_SERVICE_RPC_TRANSFER_SLOTS_H_

#include <atomic>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "service/core/errors.h"
#include "service/rpc/steady_clock.h"

namespace mlops::rpc {

// Each needs one thread of a small pool now and then, and a few megabytes.
inline constexpr int kMaxTransfers = 16;

// Limits how many whole workspaces are copied at once: clones, exports
// and imports. Thread-safe.
class TransferSlots {
 public:
  explicit TransferSlots(int max_transfers) : max_transfers_(max_transfers) {}

  // Number of transfers that run, and their maximum.
  int running() const { return running_.load(std::memory_order_relaxed); }
  int max_transfers() const { return max_transfers_; }
  // When a transfer was last refused.
  SteadyClock::time_point last_refusal() const { return last_refusal_.load(); }

  // Permission to run one transfer, from Take() to destruction.
  // Not thread-safe.
  class Slot {
   public:
    explicit Slot(TransferSlots* slots) : slots_(slots) {}
    ~Slot() {
      if (taken_) slots_->running_.fetch_sub(1);
    }
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;

    // Returns UNAVAILABLE/OVERLOADED, and takes nothing, if too many transfers
    // run.
    absl::Status Take() {
      int running = slots_->running_.load();
      do {
        if (running >= slots_->max_transfers_) return slots_->Refuse();
      } while (!slots_->running_.compare_exchange_weak(running, running + 1));
      taken_ = true;
      return absl::OkStatus();
    }

   private:
    TransferSlots* const slots_;
    bool taken_ = false;
  };

 private:
  absl::Status Refuse() {
    last_refusal_ = SteadyClock::now();
    return core::Overloaded(
        absl::StrCat("clones, exports and imports, of which ", max_transfers_,
                     " may run"),
        absl::Seconds(1));
  }

  const int max_transfers_;
  std::atomic<int> running_ = 0;
  std::atomic<SteadyClock::time_point> last_refusal_ = kLongAgo;
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_TRANSFER_SLOTS_H_
