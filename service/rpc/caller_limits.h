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

// Bounds what each caller has in flight, so that no caller can starve the
// others. Thread-safe.
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
  // new, is destroyed. If that would exceed a limit, returns
  // UNAVAILABLE/OVERLOADED and changes nothing.
  absl::Status Take(const std::string& caller, const Use& use, Share* share);

 private:
  void Return(const Share& share);

  const Use most_;
  absl::Mutex mutex_;
  // Contains only callers that have something in flight.
  absl::node_hash_map<std::string, Use> uses_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_CALLER_LIMITS_H_
