#include "service/observe/reload_metrics.h"

#include <utility>

#include "absl/time/time.h"

namespace mlops::observe {
namespace {

double SecondsOf(absl::Time time) {
  return absl::ToDoubleSeconds(time - absl::UnixEpoch());
}

}  // namespace

ReloadMetrics::ReloadMetrics(Metrics& metrics, const std::string& file,
                             base::Clock clock)
    : clock_(std::move(clock)), last_success_(SecondsOf(clock_())) {
  const Family reloads = {"workspaced_reloads_total",
                          "Times that a changed file was read again."};
  metrics.AddCounter(reloads, {{"file", file}, {"result", "success"}},
                     [this] { return static_cast<double>(successes_); });
  metrics.AddCounter(reloads, {{"file", file}, {"result", "failure"}},
                     [this] { return static_cast<double>(failures_); });
  metrics.AddGauge({"workspaced_last_reload_successful",
                    "1 if the content of the file is in use; 0 if it is "
                    "invalid, so that older content is."},
                   {{"file", file}}, [this] { return is_current_ ? 1 : 0; });
  metrics.AddGauge({"workspaced_last_reload_success_timestamp_seconds",
                    "When the file was last read successfully."},
                   {{"file", file}}, [this] { return last_success_.load(); });
}

void ReloadMetrics::Count(const absl::StatusOr<bool>& reloaded) {
  if (!reloaded.ok()) {
    ++failures_;
    is_current_ = false;
  } else if (*reloaded) {
    ++successes_;
    is_current_ = true;
    last_success_ = SecondsOf(clock_());
  }
}

}  // namespace mlops::observe
