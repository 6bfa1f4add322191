#ifndef MLOPS_SERVICE_RPC_TRANSFER_SLOTS_H_
#define MLOPS_SERVICE_RPC_TRANSFER_SLOTS_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "service/rpc/steady_clock.h"
#include "service/rpc/stream_slots.h"

namespace mlops::rpc {

// Each transfer needs a few megabytes and, now and then, one thread of a small
// pool.
inline constexpr int kMaxTransfers = 16;

enum class TransferKind { kClone, kExport, kImport };
inline constexpr size_t kTransferKinds = 3;

// Limits how many clones, exports and imports, which copy whole workspaces, run
// at once. Also counts them. Thread-safe.
class TransferSlots {
  struct Tally {
    std::atomic<int> running = 0;
    std::atomic<uint64_t> succeeded = 0;
    std::atomic<uint64_t> failed = 0;
    std::atomic<uint64_t> refused = 0;
    std::atomic<uint64_t> size_bytes = 0;
  };

 public:
  // Totals for the transfers of one kind.
  struct Counts {
    int running = 0;
    uint64_t succeeded = 0;
    uint64_t failed = 0;
    uint64_t refused = 0;
    // Bytes of archives that were read or staged, and of files that were
    // cloned, including those of failed transfers.
    uint64_t size_bytes = 0;
  };

  explicit TransferSlots(int max_transfers)
      : slots_(max_transfers, "clones, exports and imports", absl::Seconds(1)) {
  }

  // Number of running transfers, and its maximum.
  int running() const { return slots_.running(); }
  int max_transfers() const { return slots_.max(); }
  Counts counts(TransferKind kind) const {
    const Tally& tally = tallies_[static_cast<size_t>(kind)];
    return {.running = tally.running.load(std::memory_order_relaxed),
            .succeeded = tally.succeeded.load(std::memory_order_relaxed),
            .failed = tally.failed.load(std::memory_order_relaxed),
            .refused = tally.refused.load(std::memory_order_relaxed),
            .size_bytes = tally.size_bytes.load(std::memory_order_relaxed)};
  }
  // When a transfer was last refused.
  SteadyClock::time_point last_refusal() const { return slots_.last_refusal(); }

  // Permission to run one transfer, held from Take() until destruction. Not
  // thread-safe.
  class Slot {
   public:
    Slot(TransferSlots* slots, TransferKind kind)
        : tally_(slots->tallies_[static_cast<size_t>(kind)]),
          slot_(&slots->slots_) {}
    ~Slot() {
      if (!taken_) return;
      ++(succeeded_ ? tally_.succeeded : tally_.failed);
      --tally_.running;
    }
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;

    // Takes a slot. Returns UNAVAILABLE/OVERLOADED if too many transfers run.
    absl::Status Take() {
      const absl::Status status = slot_.Take();
      taken_ = status.ok();
      if (taken_) {
        ++tally_.running;
      } else {
        ++tally_.refused;
      }
      return status;
    }

    // Adds to the bytes that transfers have moved.
    void AddBytes(size_t size_bytes) { tally_.size_bytes += size_bytes; }
    // Marks the transfer as succeeded; without this call it counts as failed.
    void Succeed() { succeeded_ = true; }

   private:
    Tally& tally_;
    StreamSlots::Slot slot_;
    bool taken_ = false;
    bool succeeded_ = false;
  };

 private:
  StreamSlots slots_;
  std::array<Tally, kTransferKinds> tallies_;
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_TRANSFER_SLOTS_H_
