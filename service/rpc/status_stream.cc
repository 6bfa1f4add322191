#include "service/rpc/status_stream.h"

#include <algorithm>
#include <utility>

#include "proto/cpp/base/status_macros.h"
#include "service/core/errors.h"
#include "service/rpc/convert.h"

namespace mlops::rpc {
namespace {

constexpr int kMaxScanners = 4;
// Maximum number of bytes that may wait to be written: some hundred statuses,
// or one of a workspace with much metadata. A message can exceed it by one
// status per scanner.
constexpr size_t kMaxReadyBytes = 256 << 10;
// Number of workspaces that a scanner counts before it lets other calls run.
constexpr int kScansInARow = 16;
constexpr int kPacedScansInARow = 1;
// Memory that a stream holds before its first status: the call, and the names
// of a page.
constexpr size_t kStreamBytes = 32 << 10;

absl::Status TooMuchUnread() {
  return core::Overloaded("bytes of statuses that wait to be read",
                          absl::Milliseconds(500));
}

}  // namespace

StatusStream::StatusStream(core::Authority* authority, Calls* calls,
                           grpc::CallbackServerContext* context,
                           const grpc::ByteBuffer& request)
    : Stream(calls, kStreamWorkspaceStatuses, &calls->live(), &calls->workers(),
             context),
      authority_(authority),
      opened_(base::SystemSteadyClock()()),
      list_args_{.page_size = core::kMaxPageSize},
      memory_(&calls->status_bytes()) {
  absl::Status status = Admit(request);
  // Reserve memory before decoding, so that many idle streams cannot exceed the
  // budget.
  if (status.ok() && !memory_.Set(kStreamBytes)) status = TooMuchUnread();
  if (status.ok()) status = Parse(request);
  Begin(std::move(status));
}

absl::Status StatusStream::Parse(const grpc::ByteBuffer& bytes) {
  pb::StreamWorkspaceStatusesRequest request;
  RETURN_IF_ERROR(CheckRequestSize(bytes.Length()));
  RETURN_IF_ERROR(Decode(bytes, &request));
  RETURN_IF_ERROR(Authorize(request));
  list_args_.sight = calls().SightOf(call_);
  ASSIGN_OR_RETURN(status_args_.max_staleness,
                   MaxStaleness(request.max_staleness()));
  status_args_.counts_only = request.counts_only();
  list_args_.show_deleted = request.show_deleted();
  ASSIGN_OR_RETURN(list_args_.filter, core::Filter::Parse(request.filter()));
  return absl::OkStatus();
}

void StatusStream::Written() {
  written_bytes_ = 0;
  // The written message no longer counts against the budget.
  memory_.Set(kStreamBytes + ready_.size());
}

StatusStream::Step StatusStream::Next() {
  // Nothing can change any more once no name is left and no scanner is running.
  const bool all_counted =
      last_page_ && targets_.empty() && !fetching_ && tasks_ == 0;
  if (all_counted && ready_.empty() && !writing_) end_ = absl::OkStatus();
  Step step;
  step.tasks = ScannersToStart();
  if (!writing_ && !ready_.empty()) {
    written_bytes_ = ready_.size();
    step.write = ToByteBuffer(std::exchange(ready_, std::string()));
  }
  return step;
}

int StatusStream::ScannersToStart() const {
  // Start scanners only when half of the buffer is free, so that each has room
  // for several statuses.
  const bool work = !fetching_ && !(targets_.empty() && last_page_);
  if (!work || ready_.size() > kMaxReadyBytes / 2) return 0;
  // The first scanner fetches a page; only then is there work for all of them.
  const int wanted =
      std::clamp(static_cast<int>(targets_.size()), 1, kMaxScanners);
  return std::max(0, wanted - tasks_);
}

void StatusStream::Work() {
  do {
    const int scans = IsPaced() ? kPacedScansInARow : kScansInARow;
    for (int i = 0; i < scans; ++i) {
      if (!ScanOne()) return TaskDone([] {});
    }
    // If the queue has no room, continue on this thread.
  } while (!Requeue());
}

bool StatusStream::ScanOne() {
  if (absl::Status wanted = CheckWanted(); !wanted.ok()) {
    SetEnd(std::move(wanted));
    return false;
  }
  const std::optional<Target> target = NextTarget();
  if (!target.has_value()) return false;
  const auto result = Count(*target);
  // The workspace was deleted after it was listed, so skip it.
  if (absl::IsNotFound(result.status())) return true;
  if (absl::IsCancelled(result.status())) {
    SetEnd(result.status());
    return false;
  }
  // The usage may be old, but the lease must be current.
  const std::optional<core::Lease> lease =
      result.ok() ? authority_->LeaseOf(*result->workspace) : std::nullopt;
  const std::string status = EncodeStatus(target->project, result, lease);
  Advance([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { AddReady(status); });
  return true;
}

absl::StatusOr<core::StatusResult> StatusStream::Count(const Target& target) {
  // Accept any scan that began after this call, so that streams opened at the
  // same time share their scans.
  core::StatusArgs args = status_args_;
  args.max_staleness += base::SystemSteadyClock()() - opened_;
  const auto cancelled = [this] { return context().IsCancelled(); };
  return target.deleted == nullptr
             ? authority_->Status(target.project, args, cancelled)
             : authority_->CountFiles(target.deleted, args, cancelled);
}

void StatusStream::AddReady(const std::string& status) {
  // The hold covers the waiting statuses and the message being written.
  if (memory_.Set(kStreamBytes + ready_.size() + status.size() +
                  written_bytes_)) {
    ready_.append(status);
  } else if (!end_.has_value()) {
    end_ = TooMuchUnread();
  }
}

std::optional<StatusStream::Target> StatusStream::NextTarget() {
  while (true) {
    // Only one scanner fetches a page. The others end, and Next() starts them
    // again when the page has arrived.
    {
      absl::MutexLock lock(&mutex_);
      if (end_.has_value() || fetching_) return std::nullopt;
      if (ready_.size() > kMaxReadyBytes) return std::nullopt;
      if (!targets_.empty()) {
        Target target = std::move(targets_.front());
        targets_.pop_front();
        return target;
      }
      if (last_page_) return std::nullopt;
      fetching_ = true;
    }
    // Fetch without the lock, because the catalog may read the disk.
    if (absl::Status fetched = FetchPage(); !fetched.ok())
      SetEnd(std::move(fetched));
    // Start the scanners that ended while this one fetched.
    Advance([] {});
  }
}

absl::Status StatusStream::FetchPage() {
  std::deque<Target> targets;
  absl::StatusOr<core::ListResult> page = authority_->List(list_args_);
  absl::Status status = page.status();
  if (page.ok()) {
    for (const core::WorkspacePtr& workspace : page->workspaces)
      targets.push_back(
          {.project = workspace->project,
           .deleted = workspace->delete_time ? workspace : nullptr});
    // Skip unreadable workspaces if there is a filter: nobody knows whether
    // they match it.
    if (!list_args_.filter.matches_all()) page->unreachable.clear();
    for (const std::string& name : page->unreachable) {
      auto project = core::ProjectName::Parse(name);
      status.Update(project.status());
      if (project.ok()) targets.push_back({.project = *std::move(project)});
    }
    list_args_.page_token = std::move(page->next_page_token);
  }
  // Publish the page and clear `fetching_` together, so that no scanner sees
  // only one of them.
  absl::MutexLock lock(&mutex_);
  fetching_ = false;
  last_page_ = list_args_.page_token.empty();
  targets_ = std::move(targets);
  return status;
}

}  // namespace mlops::rpc
