#include "service/core/layout.h"

#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace mlops::core::layout {
namespace {

constexpr absl::string_view kRecordTempPrefix = ".workspace.yaml.";

}  // namespace

std::string RecordPath(const ProjectName& project) { return absl::StrCat(project.str(), "/", kRecord); }

std::string RecordTempFile(absl::string_view id) { return absl::StrCat(kRecordTempPrefix, id); }

bool IsRecordTempFile(absl::string_view name) { return absl::StartsWith(name, kRecordTempPrefix); }

std::string FormatTrashName(const TrashName& name) {
  return absl::StrCat(absl::ToUnixMicros(name.delete_time), ".", name.uid, ".", name.project.str());
}

std::optional<TrashName> ParseTrashName(absl::string_view text) {
  // The project comes last because it alone may contain dots.
  const std::vector<absl::string_view> parts = absl::StrSplit(text, absl::MaxSplits('.', 2));
  int64_t micros = 0;
  if (parts.size() != 3 || !absl::SimpleAtoi(parts[0], &micros) || micros < 0 || parts[1].empty()) return std::nullopt;
  auto project = ProjectName::Parse(parts[2]);
  if (!project.ok()) return std::nullopt;
  return TrashName{
      .delete_time = absl::FromUnixMicros(micros), .uid = std::string(parts[1]), .project = *std::move(project)};
}

}  // namespace mlops::core::layout
