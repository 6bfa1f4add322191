#ifndef MLOPS_TESTS_SUPPORT_MATCHERS_H_
#define MLOPS_TESTS_SUPPORT_MATCHERS_H_

#include <gmock/gmock.h>

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/cpp/base/error.h"

// Matchers of absl::Status and absl::StatusOr, which the installed Abseil does
// not have.
namespace mlops::support {

inline const absl::Status& StatusOf(const absl::Status& status) {
  return status;
}
template <typename T>
const absl::Status& StatusOf(const absl::StatusOr<T>& result) {
  return result.status();
}

MATCHER(IsOk, "") {
  *result_listener << StatusOf(arg);
  return StatusOf(arg).ok();
}

// The code, and the reason among the details, "" if there must be none.
MATCHER_P2(IsError, code, reason, "") {
  *result_listener << StatusOf(arg);
  return StatusOf(arg).code() == code &&
         base::GetReason(StatusOf(arg)) == reason;
}

// A key among the details whose value matches.
MATCHER_P2(HasDetail, key, value_matcher, "") {
  const auto info = base::GetErrorInfo(StatusOf(arg));
  *result_listener << StatusOf(arg);
  return info && info->metadata.count(key) == 1 &&
         testing::ExplainMatchResult(value_matcher, info->metadata.at(key),
                                     result_listener);
}

MATCHER_P(HasMessage, message_matcher, "") {
  return testing::ExplainMatchResult(
      message_matcher, std::string(StatusOf(arg).message()), result_listener);
}

}  // namespace mlops::support

// For results that a test cannot go on without.
#define ASSERT_OK(expr) ASSERT_THAT(expr, ::mlops::support::IsOk())
#define EXPECT_OK(expr) EXPECT_THAT(expr, ::mlops::support::IsOk())

#endif  // MLOPS_TESTS_SUPPORT_MATCHERS_H_
