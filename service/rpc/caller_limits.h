#ifndef MLOPS_SERVICE_RPC_CALLER_LIMITS_H_
#define MLOPS_SERVICE_RPC_CALLER_LIMITS_H_

#include <cstddef>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/node_hash_map.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

namespace mlops::rpc {

// Bounds what each caller has in flight, so that one of them cannot take
// the whole server from the others. Thread-safe.
class CallerLimits {
 public:
  struct Use {
    int calls = 0;
    // Streams of artifacts and of statuses, which are calls too.
    int streams = 0;
    // Bytes of requests.
    size_t bytes = 0;
  };
  static constexpr Use kDefault = {
      .calls = 256, .streams = 64, .bytes = size_t{48} << 20};

  // A part of a caller's limits, returned on destruction.
  class Share {
   public:
    Share() = default;
    Share(const Share&) = delete;
    Share& operator=(const Share&) = delete;
    ~Share() {
      if (limits_ != nullptr) limits_->Return(*this);
    }

   private:
    friend class CallerLimits;
    CallerLimits* limits_ = nullptr;
    std::pair<const std::string, Use>* caller_ = nullptr;
    Use use_;
  };

  explicit CallerLimits(const Use& most = kDefault) : most_(most) {}

  // Adds `use` to what `caller` has in flight, until `share`, which must be
  // new, is destroyed. Returns UNAVAILABLE/OVERLOADED, and changes nothing,
  // if that would exceed a limit.
  absl::Status Take(const std::string& caller, const Use& use, Share* share);

 private:
  void Return(const Share& share);

  const Use most_;
  absl::Mutex mutex_;
  // Only callers that have something in flight.
  absl::node_hash_map<std::string, Use> uses_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_CALLER_LIMITS_H_
