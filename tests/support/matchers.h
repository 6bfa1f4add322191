#ifndef MLOPS_TESTS_SUPPORT_MATCHERS_H_
#define MLOPS_TESTS_SUPPORT_MATCHERS_H_

#include <gmock/gmock.h>

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/cpp/base/error.h"

// Matchers for absl::Status and absl::StatusOr, which the installed version of
// Abseil does not provide.
namespace mlops::support {

inline const absl::Status& StatusOf(const absl::Status& status) {
  return status;
}
template <typename T>
const absl::Status& StatusOf(const absl::StatusOr<T>& result) {
  return result.status();
}

// Matches an OK status.
MATCHER(IsOk, "") {
  *result_listener << StatusOf(arg);
  return StatusOf(arg).ok();
}

// Matches an error with this code and this ErrorInfo reason; "" matches an
// error without a reason.
MATCHER_P2(IsError, code, reason, "") {
  *result_listener << StatusOf(arg);
  return StatusOf(arg).code() == code &&
         base::GetReason(StatusOf(arg)) == reason;
}

// Matches an error whose metadata has `key` with a matching value.
MATCHER_P2(HasDetail, key, value_matcher, "") {
  const auto info = base::GetErrorInfo(StatusOf(arg));
  *result_listener << StatusOf(arg);
  return info && info->metadata.count(key) == 1 &&
         testing::ExplainMatchResult(value_matcher, info->metadata.at(key),
                                     result_listener);
}

// Matches a status with a matching message.
MATCHER_P(HasMessage, message_matcher, "") {
  return testing::ExplainMatchResult(
      message_matcher, std::string(StatusOf(arg).message()), result_listener);
}

}  // namespace mlops::support

// ASSERT_OK ends the test on an error; EXPECT_OK lets it continue.
#define ASSERT_OK(expr) ASSERT_THAT(expr, ::mlops::support::IsOk())
#define EXPECT_OK(expr) EXPECT_THAT(expr, ::mlops::support::IsOk())

#endif  // MLOPS_TESTS_SUPPORT_MATCHERS_H_
