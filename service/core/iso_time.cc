#include "service/core/iso_time.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/civil_time.h"
#include "re2/re2.h"

namespace mlops::core {

absl::Time WholeMicros(absl::Time time) {
  return absl::FromUnixMicros(absl::ToUnixMicros(time));
}

absl::Time ClampTime(absl::Time time) {
  static const absl::Time first =
      absl::FromCivil(absl::CivilSecond(1, 1, 1), absl::UTCTimeZone());
  static const absl::Time last =
      absl::FromCivil(absl::CivilSecond(10'000, 1, 1), absl::UTCTimeZone()) -
      absl::Microseconds(1);
  return std::clamp(time, first, last);
}

std::string FormatIsoTime(absl::Time time) {
  return absl::FormatTime("%E4Y-%m-%dT%H:%M:%E6S+00:00", time,
                          absl::UTCTimeZone());
}

std::optional<absl::Time> ParseIsoTime(const std::string& text) {
  static const RE2& pattern = *new RE2(
      R"((\d{4}-\d{2}-\d{2})(?:(?:[Tt]|[ \t]+)(\d{1,2}:\d{2}:\d{2}(?:\.\d{1,9})?)[ \t]*(Z|[-+]\d{2}:?\d{2}|[-+]\d{2})?)?)");
  std::string date, clock, offset;
  if (!RE2::FullMatch(text, pattern, &date, &clock, &offset))
    return std::nullopt;
  // Add the parts that may be omitted, because absl::ParseTime() needs them.
  if (clock.empty()) clock = "00:00:00";
  if (offset.empty()) offset = "Z";
  if (offset.size() == 3) offset += ":00";
  if (offset.size() == 5) offset.insert(3, ":");
  absl::Time time;
  std::string error;
  if (!absl::ParseTime(absl::RFC3339_full,
                       absl::StrCat(date, "T", clock, offset), &time, &error))
    return std::nullopt;
  // The offset may move a time in the year 1 or 9999 out of the range.
  time = WholeMicros(time);
  return time == ClampTime(time) ? std::optional(time) : std::nullopt;
}

}  // namespace mlops::core
