#include "service/rpc/watch_stream.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/cpp/base/status_macros.h"
#include "service/core/errors.h"
#include "service/rpc/convert.h"

namespace mlops::rpc {
namespace {

using core::ProjectName;
using core::WorkspacePtr;

constexpr size_t kMaxProjects = 1000;
// A page of the list ends once it exceeds this size.
constexpr size_t kPageBytes = 64 << 10;
// Number of workspaces examined for a page, of which the caller may see few.
constexpr int kMaxExamined = 4096;
constexpr int kExaminedAtOnce = 256;
// Number of changes to other projects that a thread shared by all calls may
// skip, and that a task may skip.
constexpr int kMaxPassed = 64;
constexpr int kMaxPassedByTask = 4096;
// Looking up this many projects takes less time than passing over changes.
constexpr size_t kFewProjects = 16;
// Maximum size of a batch, without its last response.
constexpr size_t kBatchBytes = 64 << 10;
// A client that has not read its last message for this long no longer delays a
// shutdown.
constexpr SteadyClock::duration kEndGrace = std::chrono::milliseconds(500);

absl::Status TooMuchMemory() {
  return core::Overloaded(
      "bytes of watches and of changes that wait to be read",
      absl::Milliseconds(500));
}

}  // namespace

WatchStream::WatchStream(WatchHub* hub, Calls* calls,
                         grpc::CallbackServerContext* context,
                         const grpc::ByteBuffer& request)
    : Stream(calls, kWatchWorkspaces, &calls->live(), &calls->workers(),
             context),
      hub_(hub),
      memory_(&calls->status_bytes()) {
  absl::Status status = Admit(request);
  if (status.ok()) status = Parse(request);
  own_bytes_ += kWatchedProjectBytes * projects_.size();
  if (status.ok() && !memory_.Set(own_bytes_)) status = TooMuchMemory();
  // Add to the hub last: only a valid watch may occupy a place, and Wake() may
  // run at once.
  if (status.ok()) {
    status = hub_->Add(this, projects_);
    added_ = status.ok();
  }
  Begin(std::move(status));
}

absl::Status WatchStream::Parse(const grpc::ByteBuffer& bytes) {
  pb::WatchWorkspacesRequest request;
  RETURN_IF_ERROR(CheckRequestSize(bytes.Length()));
  RETURN_IF_ERROR(Decode(bytes, &request));
  RETURN_IF_ERROR(Authorize(request));
  RETURN_IF_ERROR(ParseProjects(request));
  sight_ = calls().SightOf(call_);
  view_ = calls().ViewOf(call_, call_.method);
  batched_ = request.batched();
  return ParseToken(request.resume_token());
}

absl::Status WatchStream::ParseProjects(
    const pb::WatchWorkspacesRequest& request) {
  for (const std::string& name : request.projects()) {
    ASSIGN_OR_RETURN(ProjectName project, ProjectName::Parse(name));
    // Count distinct names only; clients may repeat them.
    if (!project_set_.insert(name).second) continue;
    if (project_set_.size() > kMaxProjects) {
      return core::FieldInvalid(
          "projects", absl::StrCat("has more than ", kMaxProjects,
                                   " names; leave it empty to watch all"));
    }
    projects_.push_back(std::move(project));
  }
  std::sort(projects_.begin(), projects_.end());
  return absl::OkStatus();
}

absl::Status WatchStream::ParseToken(const std::string& token) {
  absl::MutexLock lock(&mutex_);
  if (token.empty()) {
    // Take the position before listing anything, so that no change is lost in
    // between.
    cursor_ = hub_->log().last();
    listing_ = true;
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(core::ResumePoint point, core::DecodeResumeToken(token));
  // With another view, a resumed list would lack workspaces that the caller did
  // not see before.
  if (point.view != view_) return core::ResumeTokenExpired();
  ASSIGN_OR_RETURN(cursor_, hub_->log().Resume(point));
  // A token from the middle of the list resumes the list after its last
  // workspace.
  listing_ = point.listed_through.has_value();
  listed_through_ = std::move(point.listed_through).value_or("");
  return absl::OkStatus();
}

bool WatchStream::Wants(absl::string_view project) const {
  return (project_set_.empty() || project_set_.contains(project)) &&
         (sight_.everything() || sight_.sees(project));
}

void WatchStream::Release() {
  if (added_) hub_->Remove(this, projects_);
}

void WatchStream::Cancelled() {
  Advance([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!end_.has_value()) end_ = ClientCancelled();
  });
}

void WatchStream::Wake() {
  const absl::Status allowed = CheckStillAllowed();
  Advance([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!allowed.ok() && !end_.has_value()) end_ = allowed;
  });
}

absl::Status WatchStream::CheckStillAllowed() {
  const SteadyClock::time_point now = SteadyClock::now();
  // Checking a policy costs time, and Wake() runs for every change.
  if (absl::FromChrono(now - checked_) < hub_->options().synced_interval)
    return absl::OkStatus();
  checked_ = now;
  RETURN_IF_ERROR(calls().CheckAgain(call_));
  // With another policy, other workspaces are visible, so the client must list
  // again.
  return calls().ViewOf(call_, call_.method) == view_
             ? absl::OkStatus()
             : core::ResumeTokenExpired();
}

void WatchStream::End() {
  bool cancel = false;
  Advance([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const SteadyClock::time_point now = SteadyClock::now();
    if (!ending_.has_value()) ending_ = now;
    if (!end_.has_value()) end_ = core::CutByShutdown();
    cancel = writing_ && now - *ending_ > kEndGrace;
  });
  // Cancel without the lock, because gRPC may call OnCancel() on this thread.
  if (cancel) context().TryCancel();
}

void WatchStream::Written() { memory_.Set(own_bytes_ + ready_bytes_); }

void WatchStream::Seek(int max_changes) {
  const auto wants = [this](absl::string_view project) {
    return Wants(project);
  };
  const bool few = !projects_.empty() && projects_.size() <= kFewProjects;
  auto found = few ? hub_->log().NextOf(cursor_, projects_, wants)
                   : hub_->log().Next(cursor_, wants, max_changes);
  if (!found.ok()) {
    end_ = found.status();
    return;
  }
  cursor_ = found->cursor;
  next_ = std::move(found->change);
  far_ = found->more;
}

WatchStream::Step WatchStream::Next() {
  // Skip changes to other projects even while the client is slow, so that the
  // log can only outrun it by changes that it wants.
  Seek(kMaxPassed);
  if (end_.has_value() || writing_) return {};
  if (!ready_.empty()) return Write(TakeReady());
  // A task may be about to move the cursor, so wait for it.
  if (tasks_ > 0) return {};
  if (listing_ || far_) return {.tasks = 1};
  if (next_ != nullptr) {
    if (!IsReleased()) return {};
    // Encoded changes are sent from here; others need a task, because encoding
    // may take long.
    const std::vector<grpc::Slice> parts = TakeEncoded();
    return parts.empty() ? Step{.tasks = 1} : Write(parts);
  }
  if (!IsSyncedDue()) return {};
  synced_ = true;
  return Write({Form(hub_->EncodeSynced(hub_->TokenAt(cursor_, view_)))});
}

std::vector<grpc::Slice> WatchStream::TakeReady() {
  std::vector<grpc::Slice> parts;
  size_t bytes = 0;
  // Without `batched`, a message carries one response.
  do {
    bytes += ready_.front().size();
    parts.push_back(Form(ready_.front()));
    ready_.pop_front();
  } while (batched_ && !ready_.empty() && bytes < kBatchBytes);
  ready_bytes_ -= bytes;
  return parts;
}

std::vector<grpc::Slice> WatchStream::TakeEncoded() {
  std::vector<grpc::Slice> parts;
  size_t bytes = 0;
  do {
    const auto message = hub_->FindEncoded(*next_, view_);
    if (!message.has_value()) break;
    // Move the cursor before seeking, or Seek() would find the same change
    // again.
    cursor_ = next_->sequence;
    bytes += message->size();
    parts.push_back(Form(*message));
    if (batched_) Seek(kMaxPassed);
  } while (batched_ && !end_.has_value() && next_ != nullptr && IsReleased() &&
           bytes < kBatchBytes);
  return parts;
}

bool WatchStream::IsReleased() const {
  return !batched_ || next_->sequence <= hub_->released();
}

WatchStream::Step WatchStream::Write(const std::vector<grpc::Slice>& parts) {
  grpc::ByteBuffer message(parts.data(), parts.size());
  if (!memory_.Set(own_bytes_ + ready_bytes_ + message.Length())) {
    end_ = TooMuchMemory();
    return {};
  }
  last_write_ = SteadyClock::now();
  return {.write = std::move(message)};
}

bool WatchStream::IsSyncedDue() const {
  return !synced_ || absl::FromChrono(SteadyClock::now() - last_write_) >=
                         hub_->options().synced_interval;
}

void WatchStream::Work() {
  if (absl::Status wanted = CheckWanted(); !wanted.ok()) {
    SetEnd(std::move(wanted));
    return TaskDone([] {});
  }
  // Copy the state, because Next() may move the cursor while this task works.
  core::LoggedChangePtr change;
  int64_t cursor = 0;
  bool listing = false;
  std::string listed_through;
  {
    absl::MutexLock lock(&mutex_);
    change = next_;
    cursor = cursor_;
    listing = listing_;
    listed_through = listed_through_;
  }
  if (listing) {
    ListSome(cursor, listed_through);
  } else if (change != nullptr) {
    EncodeChange(*change);
  } else {
    SeekFar();
  }
}

void WatchStream::EncodeChange(const core::LoggedChange& change) {
  const WatchHub::Message message = hub_->Encode(change, view_);
  TaskDone([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    // The cursor may already have passed other changes.
    cursor_ = std::max(cursor_, change.sequence);
    ready_bytes_ += message.size();
    ready_.push_back(message);
  });
}

void WatchStream::SeekFar() {
  TaskDone([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!end_.has_value()) Seek(kMaxPassedByTask);
  });
}

void WatchStream::ListSome(int64_t cursor, const std::string& listed_through) {
  Page page{.listed_through = listed_through};
  absl::Status filled;
  {
    // Reserve the memory first, so that no page is encoded in vain.
    absl::MutexLock lock(&mutex_);
    if (!memory_.Set(own_bytes_ + kPageBytes)) filled = TooMuchMemory();
  }
  if (filled.ok()) {
    filled = projects_.empty() ? FillFromCatalog(cursor, page)
                               : FillFromProjects(cursor, page);
  }
  TaskDone([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    // Shrink the reservation to the actual size; a large record can also exceed
    // it.
    if (filled.ok() && !memory_.Set(own_bytes_ + page.bytes))
      filled = TooMuchMemory();
    if (!filled.ok()) {
      // Drop the page: a client that does not read delays the end of its call.
      if (!end_.has_value()) end_ = std::move(filled);
      return;
    }
    ready_ = std::move(page.messages);
    ready_bytes_ = page.bytes;
    listed_through_ = std::move(page.listed_through);
    listing_ = !page.last;
  });
}

absl::Status WatchStream::FillFromCatalog(int64_t cursor, Page& page) {
  // Read the catalog in small portions and check for cancellation between them,
  // because the caller may see only few of the workspaces.
  for (int examined = 0; examined < kMaxExamined; examined += kExaminedAtOnce) {
    core::ListQuery query{.page_size = kExaminedAtOnce};
    if (!page.listed_through.empty())
      query.after = core::OrderKey{.project = page.listed_through};
    ASSIGN_OR_RETURN(const core::ListPage listed, hub_->catalog().List(query));
    for (const WorkspacePtr& workspace : listed.workspaces) {
      if (page.bytes > kPageBytes) return absl::OkStatus();
      // Advance past hidden workspaces too, or the next page would examine them
      // again.
      page.listed_through = workspace->project.str();
      if (Wants(page.listed_through)) Add(*workspace, cursor, page);
    }
    if (!listed.more) return AddUnreadable(cursor, page);
    RETURN_IF_ERROR(CheckWanted());
  }
  return absl::OkStatus();
}

// Adds the unreadable workspaces, at most core::kMaxUnreachable. They come
// last, and again if the client resumes before the end of the list.
absl::Status WatchStream::AddUnreadable(int64_t cursor, Page& page) {
  ASSIGN_OR_RETURN(const core::ListPage first,
                   hub_->catalog().List({.page_size = 1}));
  for (const std::string& name : first.unreachable) {
    ASSIGN_OR_RETURN(const ProjectName project, ProjectName::Parse(name));
    if (Wants(name)) Add(*core::UnreadableWorkspace(project), cursor, page);
  }
  page.last = true;
  return absl::OkStatus();
}

absl::Status WatchStream::FillFromProjects(int64_t cursor, Page& page) {
  // Resume after the last project of the previous page.
  auto next =
      std::upper_bound(projects_.begin(), projects_.end(), page.listed_through,
                       [](const std::string& name, const auto& project) {
                         return name < project.str();
                       });
  for (; next != projects_.end(); ++next) {
    if (page.bytes > kPageBytes) return absl::OkStatus();
    page.listed_through = next->str();
    if (!Wants(next->str())) continue;
    const auto found = hub_->catalog().Get(*next);
    if (absl::IsNotFound(found.status())) continue;
    Add(found.ok() ? **found : *core::UnreadableWorkspace(*next), cursor, page);
    RETURN_IF_ERROR(CheckWanted());
  }
  page.last = true;
  return absl::OkStatus();
}

void WatchStream::Add(const core::Workspace& workspace, int64_t cursor,
                      Page& page) {
  page.messages.push_back(hub_->EncodeListed(
      workspace, hub_->TokenAt(cursor, view_, page.listed_through)));
  page.bytes += page.messages.back().size();
}

}  // namespace mlops::rpc
