#include "mlops/options.h"

#include <utility>

#include "proto/cpp/base/error.h"

namespace mlops {

std::string ErrorReason(const absl::Status& status) {
  return base::GetReason(status);
}

std::map<std::string, std::string> ErrorMetadata(const absl::Status& status) {
  auto info = base::GetErrorInfo(status);
  return info ? std::move(info->metadata)
              : std::map<std::string, std::string>();
}

std::optional<absl::Duration> ErrorRetryDelay(const absl::Status& status) {
  const auto info = base::GetErrorInfo(status);
  return info ? info->retry_delay : std::nullopt;
}

}  // namespace mlops
