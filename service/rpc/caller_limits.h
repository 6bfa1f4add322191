#ifndef MLOPS_SERVICE_RPC_CALLER_LIMITS_H_
#define MLOPS_SERVICE_RPC_CALLER_LIMITS_H_

#include <array>
#include <chrono>
#include <cstddef>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/node_hash_map.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "service/rpc/steady_clock.h"

namespace mlops::rpc {

// Bounds what each caller has in flight, so that no caller can starve the
// others, and tells which calls should be paced. Thread-safe.
class CallerLimits {
 public:
  struct Use {
    int calls = 0;
    // Artifact and status streams, each of which is also a call.
    int streams = 0;
    // Bytes of requests.
    size_t bytes = 0;
  };
  static constexpr Use kDefault = {
      .calls = 256, .streams = 64, .bytes = size_t{48} << 20};
  // A caller with more calls in flight is paced while others call.
  static constexpr int kPromptCalls = 32;
  // With more streams in flight, their tasks are paced while others call.
  static constexpr int kPromptStreams = 8;
  // How long after its last call a caller counts as one that calls.
  static constexpr std::chrono::seconds kRecently{1};

  // A caller and what it has in flight.
  using Entry = std::pair<const std::string, Use>;

  // A part of a caller's limits, returned on destruction.
  class Share {
   public:
    Share() = default;
    Share(const Share&) = delete;
    Share& operator=(const Share&) = delete;
    ~Share() {
      if (limits_ != nullptr) limits_->Return(*this);
    }
    // Whether the call should be paced: when it began, its caller had many
    // calls in flight, and others were calling too.
    bool is_paced() const { return is_paced_; }
    // Whether a stream's next task should be paced: at `now`, its caller has
    // many streams in flight, and others are calling.
    bool PacesStream(SteadyClock::time_point now) const {
      return limits_ != nullptr && limits_->PacesStreams(*caller_, now);
    }

   private:
    friend class CallerLimits;
    CallerLimits* limits_ = nullptr;
    Entry* caller_ = nullptr;
    Use use_;
    bool is_paced_ = false;
  };

  explicit CallerLimits(const Use& most = kDefault) : most_(most) {}

  // Adds `use`, which begins at `now`, to what `caller` has in flight, until
  // `share`, which must be new, is destroyed. If that would exceed a limit,
  // returns UNAVAILABLE/OVERLOADED and changes nothing.
  absl::Status Take(const std::string& caller, const Use& use,
                    SteadyClock::time_point now, Share* share)
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void Return(const Share& share) ABSL_LOCKS_EXCLUDED(mutex_);
  bool PacesStreams(const Entry& caller, SteadyClock::time_point now)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void NoteCall(const std::string& caller, SteadyClock::time_point now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Returns whether others than `caller` have called recently.
  bool OthersCall(const std::string& caller, SteadyClock::time_point now) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  struct Last {
    std::string caller;
    SteadyClock::time_point time;
  };

  const Use most_;
  absl::Mutex mutex_;
  // The last two callers, the latest first; "" before there were any.
  std::array<Last, 2> last_ ABSL_GUARDED_BY(mutex_);
  // Contains only callers that have something in flight.
  absl::node_hash_map<std::string, Use> uses_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_CALLER_LIMITS_H_
