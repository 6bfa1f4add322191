#ifndef MLOPS_SERVICE_RPC_BYTE_BUDGET_H_
#define MLOPS_SERVICE_RPC_BYTE_BUDGET_H_

#include <atomic>
#include <cstddef>
#include <utility>

#include "service/rpc/steady_clock.h"

namespace mlops::rpc {

// A memory budget in bytes that many calls share. Large holds leave a quarter
// of it to small ones, so a client that keeps large objects waiting does not
// lock out all others. Thread-safe.
class ByteBudget {
 public:
  explicit ByteBudget(size_t bytes) : bytes_(bytes) {}

  // A part of a budget, returned to it on destruction. Not thread-safe.
  class Hold {
   public:
    Hold() = default;
    explicit Hold(ByteBudget* budget) : budget_(budget) {}
    Hold(Hold&& other) noexcept
        : budget_(std::exchange(other.budget_, nullptr)),
          bytes_(std::exchange(other.bytes_, 0)) {}
    Hold& operator=(Hold&& other) noexcept {
      std::swap(budget_, other.budget_);
      std::swap(bytes_, other.bytes_);
      return *this;
    }
    ~Hold() { Set(0); }

    // Changes the size of the part. If the budget lacks the bytes, returns
    // false and changes nothing. Shrinking always succeeds.
    bool Set(size_t bytes) {
      if (budget_ == nullptr) return true;
      if (bytes > bytes_ && !budget_->TryTake(bytes - bytes_, bytes))
        return false;
      if (bytes < bytes_) budget_->taken_.fetch_sub(bytes_ - bytes);
      bytes_ = bytes;
      return true;
    }

   private:
    ByteBudget* budget_ = nullptr;
    size_t bytes_ = 0;
  };

  size_t taken() const { return taken_.load(); }
  // Whether the budget refused a request in the last `span`.
  bool RefusedWithin(SteadyClock::duration span) const {
    return SteadyClock::now() - last_refusal_.load() < span;
  }

 private:
  // Holds up to this size may use the whole budget.
  static constexpr size_t kSmallBytes = 16 << 10;

  // Takes `more` bytes for a hold that grows to `total`.
  bool TryTake(size_t more, size_t total) {
    const size_t limit = total <= kSmallBytes ? bytes_ : bytes_ - bytes_ / 4;
    size_t taken = taken_.load();
    do {
      if (taken + more > limit) {
        last_refusal_ = SteadyClock::now();
        return false;
      }
    } while (!taken_.compare_exchange_weak(taken, taken + more));
    return true;
  }

  const size_t bytes_;
  std::atomic<size_t> taken_ = 0;
  std::atomic<SteadyClock::time_point> last_refusal_ = kLongAgo;
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_BYTE_BUDGET_H_
