#include "service/core/iso_time.h"

#include "absl/strings/str_cat.h"
#include "re2/re2.h"

namespace mlops::core {

absl::Time WholeMicros(absl::Time time) { return absl::FromUnixMicros(absl::ToUnixMicros(time)); }

std::string FormatIsoTime(absl::Time time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E6S+00:00", time, absl::UTCTimeZone());
}

std::optional<absl::Time> ParseIsoTime(const std::string& text) {
  static const RE2& pattern = *new RE2(
      R"((\d{4}-\d{2}-\d{2})(?:(?:[Tt]|[ \t]+)(\d{1,2}:\d{2}:\d{2}(?:\.\d{1,9})?)[ \t]*(Z|[-+]\d{2}:?\d{2}|[-+]\d{2})?)?)");
  std::string date, clock, offset;
  if (!RE2::FullMatch(text, pattern, &date, &clock, &offset)) return std::nullopt;
  if (clock.empty()) clock = "00:00:00";
  if (offset.empty()) offset = "Z";
  if (offset.size() == 3) offset += ":00";
  if (offset.size() == 5) offset.insert(3, ":");
  absl::Time time;
  std::string error;
  if (!absl::ParseTime(absl::RFC3339_full, absl::StrCat(date, "T", clock, offset), &time, &error)) return std::nullopt;
  return WholeMicros(time);
}

}  // namespace mlops::core
