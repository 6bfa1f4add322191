#include "service/core/layout.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "service/core/iso_time.h"

namespace mlops::core::layout {
namespace {

constexpr absl::string_view kRecordTempPrefix = ".workspace.yaml.";
constexpr size_t kIdDigits = 32;

// Parses a time of a name in the trash. Returns nullopt if it is malformed or
// outside the range of ClampTime().
std::optional<absl::Time> ParseMicros(absl::string_view text) {
  int64_t micros = 0;
  if (!absl::SimpleAtoi(text, &micros) || micros < 0) return std::nullopt;
  const absl::Time time = absl::FromUnixMicros(micros);
  return time == ClampTime(time) ? std::optional(time) : std::nullopt;
}

}  // namespace

std::string RecordPath(const ProjectName& project) {
  return absl::StrCat(project.str(), "/", kRecord);
}

std::string RecordTempFile(absl::string_view id) {
  return absl::StrCat(kRecordTempPrefix, id);
}

bool IsRecordTempFile(absl::string_view name) {
  return absl::StartsWith(name, kRecordTempPrefix);
}

std::string FormatHiddenArtifact(absl::string_view id) {
  return absl::StrCat(kUploadsDir, ".", id, kRemovedSuffix);
}

absl::string_view ParseHiddenArtifact(absl::string_view name) {
  const bool ours = absl::ConsumePrefix(&name, kUploadsDir) &&
                    absl::ConsumePrefix(&name, ".") &&
                    absl::ConsumeSuffix(&name, kRemovedSuffix) &&
                    name.size() == kIdDigits &&
                    std::all_of(name.begin(), name.end(), absl::ascii_isxdigit);
  return ours ? name : "";
}

std::string FormatTrashName(const TrashName& name) {
  const std::string purge =
      name.purge_time ? absl::StrCat("-", absl::ToUnixMicros(*name.purge_time))
                      : "";
  return absl::StrCat(absl::ToUnixMicros(name.delete_time), purge, ".",
                      name.uid, ".", name.project.str());
}

std::optional<TrashName> ParseTrashName(absl::string_view text) {
  // The project comes last because it alone may contain dots.
  const std::vector<absl::string_view> parts =
      absl::StrSplit(text, absl::MaxSplits('.', 2));
  if (parts.size() != 3 || parts[1].empty()) return std::nullopt;
  auto project = ProjectName::Parse(parts[2]);
  const std::vector<absl::string_view> times =
      absl::StrSplit(parts[0], absl::MaxSplits('-', 1));
  const auto delete_time = ParseMicros(times[0]);
  const auto purge_time =
      times.size() == 2 ? ParseMicros(times[1]) : std::nullopt;
  if (!project.ok() || !delete_time || (times.size() == 2 && !purge_time))
    return std::nullopt;
  return TrashName{.delete_time = *delete_time,
                   .purge_time = purge_time,
                   .uid = std::string(parts[1]),
                   .project = *std::move(project)};
}

std::string FormatHiddenName(absl::string_view id, const ProjectName& project) {
  return absl::StrCat(kTrashDir, ".",
                      FormatTrashName({.delete_time = absl::UnixEpoch(),
                                       .uid = std::string(id),
                                       .project = project}));
}

bool IsHiddenName(absl::string_view text) {
  if (!absl::ConsumePrefix(&text, kTrashDir) ||
      !absl::ConsumePrefix(&text, "."))
    return false;
  const auto name = ParseTrashName(text);
  return name && name->being_removed();
}

}  // namespace mlops::core::layout
