#include "service/rpc/caller_limits.h"

#include <utility>

#include "absl/algorithm/container.h"
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

void CallerLimits::NoteCall(const std::string& caller,
                            SteadyClock::time_point now) {
  if (last_[0].caller != caller) {
    std::swap(last_[0], last_[1]);
    last_[0].caller = caller;
  }
  last_[0].time = now;
}

bool CallerLimits::OthersCall(const std::string& caller,
                              SteadyClock::time_point now) const {
  return absl::c_any_of(last_, [&](const Last& last) {
    return !last.caller.empty() && last.caller != caller &&
           now - last.time < kRecently;
  });
}

bool CallerLimits::PacesStreams(const Entry& caller,
                                SteadyClock::time_point now) {
  absl::MutexLock lock(&mutex_);
  return caller.second.streams > kPromptStreams &&
         OthersCall(caller.first, now);
}

absl::Status CallerLimits::Take(const std::string& caller, const Use& use,
                                SteadyClock::time_point now, Share* share) {
  absl::MutexLock lock(&mutex_);
  NoteCall(caller, now);
  auto& entry = *uses_.try_emplace(caller).first;
  Use& used = entry.second;
  const bool idle = used.calls == 0;
  absl::Status problem;
  if (used.calls + use.calls > most_.calls) {
    problem = TooMany("calls", static_cast<size_t>(most_.calls));
  } else if (used.streams + use.streams > most_.streams) {
    problem = TooMany("streams", static_cast<size_t>(most_.streams));
  } else if (used.bytes + use.bytes > most_.bytes) {
    problem = TooMany("bytes of requests", most_.bytes);
  }
  if (!problem.ok()) {
    // Refused callers must leave no entry, or the map would grow without bound.
    if (idle) uses_.erase(caller);
    return problem;
  }
  used.calls += use.calls;
  used.streams += use.streams;
  used.bytes += use.bytes;
  // The map's nodes never move, so the share can point to its entry.
  share->limits_ = this;
  share->caller_ = &entry;
  share->use_ = use;
  share->is_paced_ = used.calls > kPromptCalls && OthersCall(caller, now);
  return absl::OkStatus();
}

void CallerLimits::Return(const Share& share) {
  absl::MutexLock lock(&mutex_);
  Use& used = share.caller_->second;
  used.calls -= share.use_.calls;
  used.streams -= share.use_.streams;
  used.bytes -= share.use_.bytes;
  if (used.calls == 0) uses_.erase(share.caller_->first);
}

}  // namespace mlops::rpc
