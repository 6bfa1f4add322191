#include "service/observe/counters.h"

#include <algorithm>

namespace mlops::observe {

Histogram::Histogram(const std::vector<absl::Duration>& bounds)
    : bounds_(bounds), sums_(bounds.size() + 2) {}

void Histogram::Observe(absl::Duration duration) {
  const auto bucket =
      std::lower_bound(bounds_.begin(), bounds_.end(), duration);
  sums_.Add(static_cast<size_t>(bucket - bounds_.begin()));
  const int64_t nanos = absl::ToInt64Nanoseconds(duration);
  sums_.Add(bounds_.size() + 1,
            static_cast<uint64_t>(std::max<int64_t>(nanos, 0)));
}

Histogram::Snapshot Histogram::Take() const {
  Snapshot snapshot;
  uint64_t count = 0;
  // Prometheus expects cumulative counts.
  for (size_t i = 0; i <= bounds_.size(); ++i)
    snapshot.cumulative.push_back(count += sums_.Get(i));
  snapshot.sum_seconds =
      static_cast<double>(sums_.Get(bounds_.size() + 1)) / 1e9;
  return snapshot;
}

}  // namespace mlops::observe
