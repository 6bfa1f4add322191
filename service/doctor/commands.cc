#include "service/doctor/commands.h"

#include <unistd.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/status_macros.h"
#include "service/doctor/repair.h"

namespace mlops::doctor {
namespace {

// Exit codes, apart from 0.
constexpr int kFound = 1;
constexpr int kServedAlready = 3;
constexpr int kCannotLook = 4;
// Longer than any path, so that findings show it in full.
constexpr size_t kMaxPathBytes = 8192;
constexpr size_t kMaxProblemBytes = 1024;

std::string Shown(absl::string_view text) {
  return base::Echo(text, kMaxPathBytes);
}

int64_t Count(const Report& report, Severity severity) {
  int64_t count = 0;
  for (const Finding& finding : report.findings)
    if (finding.severity == severity) count += 1 + finding.more;
  return count;
}

std::string Counted(int64_t count, absl::string_view what) {
  return absl::StrCat(count, " ", what, count == 1 ? "" : "s");
}

void PrintText(const Report& report, const std::vector<Repaired>& repairs,
               std::ostream& out) {
  int64_t repairable = 0;
  for (const Repaired& repaired : repairs) {
    const bool aside = repaired.repair.kind == Repair::Kind::kSetAside;
    if (repaired.status.ok()) {
      out << "repaired: "
          << (aside ? absl::StrCat("moved ", Shown(repaired.repair.path),
                                   " to ", Shown(repaired.result))
                    : absl::StrCat("made ", Shown(repaired.result)))
          << "\n";
    } else {
      out << "not repaired: " << Shown(repaired.repair.path) << ": "
          << base::Echo(repaired.status.message(), kMaxProblemBytes) << "\n";
    }
  }
  for (const Finding& finding : report.findings) {
    // Count repairs, because one finding may stand for several.
    repairable += static_cast<int64_t>(finding.repairs.size());
    out << NameOf(finding.severity) << ": "
        << (finding.path.empty() ? Shown(report.base) : Shown(finding.path))
        << " " << base::Echo(finding.problem, kMaxProblemBytes);
    if (finding.more > 0) out << " (and " << finding.more << " more like it)";
    out << ". " << Shown(finding.fix) << " [" << finding.code << "]\n";
  }
  out << Counted(report.workspace_count, "workspace") << ": "
      << Counted(Count(report, Severity::kError), "error") << ", "
      << Counted(Count(report, Severity::kWarning), "warning") << ", "
      << Counted(Count(report, Severity::kNote), "note");
  if (repairable > 0) out << "; --repair can repair " << repairable;
  out << "\n";
}

void PrintJson(const Report& report, const std::vector<Repaired>& repairs,
               std::ostream& out) {
  nlohmann::ordered_json json = {
      {"base", report.base},
      {"workspaces", report.workspace_count},
      {"errors", Count(report, Severity::kError)},
      {"warnings", Count(report, Severity::kWarning)},
      {"notes", Count(report, Severity::kNote)},
      {"server", nullptr},
      {"findings", nlohmann::ordered_json::array()},
      {"repairs", nlohmann::ordered_json::array()}};
  if (report.holder.holds) {
    json["server"] = {{"pid", report.holder.pid},
                      {"host", report.holder.host},
                      {"addresses", report.holder.addresses}};
  }
  for (const Finding& finding : report.findings) {
    json["findings"].push_back({{"severity", NameOf(finding.severity)},
                                {"code", finding.code},
                                {"project", finding.project},
                                {"path", finding.path},
                                {"problem", finding.problem},
                                {"fix", finding.fix},
                                {"repairable", !finding.repairs.empty()},
                                {"more", finding.more}});
  }
  for (const Repaired& repaired : repairs) {
    json["repairs"].push_back(
        {{"path", repaired.repair.path},
         {"result", repaired.status.ok() ? repaired.result : ""},
         {"error", std::string(repaired.status.message())}});
  }
  // JSON cannot hold names that are not UTF-8, so replace the invalid bytes.
  out << json.dump(2, ' ', false,
                   nlohmann::ordered_json::error_handler_t::replace)
      << "\n";
}

// Locks the base for repairs. Returns FAILED_PRECONDITION if another process
// holds it, and PERMISSION_DENIED for another user than the server's:
// the server could not use what this process creates.
absl::StatusOr<std::unique_ptr<fs::BaseLock>> Lock(const std::string& base) {
  ASSIGN_OR_RETURN(const fs::Account server, FindServerAccount(base));
  if (server.uid != ::geteuid()) {
    return absl::PermissionDeniedError(absl::StrCat(
        "the server's user is ", server.uid, ", this process's user is ",
        ::geteuid(), ": run it as the server's user"));
  }
  ASSIGN_OR_RETURN(auto lock, fs::BaseLock::Acquire(base, LockNames()));
  // Lock the file too: on NFS, directories cannot be locked.
  RETURN_IF_ERROR(lock->MakeFile());
  return lock;
}

struct Outcome {
  Report report;
  std::vector<Repaired> repairs;
};

absl::StatusOr<Outcome> ExamineAndRepair(const std::string& base,
                                         const Options& options) {
  Outcome outcome;
  ASSIGN_OR_RETURN(outcome.report, Examine(base, options, /*is_ours=*/true));
  ASSIGN_OR_RETURN(const auto dir, fs::OpenBaseDir(base));
  outcome.repairs = CarryOut(*dir, outcome.report.findings, options.clock());
  // Report only the findings that the repairs have left.
  if (!outcome.repairs.empty()) {
    ASSIGN_OR_RETURN(outcome.report, Examine(base, options, /*is_ours=*/true));
  }
  return outcome;
}

absl::StatusOr<Outcome> Run(const std::string& base, bool repair,
                            const Options& options) {
  if (repair) return ExamineAndRepair(base, options);
  Outcome outcome;
  ASSIGN_OR_RETURN(outcome.report, Examine(base, options));
  return outcome;
}

}  // namespace

int RunDoctor(const std::string& base, bool repair, bool json,
              const Options& options, std::ostream& out, std::ostream& err) {
  const auto fail = [&err](int code, absl::string_view sentence) {
    err << "workspaced: " << sentence << "\n";
    return code;
  };
  const auto found = FindBase(base);
  if (!found.ok()) return fail(kCannotLook, found.status().message());
  // Hold the lock to the end, so that no server changes the base between
  // the examination and the repairs.
  std::unique_ptr<fs::BaseLock> lock;
  if (repair) {
    auto acquired = Lock(*found);
    if (absl::IsFailedPrecondition(acquired.status())) {
      return fail(kServedAlready, absl::StrCat("cannot repair ", *found, ": ",
                                               Describe(FindHolder(*found)),
                                               " holds it; stop it first"));
    }
    if (!acquired.ok()) {
      return fail(kCannotLook, absl::StrCat("cannot repair ", *found, ": ",
                                            acquired.status().message()));
    }
    lock = *std::move(acquired);
  }
  const auto outcome = Run(*found, repair, options);
  if (!outcome.ok()) {
    return fail(kCannotLook, absl::StrCat("cannot examine ", *found, ": ",
                                          outcome.status().message()));
  }
  (json ? PrintJson : PrintText)(outcome->report, outcome->repairs, out);
  // A failed repair needs attention, even if its finding is only a note.
  const bool failed = std::any_of(
      outcome->repairs.begin(), outcome->repairs.end(),
      [](const Repaired& repaired) { return !repaired.status.ok(); });
  const bool attention = failed ||
                         Count(outcome->report, Severity::kError) > 0 ||
                         Count(outcome->report, Severity::kWarning) > 0;
  return attention ? kFound : 0;
}

}  // namespace mlops::doctor
