#ifndef MLOPS_SERVICE_RPC_TRANSFER_SLOTS_H_
#define MLOPS_SERVICE_RPC_TRANSFER_SLOTS_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "service/core/errors.h"
#include "service/rpc/steady_clock.h"

namespace mlops::rpc {

// Each needs one thread of a small pool now and then, and a few megabytes.
inline constexpr int kMaxTransfers = 16;

enum class TransferKind { kClone, kExport, kImport };
inline constexpr size_t kTransferKinds = 3;

// Limits how many whole workspaces are copied at once: clones, exports
// and imports. Also counts them. Thread-safe.
class TransferSlots {
 public:
  // What happened to the transfers of one kind so far.
  struct Counts {
    int running = 0;
    uint64_t succeeded = 0;
    uint64_t failed = 0;
    uint64_t refused = 0;
    // Bytes of archives that were read or staged, and of files that were
    // cloned, also by transfers that failed.
    uint64_t size_bytes = 0;
  };

  explicit TransferSlots(int max_transfers) : max_transfers_(max_transfers) {}

  // Number of transfers that run, and their maximum.
  int running() const { return running_.load(std::memory_order_relaxed); }
  int max_transfers() const { return max_transfers_; }
  Counts counts(TransferKind kind) const {
    const Tally& tally = tallies_[static_cast<size_t>(kind)];
    return {.running = tally.running.load(std::memory_order_relaxed),
            .succeeded = tally.succeeded.load(std::memory_order_relaxed),
            .failed = tally.failed.load(std::memory_order_relaxed),
            .refused = tally.refused.load(std::memory_order_relaxed),
            .size_bytes = tally.size_bytes.load(std::memory_order_relaxed)};
  }
  // When a transfer was last refused.
  SteadyClock::time_point last_refusal() const { return last_refusal_.load(); }

 private:
  struct Tally {
    std::atomic<int> running = 0;
    std::atomic<uint64_t> succeeded = 0;
    std::atomic<uint64_t> failed = 0;
    std::atomic<uint64_t> refused = 0;
    std::atomic<uint64_t> size_bytes = 0;
  };

 public:
  // Permission to run one transfer, from Take() to destruction.
  // Not thread-safe.
  class Slot {
   public:
    Slot(TransferSlots* slots, TransferKind kind)
        : slots_(slots), tally_(slots->tallies_[static_cast<size_t>(kind)]) {}
    ~Slot() {
      if (!taken_) return;
      ++(succeeded_ ? tally_.succeeded : tally_.failed);
      --tally_.running;
      slots_->running_.fetch_sub(1);
    }
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;

    // Returns UNAVAILABLE/OVERLOADED, and takes nothing, if too many transfers
    // run.
    absl::Status Take() {
      int running = slots_->running_.load();
      do {
        if (running >= slots_->max_transfers_) {
          ++tally_.refused;
          return slots_->Refuse();
        }
      } while (!slots_->running_.compare_exchange_weak(running, running + 1));
      ++tally_.running;
      taken_ = true;
      return absl::OkStatus();
    }

    // Counts bytes that the transfer has moved.
    void AddBytes(size_t size_bytes) { tally_.size_bytes += size_bytes; }
    // Tells that the transfer has succeeded; otherwise it counts as failed.
    void Succeed() { succeeded_ = true; }

   private:
    TransferSlots* const slots_;
    Tally& tally_;
    bool taken_ = false;
    bool succeeded_ = false;
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
  std::array<Tally, kTransferKinds> tallies_;
  std::atomic<SteadyClock::time_point> last_refusal_ = kLongAgo;
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_TRANSFER_SLOTS_H_
