#include "service/doctor/finding.h"

namespace mlops::doctor {

absl::string_view NameOf(Severity severity) {
  switch (severity) {
    case Severity::kNote:
      return "note";
    case Severity::kWarning:
      return "warning";
    case Severity::kError:
      return "error";
  }
  return "";
}

void Findings::Add(Finding finding) {
  std::vector<size_t>& kept = kept_[{finding.project, finding.code}];
  if (kept.size() < kMaxPerProject) {
    kept.push_back(all_.size());
    all_.push_back(std::move(finding));
    return;
  }
  // The limit is reached: the last finding stands for this one.
  Finding& last = all_[kept.back()];
  ++last.more;
  for (Repair& repair : finding.repairs)
    last.repairs.push_back(std::move(repair));
}

}  // namespace mlops::doctor
