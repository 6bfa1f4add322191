#include "service/core/resume_token.h"

#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "proto/cpp/base/status_macros.h"
#include "service/core/errors.h"
#include "service/core/page_token.h"

namespace mlops::core {
namespace {

constexpr absl::string_view kVersion = "1";
constexpr absl::string_view kField = "resume_token";
// Distinguishes resume tokens from page tokens.
constexpr absl::string_view kContext = "watch";
// Precedes the listed project, so that "" differs from none.
constexpr absl::string_view kListedThrough = "=";

}  // namespace

std::string EncodeResumeToken(const ResumePoint& point) {
  return SealToken(
      absl::StrCat(kVersion, "\n", point.run, "\n", point.sequence, "\n",
                   point.view, "\n",
                   point.listed_through.has_value()
                       ? absl::StrCat(kListedThrough, *point.listed_through)
                       : ""),
      kContext);
}

absl::StatusOr<ResumePoint> DecodeResumeToken(absl::string_view token) {
  ASSIGN_OR_RETURN(const std::string payload,
                   OpenToken(token, kContext, kField));
  const std::vector<absl::string_view> fields = absl::StrSplit(payload, '\n');
  ResumePoint point;
  if (fields.size() != 5 || fields[0] != kVersion ||
      !absl::SimpleAtoi(fields[2], &point.sequence))
    return TokenInvalid(kField);
  point.run = std::string(fields[1]);
  point.view = std::string(fields[3]);
  absl::string_view listed = fields[4];
  if (absl::ConsumePrefix(&listed, kListedThrough))
    point.listed_through = std::string(listed);
  return point;
}

}  // namespace mlops::core
