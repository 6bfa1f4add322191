#include "service/core/change_log.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "proto/cpp/base/id.h"
#include "proto/cpp/base/status_macros.h"
#include "service/core/errors.h"

namespace mlops::core {
namespace {

// Memory that one change takes in both maps, besides its texts.
constexpr size_t kChangeBytes = 256;
// Number of earlier runs whose positions are accepted.
constexpr size_t kMaxRuns = 64;
constexpr absl::string_view kVersion = "1";
// The fields of an encoded change.
constexpr size_t kFields = 8;

// Returns whether the change owns its workspace. Other changes share theirs
// with the index.
bool OwnsWorkspace(const LoggedChange& change) {
  return change.kind == ChangeKind::kDeleted || change.workspace->uid.empty();
}

size_t Bytes(const LoggedChange& change) {
  return kChangeBytes + 2 * change.workspace->project.str().size() +
         (OwnsWorkspace(change) ? sizeof(Workspace) : 0);
}

// Returns the part of a deleted workspace that is reported. It lacks the
// metadata, which may be large.
WorkspacePtr Remains(const Workspace& workspace) {
  return std::make_shared<const Workspace>(
      Workspace{.project = workspace.project,
                .uid = workspace.uid,
                .create_time = workspace.create_time,
                .update_time = workspace.update_time,
                .delete_time = workspace.delete_time,
                .purge_time = workspace.purge_time});
}

std::string TimeText(std::optional<absl::Time> time) {
  return time.has_value() ? absl::StrCat(absl::ToUnixMicros(*time)) : "";
}

// Parses the output of TimeText(). Returns false if `text` is malformed.
bool ParseTime(absl::string_view text, std::optional<absl::Time>* time) {
  int64_t micros = 0;
  if (text.empty()) return true;
  if (!absl::SimpleAtoi(text, &micros)) return false;
  *time = absl::FromUnixMicros(micros);
  return true;
}

std::string EncodeChange(const LoggedChange& change) {
  const Workspace& workspace = *change.workspace;
  const bool owns = OwnsWorkspace(change);
  return absl::StrCat(change.sequence, " ", static_cast<int>(change.kind), " ",
                      workspace.project.str(), " ", owns ? workspace.uid : "",
                      " ", owns ? TimeText(workspace.create_time) : "", " ",
                      owns ? TimeText(workspace.update_time) : "", " ",
                      TimeText(workspace.delete_time), " ",
                      TimeText(workspace.purge_time), "\n");
}

// Returns null if `line` is not the output of EncodeChange().
LoggedChangePtr DecodeChange(
    absl::string_view line,
    absl::FunctionRef<WorkspacePtr(absl::string_view project)> find) {
  const std::vector<absl::string_view> fields = absl::StrSplit(line, ' ');
  LoggedChange change;
  int kind = 0;
  if (fields.size() != kFields ||
      !absl::SimpleAtoi(fields[0], &change.sequence) ||
      !absl::SimpleAtoi(fields[1], &kind) || kind < 0 ||
      kind > static_cast<int>(ChangeKind::kDeleted))
    return nullptr;
  auto project = ProjectName::Parse(fields[2]);
  if (!project.ok()) return nullptr;
  change.kind = static_cast<ChangeKind>(kind);
  // A workspace that still exists was not encoded: the checkpoint has its
  // record.
  if (change.kind != ChangeKind::kDeleted) {
    change.workspace = find(fields[2]);
    if (change.workspace == nullptr)
      change.workspace = UnreadableWorkspace(*project);
    return std::make_shared<const LoggedChange>(std::move(change));
  }
  Workspace workspace{.project = *std::move(project),
                      .uid = std::string(fields[3])};
  std::optional<absl::Time> create_time, update_time;
  if (!ParseTime(fields[4], &create_time) ||
      !ParseTime(fields[5], &update_time) ||
      !ParseTime(fields[6], &workspace.delete_time) ||
      !ParseTime(fields[7], &workspace.purge_time))
    return nullptr;
  workspace.create_time = create_time.value_or(absl::Time());
  workspace.update_time = update_time.value_or(absl::Time());
  change.workspace = std::make_shared<const Workspace>(std::move(workspace));
  return std::make_shared<const LoggedChange>(std::move(change));
}

absl::Status NotAHistory() {
  return absl::InvalidArgumentError("not a saved history");
}

}  // namespace

WorkspacePtr UnreadableWorkspace(const ProjectName& project) {
  return std::make_shared<const Workspace>(Workspace{.project = project});
}

ChangeLog::ChangeLog(size_t max_bytes)
    : max_bytes_(max_bytes), run_(base::RandomId()) {}

void ChangeLog::Append(ChangeKind kind, WorkspacePtr workspace) {
  LoggedChange change{.kind = kind};
  change.workspace =
      kind == ChangeKind::kDeleted ? Remains(*workspace) : std::move(workspace);
  absl::MutexLock lock(&mutex_);
  change.sequence = ++last_;
  Put(std::make_shared<const LoggedChange>(std::move(change)));
  // Keep the new change even if it exceeds the limit alone.
  while (bytes_ > max_bytes_ && changes_.size() > 1) ForgetOldest();
}

void ChangeLog::Put(LoggedChangePtr change) {
  const int64_t sequence = change->sequence;
  Of& of = by_project_[change->workspace->project.str()];
  // Watchers that have not seen the previous change will see this one instead.
  if (of.last != of.created) Drop(of.last);
  of.last = sequence;
  if (change->kind != ChangeKind::kUpdated) {
    // The workspace whose creation is known is gone.
    Drop(of.created);
    of.created = change->kind == ChangeKind::kCreated ? sequence : 0;
  } else if (of.created != 0) {
    // Let the creation show the new state. The old one is no longer in the
    // index, so keeping it would cost memory that bytes_ does not count.
    LoggedChangePtr& created = changes_.at(of.created);
    bytes_ -= Bytes(*created);
    created = std::make_shared<const LoggedChange>(
        LoggedChange{.sequence = of.created,
                     .kind = ChangeKind::kCreated,
                     .workspace = change->workspace});
    bytes_ += Bytes(*created);
  }
  bytes_ += Bytes(*change);
  changes_.emplace_hint(changes_.end(), sequence, std::move(change));
}

void ChangeLog::Drop(int64_t sequence) {
  if (sequence == 0) return;
  const auto it = changes_.find(sequence);
  bytes_ -= Bytes(*it->second);
  changes_.erase(it);
}

void ChangeLog::ForgetOldest() {
  const LoggedChangePtr oldest = changes_.begin()->second;
  forgotten_ = oldest->sequence;
  Drop(forgotten_);
  // The oldest change of a project is its creation, unless it is the only one.
  const auto it = by_project_.find(oldest->workspace->project.str());
  if (it->second.last == forgotten_) {
    by_project_.erase(it);
  } else {
    it->second.created = 0;
  }
}

int64_t ChangeLog::last() const {
  absl::ReaderMutexLock lock(&mutex_);
  return last_;
}

bool ChangeLog::IsOld(int64_t sequence) const {
  absl::ReaderMutexLock lock(&mutex_);
  return sequence - forgotten_ < last_ - sequence;
}

size_t ChangeLog::bytes() const {
  absl::ReaderMutexLock lock(&mutex_);
  return bytes_;
}

std::vector<ChangeLog::History::Run> ChangeLog::Runs() const {
  std::vector<History::Run> runs = ancestors_;
  runs.push_back({.id = run_, .last = last_});
  return runs;
}

ResumePoint ChangeLog::PointAt(int64_t sequence) const {
  absl::ReaderMutexLock lock(&mutex_);
  // Name the oldest run that knew the change, because all of its descendants
  // accept the position, not only this run's.
  for (const History::Run& run : ancestors_) {
    if (sequence <= run.last) return {.run = run.id, .sequence = sequence};
  }
  return {.run = run_, .sequence = sequence};
}

absl::StatusOr<int64_t> ChangeLog::Resume(const ResumePoint& point) const {
  absl::ReaderMutexLock lock(&mutex_);
  const bool known = point.run == run_
                         ? point.sequence <= last_
                         : std::any_of(ancestors_.begin(), ancestors_.end(),
                                       [&](const History::Run& run) {
                                         return run.id == point.run &&
                                                point.sequence <= run.last;
                                       });
  if (!known || point.sequence < forgotten_) return ResumeTokenExpired();
  return point.sequence;
}

absl::StatusOr<ChangeLog::Found> ChangeLog::Next(
    int64_t cursor, absl::FunctionRef<bool(absl::string_view project)> wants,
    int max_changes) const {
  absl::ReaderMutexLock lock(&mutex_);
  if (cursor < forgotten_) return ResumeTokenExpired();
  // In the common case the watcher has seen everything.
  if (cursor == last_) return Found{.cursor = cursor};
  // Bound the search, so that it does not hold the lock for long.
  auto it = changes_.upper_bound(cursor);
  for (int i = 0; it != changes_.end(); ++it, ++i) {
    if (i == max_changes) return Found{.cursor = cursor, .more = true};
    if (wants(it->second->workspace->project.str()))
      return Found{.change = it->second, .cursor = cursor};
    cursor = it->first;
  }
  return Found{.cursor = last_};
}

absl::StatusOr<ChangeLog::Found> ChangeLog::NextOf(
    int64_t cursor, absl::Span<const ProjectName> projects,
    absl::FunctionRef<bool(absl::string_view project)> wants) const {
  absl::ReaderMutexLock lock(&mutex_);
  if (cursor < forgotten_) return ResumeTokenExpired();
  if (cursor == last_) return Found{.cursor = cursor};
  int64_t first = 0;
  for (const ProjectName& project : projects) {
    const auto it = by_project_.find(project.str());
    if (it == by_project_.end() || !wants(project.str())) continue;
    const Of& of = it->second;
    const int64_t next = of.created > cursor ? of.created : of.last;
    if (next > cursor && (first == 0 || next < first)) first = next;
  }
  if (first == 0) return Found{.cursor = last_};
  return Found{.change = changes_.at(first), .cursor = first - 1};
}

bool ChangeLog::WaitBeyond(int64_t sequence, absl::Duration timeout) const {
  const auto is_over = [this, sequence]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return last_ > sequence || interrupted_;
  };
  absl::ReaderMutexLock lock(&mutex_);
  mutex_.AwaitWithTimeout(absl::Condition(&is_over), timeout);
  return last_ > sequence;
}

void ChangeLog::Interrupt() {
  absl::MutexLock lock(&mutex_);
  interrupted_ = true;
}

ChangeLog::History ChangeLog::Save() const {
  absl::ReaderMutexLock lock(&mutex_);
  History history{.runs = Runs(), .forgotten = forgotten_};
  history.changes.reserve(changes_.size());
  for (const auto& [sequence, change] : changes_)
    history.changes.push_back(change);
  return history;
}

void ChangeLog::Restore(History history) {
  absl::MutexLock lock(&mutex_);
  ancestors_ = std::move(history.runs);
  // Every position of such a run precedes a forgotten change, so it is useless.
  std::erase_if(ancestors_, [&](const History::Run& run) {
    return run.last < history.forgotten;
  });
  if (ancestors_.size() > kMaxRuns) {
    ancestors_.erase(ancestors_.begin(),
                     ancestors_.end() - static_cast<ptrdiff_t>(kMaxRuns));
  }
  // Continue the sequence, so that the ancestors' positions stay valid.
  last_ = ancestors_.empty() ? history.forgotten : ancestors_.back().last;
  forgotten_ = history.forgotten;
  for (LoggedChangePtr& change : history.changes) Put(std::move(change));
}

std::string EncodeHistory(const ChangeLog::History& history) {
  std::string text = absl::StrCat(kVersion, " ", history.forgotten, " ",
                                  history.runs.size(), "\n");
  for (const ChangeLog::History::Run& run : history.runs)
    absl::StrAppend(&text, run.id, " ", run.last, "\n");
  for (const LoggedChangePtr& change : history.changes)
    text += EncodeChange(*change);
  return text;
}

absl::StatusOr<ChangeLog::History> DecodeHistory(
    absl::string_view text,
    absl::FunctionRef<WorkspacePtr(absl::string_view project)> find) {
  const std::vector<absl::string_view> lines = absl::StrSplit(text, '\n');
  const std::vector<absl::string_view> head = absl::StrSplit(lines[0], ' ');
  ChangeLog::History history;
  size_t run_count = 0;
  // Every line ends with a newline, so an intact text has an empty last part.
  if (head.size() != 3 || head[0] != kVersion ||
      !absl::SimpleAtoi(head[1], &history.forgotten) ||
      !absl::SimpleAtoi(head[2], &run_count) || run_count == 0 ||
      run_count + 1 >= lines.size() || !lines.back().empty())
    return NotAHistory();
  for (size_t i = 1; i <= run_count; ++i) {
    const std::vector<absl::string_view> run = absl::StrSplit(lines[i], ' ');
    int64_t last = 0;
    if (run.size() != 2 || !absl::SimpleAtoi(run[1], &last))
      return NotAHistory();
    history.runs.push_back({.id = std::string(run[0]), .last = last});
  }
  int64_t previous = history.forgotten;
  for (size_t i = run_count + 1; i + 1 < lines.size(); ++i) {
    LoggedChangePtr change = DecodeChange(lines[i], find);
    // The sequence must ascend, because Restore() adds the changes in order.
    if (change == nullptr || change->sequence <= previous ||
        change->sequence > history.runs.back().last)
      return NotAHistory();
    previous = change->sequence;
    history.changes.push_back(std::move(change));
  }
  return history;
}

}  // namespace mlops::core
