#ifndef MLOPS_SERVICE_OBSERVE_COUNTERS_H_
#define MLOPS_SERVICE_OBSERVE_COUNTERS_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/time/time.h"

namespace mlops::observe {

// A row of sums to which many threads add. Each thread adds to one of several
// copies of the row ("shards"), which share no cache line, so threads rarely
// compete. Thread-safe. Add() is wait-free, allocates nothing and takes a few
// nanoseconds.
class ShardedSums {
 public:
  explicit ShardedSums(size_t count)
      : lines_per_shard_((count + kPerLine - 1) / kPerLine),
        lines_(std::make_unique<Line[]>(kShards * lines_per_shard_)) {}

  // Adds `n` to the sum `index`, which must be less than `count`.
  void Add(size_t index, uint64_t n = 1) {
    At(ShardOfThread(), index).fetch_add(n, std::memory_order_relaxed);
  }

  // Returns a sum, which may lack concurrent additions. The result never
  // decreases from one call to the next.
  uint64_t Get(size_t index) const {
    uint64_t sum = 0;
    for (size_t shard = 0; shard < kShards; ++shard)
      sum += At(shard, index).load(std::memory_order_relaxed);
    return sum;
  }

 private:
  static constexpr size_t kShards = 16;
  static constexpr size_t kPerLine = 8;
  struct alignas(64) Line {
    std::array<std::atomic<uint64_t>, kPerLine> sums = {};
  };

  // Assigns the shards to threads in turn.
  static size_t ShardOfThread() {
    static std::atomic<size_t> threads = 0;
    thread_local const size_t shard =
        threads.fetch_add(1, std::memory_order_relaxed) % kShards;
    return shard;
  }

  std::atomic<uint64_t>& At(size_t shard, size_t index) const {
    return lines_[shard * lines_per_shard_ + index / kPerLine]
        .sums[index % kPerLine];
  }

  const size_t lines_per_shard_;
  const std::unique_ptr<Line[]> lines_;
};

// Counts durations in buckets. Thread-safe. Observe() is as fast as
// ShardedSums::Add().
class Histogram {
 public:
  // `bounds` are the inclusive upper bounds of the buckets, in ascending order.
  // One more bucket receives all longer durations.
  explicit Histogram(const std::vector<absl::Duration>& bounds);

  void Observe(absl::Duration duration);

  const std::vector<absl::Duration>& bounds() const { return bounds_; }

  struct Snapshot {
    // The number of durations up to each bound, then the number of all
    // durations.
    std::vector<uint64_t> cumulative;
    double sum_seconds = 0;
  };
  Snapshot Take() const;

 private:
  const std::vector<absl::Duration> bounds_;
  // The buckets, then the sum in nanoseconds.
  ShardedSums sums_;
};

}  // namespace mlops::observe

#endif  // MLOPS_SERVICE_OBSERVE_COUNTERS_H_
