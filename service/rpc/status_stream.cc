#include "service/rpc/status_stream.h"

#include <algorithm>
#include <utility>

#include "service/base/status_macros.h"
#include "service/core/errors.h"
#include "service/rpc/convert.h"

namespace mlops::rpc {
namespace {

constexpr int kMaxScanners = 4;
// Messages that wait to be written, or are being made; one is at most as large as the metadata of a workspace.
constexpr size_t kMaxReady = 32;
// Workspaces that a scanner counts before it gives way.
constexpr int kScansInARow = 16;

}  // namespace

StatusStream::StatusStream(core::Authority* authority, Calls* calls, grpc::CallbackServerContext* context,
                           const pb::StreamWorkspaceStatusesRequest& request)
    : authority_(authority),
      calls_(calls),
      context_(context),
      started_(calls->Begin()),
      status_args_{.counts_only = request.counts_only()},
      list_args_{.page_size = core::kMaxPageSize} {
  auto staleness = MaxStaleness(request.has_max_staleness(), request.max_staleness());
  auto filter = core::Filter::Parse(request.filter());
  absl::Status problem = staleness.status();
  problem.Update(filter.status());
  if (problem.ok()) {
    status_args_.max_staleness = *staleness;
    list_args_.filter = *std::move(filter);
  } else {
    SetEnd(std::move(problem));
  }
  Advance();
}

void StatusStream::OnWriteDone(bool ok) {
  if (!ok) SetEnd(absl::CancelledError("the client left"));
  {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
  }
  Advance();
}

void StatusStream::Advance() {
  bool write = false, finish = false;
  int scanners = 0;
  grpc::WriteOptions options;
  absl::Status end;
  {
    absl::MutexLock lock(&mutex_);
    if (finished_) return;
    const bool all_counted = last_page_ && projects_.empty() && !fetching_ && scanners_ == 0;
    if (!end_.has_value() && all_counted && ready_.empty()) end_ = absl::OkStatus();
    if (end_.has_value()) {
      finish = finished_ = scanners_ == 0 && !writing_;
      end = *end_;
    } else {
      scanners = TakeScannersToStart();
      write = !writing_ && !ready_.empty();
    }
    if (write) {
      writing_ = true;
      being_written_ = std::move(ready_.front());
      ready_.pop_front();
      // The next follows at once: both may go in one packet.
      if (!ready_.empty()) options.set_buffer_hint();
    }
  }
  // Whoever is counted, or writes, keeps the stream alive: so the last thing done is the write or the end.
  if (scanners > 0) StartScanners(scanners);
  if (write) StartWrite(&being_written_, options);
  if (finish) Finish(calls_->End(kStreamWorkspaceStatuses, "", end, started_, *context_));
}

int StatusStream::TakeScannersToStart() {
  const bool work = !fetching_ && !(projects_.empty() && last_page_);
  if (!work || ready_.size() > kMaxReady / 2) return 0;
  // One fetches a page, and then all are needed.
  const int wanted = std::min<int>(kMaxScanners, std::max<int>(1, static_cast<int>(projects_.size())));
  const int missing = std::max(0, wanted - scanners_);
  scanners_ += missing;
  return missing;
}

void StatusStream::StartScanners(int count) {
  int refused = 0;
  for (int i = 0; i < count; ++i) {
    if (!calls_->workers().TrySchedule([this] { ScanSome(); })) ++refused;
  }
  if (refused == 0) return;
  {
    absl::MutexLock lock(&mutex_);
    scanners_ -= refused;
    // With those that there are, or after the next write, it goes on.
    if (scanners_ > 0 || writing_) return;
    if (!end_.has_value()) end_ = Calls::TooMany();
  }
  Advance();
}

void StatusStream::ScanSome() {
  do {
    for (int i = 0; i < kScansInARow; ++i) {
      if (ScanOne()) continue;
      {
        absl::MutexLock lock(&mutex_);
        --scanners_;
      }
      return Advance();
    }
    // Where there is no room in the queue, nobody is given way to.
  } while (!calls_->workers().TrySchedule([this] { ScanSome(); }));
}

bool StatusStream::ScanOne() {
  if (absl::Status wanted = CheckWanted(); !wanted.ok()) {
    SetEnd(std::move(wanted));
    return false;
  }
  const std::optional<core::ProjectName> project = NextProject();
  if (!project.has_value()) return false;
  const auto result = authority_->Status(*project, status_args_, [this] { return context_->IsCancelled(); });
  if (absl::IsNotFound(result.status())) return true;  // Deleted since it was listed.
  if (absl::IsCancelled(result.status())) {
    SetEnd(result.status());
    return false;
  }
  pb::WorkspaceStatus message;
  if (result.ok()) {
    ToProto(*result, &message);
  } else {
    message.mutable_workspace()->set_project(project->str());
    *message.mutable_error() = wire::ToProto(result.status());
  }
  {
    absl::MutexLock lock(&mutex_);
    ready_.push_back(std::move(message));
  }
  Advance();
  return true;
}

std::optional<core::ProjectName> StatusStream::NextProject() {
  while (true) {
    {
      absl::MutexLock lock(&mutex_);
      if (end_.has_value() || fetching_) return std::nullopt;
      if (ready_.size() + static_cast<size_t>(scanners_) > kMaxReady) return std::nullopt;
      if (!projects_.empty()) {
        core::ProjectName project = std::move(projects_.front());
        projects_.pop_front();
        return project;
      }
      if (last_page_) return std::nullopt;
      fetching_ = true;
    }
    if (absl::Status fetched = FetchPage(); !fetched.ok()) SetEnd(std::move(fetched));
    Advance();
  }
}

absl::Status StatusStream::FetchPage() {
  std::deque<core::ProjectName> projects;
  absl::StatusOr<core::ListResult> page = authority_->List(list_args_);
  absl::Status status = page.status();
  if (page.ok()) {
    for (const core::WorkspacePtr& workspace : page->workspaces) projects.push_back(workspace->project);
    // Nobody knows whether one that cannot be read would match.
    if (!list_args_.filter.matches_all()) page->unreachable.clear();
    for (const std::string& name : page->unreachable) {
      auto project = core::ProjectName::Parse(name);
      status.Update(project.status());
      if (project.ok()) projects.push_back(*std::move(project));
    }
    list_args_.page_token = std::move(page->next_page_token);
  }
  absl::MutexLock lock(&mutex_);
  fetching_ = false;
  last_page_ = list_args_.page_token.empty();
  projects_ = std::move(projects);
  return status;
}

absl::Status StatusStream::CheckWanted() const {
  if (calls_->draining()) return core::ShuttingDown();
  return calls_->CheckWanted(*context_);
}

void StatusStream::SetEnd(absl::Status status) {
  absl::MutexLock lock(&mutex_);
  if (!end_.has_value()) end_ = std::move(status);
}

}  // namespace mlops::rpc
