#include "service/rpc/status_stream.h"

#include <algorithm>
#include <utility>

#include "proto/cpp/base/status_macros.h"
#include "service/core/errors.h"
#include "service/rpc/convert.h"

namespace mlops::rpc {
namespace {

constexpr int kMaxScanners = 4;
// How much may wait to be written: some hundred statuses, or a few of workspaces with much metadata.
constexpr size_t kMaxReadyBytes = 256 << 10;
// Workspaces that a scanner counts before it gives way.
constexpr int kScansInARow = 16;

}  // namespace

StatusStream::StatusStream(core::Authority* authority, Calls* calls, grpc::CallbackServerContext* context,
                           const grpc::ByteBuffer& request)
    : authority_(authority),
      calls_(calls),
      context_(context),
      started_(calls->Begin()),
      opened_(base::MonotonicClock()()),
      list_args_{.page_size = core::kMaxPageSize} {
  if (absl::Status problem = Parse(request); !problem.ok()) SetEnd(std::move(problem));
  Advance([] {});
}

absl::Status StatusStream::Parse(const grpc::ByteBuffer& bytes) {
  pb::StreamWorkspaceStatusesRequest request;
  RETURN_IF_ERROR(Decode(bytes, &request));
  ASSIGN_OR_RETURN(status_args_.max_staleness, MaxStaleness(request.max_staleness()));
  status_args_.counts_only = request.counts_only();
  ASSIGN_OR_RETURN(list_args_.filter, core::Filter::Parse(request.filter()));
  return absl::OkStatus();
}

void StatusStream::OnWriteDone(bool ok) {
  Advance([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    writing_ = false;
    if (!ok && !end_.has_value()) end_ = absl::CancelledError("the client left");
  });
}

void StatusStream::Advance(absl::FunctionRef<void()> change) {
  bool write = false, finish = false;
  int scanners = 0;
  std::string message;
  absl::Status end;
  {
    absl::MutexLock lock(&mutex_);
    change();
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
      message.swap(ready_);
    }
  }
  // Whoever is counted, or writes, keeps the stream alive: so the last thing done is the write or the end.
  if (scanners > 0) StartScanners(scanners);
  if (write) {
    being_written_ = ToByteBuffer(std::move(message));
    StartWrite(&being_written_);
  }
  if (finish) Finish(calls_->End(kStreamWorkspaceStatuses, "", end, started_, *context_));
}

int StatusStream::TakeScannersToStart() {
  const bool work = !fetching_ && !(projects_.empty() && last_page_);
  if (!work || ready_.size() > kMaxReadyBytes / 2) return 0;
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
  Advance([] {});  // Nobody else is left to end the call.
}

void StatusStream::ScanSome() {
  do {
    for (int i = 0; i < kScansInARow; ++i) {
      if (ScanOne()) continue;
      return Advance([this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { --scanners_; });
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
  // Any scan that began after this call is exact, so that streams opened at once share their scans.
  core::StatusArgs args = status_args_;
  args.max_staleness += base::MonotonicClock()() - opened_;
  const auto result = authority_->Status(*project, args, [this] { return context_->IsCancelled(); });
  if (absl::IsNotFound(result.status())) return true;  // Deleted since it was listed.
  if (absl::IsCancelled(result.status())) {
    SetEnd(result.status());
    return false;
  }
  const std::string status = EncodeStatus(*project, result);
  Advance([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { ready_.append(status); });
  return true;
}

std::optional<core::ProjectName> StatusStream::NextProject() {
  while (true) {
    {
      absl::MutexLock lock(&mutex_);
      if (end_.has_value() || fetching_) return std::nullopt;
      if (ready_.size() > kMaxReadyBytes) return std::nullopt;
      if (!projects_.empty()) {
        core::ProjectName project = std::move(projects_.front());
        projects_.pop_front();
        return project;
      }
      if (last_page_) return std::nullopt;
      fetching_ = true;
    }
    if (absl::Status fetched = FetchPage(); !fetched.ok()) SetEnd(std::move(fetched));
    Advance([] {});
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
