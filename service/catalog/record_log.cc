#include "service/catalog/record_log.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace mlops::catalog {
namespace {

// The budget that one line uses, as the time in which it is earned back.
constexpr absl::Duration kPrice = absl::Seconds(1);

}  // namespace

RecordLog::RecordLog(Sink sink, base::SteadyClock clock)
    : sink_(std::move(sink)),
      clock_(std::move(clock)),
      filled_(clock_() - kBurst * kPrice) {}

void RecordLog::Write(absl::string_view line) {
  if (sink_ == nullptr) return;
  std::string text(line);
  // Call the sink without the lock, because it may block on the disk.
  {
    absl::MutexLock lock(&mutex_);
    const absl::Duration now = clock_();
    // Unused budget accumulates only up to kBurst lines.
    filled_ = std::max(filled_, now - kBurst * kPrice);
    if (filled_ + kPrice > now) {
      ++left_out_;
      return;
    }
    filled_ += kPrice;
    if (left_out_ > 0)
      absl::StrAppend(&text, " (", left_out_,
                      " such lines before it were dropped)");
    left_out_ = 0;
  }
  sink_(text);
}

}  // namespace mlops::catalog
