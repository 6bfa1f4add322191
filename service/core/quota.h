#ifndef MLOPS_SERVICE_CORE_QUOTA_H_
#define MLOPS_SERVICE_CORE_QUOTA_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "service/core/usage.h"
#include "service/core/workspace.h"

// Decides what a quota allows. Pure and thread-safe.
namespace mlops::core {

// The number of regular files in the five directories of a workspace, and their
// total size; or how much a change adds to both.
struct Amount {
  int64_t file_count = 0;
  int64_t size_bytes = 0;

  Amount& operator+=(const Amount& other) {
    file_count += other.file_count;
    size_bytes += other.size_bytes;
    return *this;
  }
  Amount& operator-=(const Amount& other) {
    file_count -= other.file_count;
    size_bytes -= other.size_bytes;
    return *this;
  }
  bool operator==(const Amount&) const = default;
};
inline Amount operator+(Amount a, const Amount& b) { return a += b; }
inline Amount operator-(Amount a, const Amount& b) { return a -= b; }

// Returns the part of `usage` that counts against the quota.
Amount AmountOf(const Usage& usage);

// Checks a change that needs `wanted` in addition to `used`. A limit never
// refuses a change that adds nothing to the limited amount, even if the
// workspace already exceeds it. Returns RESOURCE_EXHAUSTED/NO_SPACE {quota,
// limit, used, wanted} if the change would exceed a limit of `project`.
absl::Status CheckQuota(absl::string_view project, const Quota& quota,
                        const Amount& used, const Amount& wanted);

// Returns whether `used` exceeds the quota.
bool IsOverQuota(const Quota& quota, const Amount& used);

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_QUOTA_H_
