#include "service/doctor/doctor.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "proto/cpp/base/status_macros.h"
#include "service/base/thread_pool.h"
#include "service/core/layout.h"

namespace mlops::doctor {
namespace {

constexpr void (*kBaseChecks[])(const BaseView&, Findings&) = {
    CheckBaseOwner,  CheckFileSystems, CheckSpace, CheckLock, CheckServerDirs,
    CheckCheckpoint, CheckStaging,     CheckTrash, CheckNames};
constexpr void (*kProjectChecks[])(ProjectView&, Findings&) = {
    // First, because the others depend on the record.
    CheckRecord, CheckDirectories, CheckUploads,
    CheckTree,   CheckMlflow,      CheckDvc};
// Number of workspaces that a thread takes at a time.
constexpr size_t kRun = 16;

// The results of one workspace's checks.
struct Examined {
  std::vector<Finding> findings;
  // "" if the record cannot be read.
  std::string uid;
};

// Identifies a finding, to compare the results of two examinations.
using Key = std::tuple<std::string, std::string, std::string>;
Key KeyOf(const Finding& finding) {
  return {finding.project, finding.code, finding.path};
}

// Returns those of `second` that are also in `first`.
std::vector<Finding> Confirmed(const std::vector<Finding>& first,
                               std::vector<Finding> second) {
  std::set<Key> known;
  for (const Finding& finding : first) known.insert(KeyOf(finding));
  std::erase_if(second, [&known](const Finding& finding) {
    return known.count(KeyOf(finding)) == 0;
  });
  return second;
}

std::vector<Finding> ExamineBase(const BaseView& base) {
  Findings findings;
  for (const auto check : kBaseChecks) check(base, findings);
  return std::move(findings).Take();
}

// Returns a finding about a directory that cannot be opened.
Finding NotOpened(const core::ProjectName& project,
                  const absl::Status& problem) {
  const bool unsuitable = absl::IsFailedPrecondition(problem);
  return {.severity = Severity::kError,
          .code = unsuitable ? "workspace-unsuitable" : "workspace-unreadable",
          .project = project.str(),
          .path = project.str(),
          .problem = unsuitable ? "is a symbolic link, or not a directory, so "
                                  "the service does not serve it"
                                : absl::StrCat("cannot be opened: ",
                                               problem.message()),
          .fix = unsuitable ? "Put the directory itself in its place"
                            : "Check its permissions and the disk; run this "
                              "command as the server's user or as root"};
}

Examined ExamineProject(const BaseView& base,
                        const core::ProjectName& project) {
  Findings findings;
  const auto dir = base.dir.OpenDir(project.str());
  // It was removed since the base was listed.
  if (absl::IsNotFound(dir.status())) return {};
  if (!dir.ok()) {
    findings.Add(NotOpened(project, dir.status()));
    return {.findings = std::move(findings).Take()};
  }
  ProjectView view{.base = base, .project = project, .dir = **dir};
  const absl::Status listed =
      (*dir)->ForEachEntry([&view](absl::string_view name, fs::EntryType type) {
        view.entries.push_back({std::string(name), type});
        return true;
      });
  if (!listed.ok()) findings.Add(NotOpened(project, listed));
  // Even without a complete list, the checks may find something.
  for (const auto check : kProjectChecks) check(view, findings);
  return {.findings = std::move(findings).Take(),
          .uid = view.workspace ? view.workspace->uid : ""};
}

// Runs the checks of the base and of all workspaces, and then compares them.
class Examination {
 public:
  Examination(const BaseView& base, const Options& options)
      : base_(base), options_(options) {}

  absl::Status Run() {
    RETURN_IF_ERROR(ListProjects());
    of_base_ = ExamineBase(base_);
    // Each call writes to its own element, so no lock is needed.
    examined_.resize(projects_.size());
    base::ParallelFor(projects_.size(), options_.threads, kRun,
                      [this](size_t i) {
                        examined_[i] = ExamineProject(base_, projects_[i]);
                      });
    return absl::OkStatus();
  }

  // Runs the checks again, and drops the findings that they do not repeat.
  void Confirm() {
    of_base_ = Confirmed(of_base_, ExamineBase(base_));
    // Examine only the workspaces with findings again.
    std::vector<size_t> doubtful;
    const std::vector<bool> equal = HaveEqualUids();
    for (size_t i = 0; i < examined_.size(); ++i) {
      if (equal[i] || !examined_[i].findings.empty()) doubtful.push_back(i);
    }
    base::ParallelFor(doubtful.size(), options_.threads, 1, [&](size_t i) {
      Examined& examined = examined_[doubtful[i]];
      Examined again = ExamineProject(base_, projects_[doubtful[i]]);
      examined.findings = Confirmed(examined.findings, again.findings);
      // A directory that was renamed meanwhile had the uid under both names.
      examined.uid = std::move(again.uid);
    });
  }

  bool has_findings() const {
    return !of_base_.empty() || std::any_of(examined_.begin(), examined_.end(),
                                            [](const Examined& one) {
                                              return !one.findings.empty();
                                            });
  }
  size_t project_count() const { return projects_.size(); }

  std::vector<Finding> Take() && {
    std::vector<Finding> all = std::move(of_base_);
    AddEqualUids(all);
    for (Examined& examined : examined_) {
      std::move(examined.findings.begin(), examined.findings.end(),
                std::back_inserter(all));
    }
    return all;
  }

 private:
  absl::Status ListProjects() {
    return base_.dir.ForEachEntry(
        [this](absl::string_view name, fs::EntryType type) {
          auto project = core::ProjectName::Parse(name);
          // A link is not served, but reported.
          const bool may_be_workspace = type == fs::EntryType::kDirectory ||
                                        type == fs::EntryType::kSymlink;
          if (project.ok() && may_be_workspace)
            projects_.push_back(*std::move(project));
          return true;
        });
  }

  // Returns for each project whether another one has the same uid.
  std::vector<bool> HaveEqualUids() const {
    std::vector<bool> result(examined_.size());
    absl::flat_hash_map<absl::string_view, size_t> by_uid;
    for (size_t i = 0; i < examined_.size(); ++i) {
      if (examined_[i].uid.empty()) continue;
      const auto [first, inserted] = by_uid.try_emplace(examined_[i].uid, i);
      if (!inserted) result[first->second] = result[i] = true;
    }
    return result;
  }

  void AddEqualUids(std::vector<Finding>& findings) const {
    absl::flat_hash_map<absl::string_view, size_t> by_uid;
    for (size_t i = 0; i < examined_.size(); ++i) {
      if (examined_[i].uid.empty()) continue;
      // Report each further workspace with a uid, naming the first one.
      const auto [first, inserted] = by_uid.try_emplace(examined_[i].uid, i);
      if (inserted) continue;
      const std::string& project = projects_[i].str();
      findings.push_back(
          {.severity = Severity::kWarning,
           .code = "uid-duplicate",
           .project = project,
           .path = absl::StrCat(project, "/", core::layout::kRecord),
           .problem = absl::StrCat("has the same uid as ",
                                   projects_[first->second].str(),
                                   ", so clients take both for one workspace"),
           .fix = "Remove the line `uid:` from one of the two records"});
    }
  }

  const BaseView& base_;
  const Options& options_;
  std::vector<core::ProjectName> projects_;
  std::vector<Finding> of_base_;
  // One for each of projects_.
  std::vector<Examined> examined_;
};

void SortFindings(std::vector<Finding>& findings) {
  std::sort(findings.begin(), findings.end(),
            [](const Finding& a, const Finding& b) {
              return std::tie(a.project, a.path, a.code) <
                     std::tie(b.project, b.path, b.code);
            });
}

}  // namespace

fs::BaseLock::Names LockNames() {
  return {.dir = std::string(core::layout::kServerDir),
          .file = std::string(core::layout::kLockFile)};
}

absl::StatusOr<std::string> FindBase(const std::string& base) {
  std::error_code error;
  // fs::MountsBelow() needs a path without symbolic links.
  const std::filesystem::path real = std::filesystem::canonical(base, error);
  if (error) {
    return absl::NotFoundError(absl::StrCat("cannot find the base directory ",
                                            base, ": ", error.message()));
  }
  if (!std::filesystem::is_directory(real, error))
    return absl::FailedPreconditionError(
        absl::StrCat(base, " is not a directory"));
  return real.string();
}

absl::StatusOr<fs::Account> FindServerAccount(const std::string& base_path) {
  const auto lock = fs::OwnershipOf(absl::StrCat(
      base_path, "/", core::layout::kServerDir, "/", core::layout::kLockFile));
  if (lock.ok()) return fs::AccountOf(lock->uid);
  ASSIGN_OR_RETURN(const fs::Ownership base, fs::OwnershipOf(base_path));
  return fs::AccountOf(base.uid);
}

Holder FindHolder(const std::string& base_path) {
  Holder holder{.holds = fs::BaseLock::IsHeld(base_path, LockNames())};
  const auto content = nlohmann::json::parse(
      fs::BaseLock::ReadContent(base_path, LockNames()), nullptr,
      /*allow_exceptions=*/false);
  // The content may be empty or damaged, so check each field.
  if (!content.is_object()) return holder;
  const auto pid = content.find("pid"), host = content.find("host"),
             addresses = content.find("addresses");
  if (pid == content.end() || !pid->is_number_integer() ||
      host == content.end() || !host->is_string())
    return holder;
  holder.pid = pid->get<int64_t>();
  holder.host = host->get<std::string>();
  if (addresses == content.end() || !addresses->is_array()) return holder;
  for (const auto& address : *addresses) {
    if (address.is_string())
      holder.addresses.push_back(address.get<std::string>());
  }
  return holder;
}

absl::StatusOr<Report> Examine(const std::string& base_path,
                               const Options& options, bool is_ours) {
  ASSIGN_OR_RETURN(const auto dir, fs::OpenBaseDir(base_path));
  ASSIGN_OR_RETURN(const auto ownership, fs::OwnershipOf(base_path));
  ASSIGN_OR_RETURN(const fs::Account server, FindServerAccount(base_path));
  BaseView base{.dir = *dir,
                .path = base_path,
                .now = options.clock(),
                .purge_delay = options.purge_delay,
                .holder = is_ours ? Holder{} : FindHolder(base_path),
                .server = server,
                .ownership = ownership,
                .mounts = fs::MountsBelow(base_path)};
  for (fs::Mount& mount : base.mounts) {
    mount.path.erase(0, base_path == "/" ? 1 : base_path.size() + 1);
    base.mount_points.insert(mount.path);
  }
  Examination examination(base, options);
  RETURN_IF_ERROR(examination.Run());
  // A server may have started meanwhile.
  const bool served =
      !is_ours && (base.holder.holds || FindHolder(base_path).holds);
  // A change in progress can look like damage, so report only what persists.
  if (served && examination.has_findings()) {
    options.wait();
    examination.Confirm();
  }
  Report report{
      .base = base_path,
      .holder = base.holder,
      .workspace_count = static_cast<int64_t>(examination.project_count()),
      .findings = std::move(examination).Take()};
  // The work of the running server causes these.
  if (served) {
    std::erase_if(report.findings,
                  [](const Finding& finding) { return finding.transient; });
  }
  // A directory returns its entries in any order.
  SortFindings(report.findings);
  return report;
}

}  // namespace mlops::doctor
