#include "service/core/quota.h"

#include <optional>

#include "proto/cpp/base/status_macros.h"
#include "service/core/errors.h"

namespace mlops::core {
namespace {

absl::Status CheckLimit(absl::string_view project, absl::string_view name,
                        std::optional<int64_t> limit, int64_t used,
                        int64_t wanted) {
  // Subtract instead of adding `used` and `wanted`, which could overflow. No
  // limit is negative.
  if (!limit || wanted <= 0 || used <= *limit - wanted) return absl::OkStatus();
  return QuotaExceeded(project, name, *limit, used, wanted);
}

}  // namespace

Amount AmountOf(const Usage& usage) {
  return {.file_count = usage.file_count(), .size_bytes = usage.size_bytes()};
}

absl::Status CheckQuota(absl::string_view project, const Quota& quota,
                        const Amount& used, const Amount& wanted) {
  RETURN_IF_ERROR(CheckLimit(project, kMaxSizeBytes, quota.max_size_bytes,
                             used.size_bytes, wanted.size_bytes));
  return CheckLimit(project, kMaxFileCount, quota.max_file_count,
                    used.file_count, wanted.file_count);
}

bool IsOverQuota(const Quota& quota, const Amount& used) {
  return (quota.max_size_bytes && used.size_bytes > *quota.max_size_bytes) ||
         (quota.max_file_count && used.file_count > *quota.max_file_count);
}

}  // namespace mlops::core
