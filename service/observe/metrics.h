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

// What the time series of one name have in common.
struct Family {
  // By the conventions of Prometheus: the unit as suffix (_seconds, _bytes),
  // then _total for a counter.
  std::string name;
  // One sentence for the operator.
  std::string help;
};

using Labels = std::vector<std::pair<std::string, std::string>>;

// The metrics of one process, in the order in which their families were added.
// Written as Prometheus text 0.0.4
// (prometheus.io/docs/instrumenting/exposition_formats). Thread-safe.
//
// An own writer, because Debian 12 has prometheus-cpp as a shared library only,
// and the server must stay one self-contained binary.
class Metrics {
 public:
  // Returns the current value. NaN omits the time series, for values that do
  // not exist at the moment. Called by Write() only, one at a time. Must not
  // block on a disk or a network, and must not call this object.
  using Read = std::function<double()>;

  // Adds a time series. Series of one name must have the same type and
  // different labels; the first help text is used.
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
// /proc/self. Where there is no /proc, they are omitted.
void AddProcessMetrics(Metrics& metrics);

}  // namespace mlops::observe

#endif  // MLOPS_SERVICE_OBSERVE_METRICS_H_
