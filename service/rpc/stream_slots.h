#ifndef MLOPS_SERVICE_RPC_STREAM_SLOTS_H_
#define MLOPS_SERVICE_RPC_STREAM_SLOTS_H_

#include <atomic>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "service/core/errors.h"
#include "service/rpc/steady_clock.h"

namespace mlops::rpc {

// Limits how many streams of some kind run at once. Thread-safe.
class StreamSlots {
 public:
  // `what` names the streams in errors, in the plural. Errors suggest
  // `retry_delay` to refused clients.
  StreamSlots(int max, std::string what, absl::Duration retry_delay)
      : max_(max), what_(std::move(what)), retry_delay_(retry_delay) {}

  // Number of running streams, and its maximum.
  int running() const { return running_.load(std::memory_order_relaxed); }
  int max() const { return max_; }
  // When a stream was last refused.
  SteadyClock::time_point last_refusal() const { return last_refusal_.load(); }

  // Permission to run one stream, held from Take() until destruction. Not
  // thread-safe.
  class Slot {
   public:
    explicit Slot(StreamSlots* slots) : slots_(slots) {}
    ~Slot() {
      if (taken_) slots_->running_.fetch_sub(1);
    }
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;

    // Takes a slot. Returns UNAVAILABLE/OVERLOADED if too many streams run.
    absl::Status Take() {
      int running = slots_->running_.load();
      do {
        if (running >= slots_->max_) return slots_->Refuse();
      } while (!slots_->running_.compare_exchange_weak(running, running + 1));
      taken_ = true;
      return absl::OkStatus();
    }

   private:
    StreamSlots* const slots_;
    bool taken_ = false;
  };

 private:
  absl::Status Refuse() {
    last_refusal_ = SteadyClock::now();
    return core::Overloaded(
        absl::StrCat(what_, ", of which ", max_, " may run"), retry_delay_);
  }

  const int max_;
  const std::string what_;
  const absl::Duration retry_delay_;
  std::atomic<int> running_ = 0;
  std::atomic<SteadyClock::time_point> last_refusal_ = kLongAgo;
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_STREAM_SLOTS_H_
