#ifndef MLOPS_SERVICE_CORE_ISO_TIME_H_
#define MLOPS_SERVICE_CORE_ISO_TIME_H_

#include <optional>
#include <string>

#include "absl/time/time.h"

// Converts times to the precision and text in which they are stored. Pure
// and thread-safe.
namespace mlops::core {

// Returns `time` truncated to whole microseconds, the precision of records.
absl::Time WholeMicros(absl::Time time);

// Returns `time`, clamped to the years 1 to 9999, which both protobuf
// timestamps and the text below can represent.
absl::Time ClampTime(absl::Time time);

// Formats `time` like Python's isoformat(), in ISO 8601 with microseconds
// and offset: 2026-01-31T12:00:00.000000+00:00.
std::string FormatIsoTime(absl::Time time);

// Parses ISO 8601 as written by Python's isoformat() and by YAML, including a
// date alone. A time without an offset is UTC. Truncates to whole microseconds.
// Returns nullopt if `text` is malformed or its time lies outside the range
// of ClampTime().
std::optional<absl::Time> ParseIsoTime(const std::string& text);

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_ISO_TIME_H_
