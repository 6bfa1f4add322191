#include "service/rpc/caller_limits.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "service/core/errors.h"

namespace mlops::rpc {
namespace {

constexpr absl::Duration kRetryDelay = absl::Milliseconds(200);

absl::Status TooMany(absl::string_view what, size_t most) {
  return core::Overloaded(
      absl::StrCat(what, " of one caller, who may have ", most, " in flight"),
      kRetryDelay);
}

}  // namespace

absl::Status CallerLimits::Take(const std::string& caller, const Use& use,
                                Share* share) {
  absl::MutexLock lock(&mutex_);
  auto& entry = *uses_.try_emplace(caller).first;
  Use& now = entry.second;
  const bool idle = now.calls == 0;
  absl::Status problem;
  if (now.calls + use.calls > most_.calls) {
    problem = TooMany("calls", static_cast<size_t>(most_.calls));
  } else if (now.streams + use.streams > most_.streams) {
    problem = TooMany("streams", static_cast<size_t>(most_.streams));
  } else if (now.bytes + use.bytes > most_.bytes) {
    problem = TooMany("bytes of requests", most_.bytes);
  }
  if (!problem.ok()) {
    // Refused callers must leave no entry, or the map would grow without bound.
    if (idle) uses_.erase(caller);
    return problem;
  }
  now.calls += use.calls;
  now.streams += use.streams;
  now.bytes += use.bytes;
  // The map's nodes never move, so the share can point to its entry.
  share->limits_ = this;
  share->caller_ = &entry;
  share->use_ = use;
  return absl::OkStatus();
}

void CallerLimits::Return(const Share& share) {
  absl::MutexLock lock(&mutex_);
  Use& now = share.caller_->second;
  now.calls -= share.use_.calls;
  now.streams -= share.use_.streams;
  now.bytes -= share.use_.bytes;
  if (now.calls == 0) uses_.erase(share.caller_->first);
}

}  // namespace mlops::rpc
