#ifndef MLOPS_SERVICE_OBSERVE_METRICS_H_
#define MLOPS_SERVICE_OBSERVE_METRICS_H_

#include <functional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "service/observe/counters.h"

namespace mlops::observe {

// The properties that all time series of one name share.
struct Family {
  // Follows the conventions of Prometheus: the unit as a suffix (_seconds,
  // _bytes), then _total for a counter.
  std::string name;
  // One sentence for the operator.
  std::string help;
};

using Labels = std::vector<std::pair<std::string, std::string>>;

// The metrics of one process, in the order in which their families were added.
// Writes the Prometheus text format 0.0.4
// (prometheus.io/docs/instrumenting/exposition_formats). Thread-safe.
//
// We write the format ourselves because Debian 12 provides prometheus-cpp only
// as a shared library, and the server must remain a self-contained binary.
class Metrics {
 public:
  // Returns the current value, or NaN to omit a time series that has no value
  // at the moment. Only Write() calls it, one call at a time. Must not block on
  // a disk or a network, and must not call this object.
  using Read = std::function<double()>;

  // Adds a time series. Series of one name must have the same type and
  // different labels. The first help text wins.
  void AddCounter(const Family& family, const Labels& labels, Read read);
  void AddGauge(const Family& family, const Labels& labels, Read read);
  // `histogram` must outlive this.
  void AddHistogram(const Family& family, const Labels& labels,
                    const Histogram* histogram);

  // The Content-Type of Write()'s result.
  static constexpr absl::string_view kContentType =
      "text/plain; version=0.0.4; charset=utf-8";
  std::string Write() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Series {
    // `name="value"` of all labels, separated by commas.
    std::string labels;
    std::variant<Read, const Histogram*> source;
  };
  struct Group {
    std::string name;
    std::string help;
    absl::string_view type;
    std::vector<Series> series;
  };

  void Add(const Family& family, absl::string_view type, Series series)
      ABSL_LOCKS_EXCLUDED(mutex_);

  mutable absl::Mutex mutex_;
  std::vector<Group> groups_ ABSL_GUARDED_BY(mutex_);
  // Index in groups_ by name.
  absl::flat_hash_map<std::string, size_t> index_ ABSL_GUARDED_BY(mutex_);
};

// Adds the process_* metrics that Prometheus' client libraries agree on, from
// /proc/self. Omits them where there is no /proc.
void AddProcessMetrics(Metrics& metrics);

}  // namespace mlops::observe

#endif  // MLOPS_SERVICE_OBSERVE_METRICS_H_
