#ifndef MLOPS_SERVICE_CORE_ISO_TIME_H_
#define MLOPS_SERVICE_CORE_ISO_TIME_H_

#include <optional>
#include <string>

#include "absl/time/time.h"

// Times as they are stored, and as text. Pure and thread-safe.
namespace mlops::core {

// `time` cut to whole microseconds, which is what records keep.
absl::Time WholeMicros(absl::Time time);

// `time`, or the nearest one that a message and our text can hold: those of the
// years 1 to 9999.
absl::Time ClampTime(absl::Time time);

// ISO 8601 as Python's isoformat() writes it, with microseconds and offset:
// 2026-01-31T12:00:00.000000+00:00.
std::string FormatIsoTime(absl::Time time);

// ISO 8601 as Python's isoformat() and YAML write it, a date alone too; without
// an offset it is UTC. Cut to whole microseconds. Nullopt if it is no such
// time, or none that ClampTime() leaves alone.
std::optional<absl::Time> ParseIsoTime(const std::string& text);

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_ISO_TIME_H_
