#include "service/rpc/clone_stream.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/status_macros.h"
#include "service/core/errors.h"
#include "service/core/quota.h"
#include "service/rpc/convert.h"

namespace mlops::rpc {
namespace {

constexpr std::chrono::milliseconds kReportInterval(300);

}  // namespace

CloneStream::CloneStream(const CloneParts& parts, Calls* calls,
                         grpc::CallbackServerContext* context,
                         const grpc::ByteBuffer& request)
    : Stream(calls, kCloneWorkspace, &calls->live(), parts.workers, context),
      parts_(parts),
      slot_(std::in_place, parts.slots, TransferKind::kClone) {
  absl::Status status = Admit(request);
  if (status.ok()) status = Parse(request);
  if (status.ok()) status = slot_->Take();
  Begin(std::move(status));
}

absl::Status CloneStream::Parse(const grpc::ByteBuffer& bytes) {
  pb::CloneWorkspaceRequest request;
  RETURN_IF_ERROR(CheckRequestSize(bytes.Length()));
  RETURN_IF_ERROR(Decode(bytes, &request));
  call_.Describe(request);
  // The clone needs two permissions: to see the source, and to create the
  // destination.
  RETURN_IF_ERROR(
      AuthorizeBoth(request.project(), request.destination_project()));
  ASSIGN_OR_RETURN(source_, core::ProjectName::Parse(request.project()));
  // ProjectName's own error would blame `project`, which is the source.
  auto destination = core::ProjectName::Parse(request.destination_project());
  if (!destination.ok()) {
    return core::FieldInvalid("destination_project",
                              "must be the name of a project");
  }
  destination_ = *std::move(destination);
  ASSIGN_OR_RETURN(directories_, ParseDirectories(request.directories()));
  RETURN_IF_ERROR(CheckRequestId(request.request_id()));
  request_id_ = request.request_id();
  return absl::OkStatus();
}

absl::Status CloneStream::AuthorizeBoth(const std::string& source,
                                        const std::string& destination) {
  call_.project = source;
  RETURN_IF_ERROR(calls().CheckPolicy(call_, kGetWorkspace));
  // From here on, errors, log and audit record name the workspace that the call
  // creates.
  call_.project = destination;
  RETURN_IF_ERROR(calls().CheckPolicy(call_, kCreateWorkspace));
  return calls().Authorize(call_);
}

CloneStream::Step CloneStream::Next() {
  Step step;
  // One task does the whole clone; Next() runs many times.
  step.tasks = std::exchange(started_, true) ? 0 : 1;
  if (!writing_ && ready_.has_value()) {
    step.write = *std::exchange(ready_, std::nullopt);
    step.last = done_;
  }
  return step;
}

void CloneStream::Work() {
  absl::StatusOr<core::WorkspacePtr> clone = Clone();
  if (clone.ok()) slot_->Succeed();
  // Release the slot now, so that the client's next clone may begin as soon as
  // it sees the end of this one.
  slot_.reset();
  grpc::ByteBuffer message;
  if (clone.ok()) {
    pb::CloneWorkspaceResponse last;
    ToProto(**clone, last.mutable_workspace());
    last.set_file_count(ClampToInt32(copied_.file_count));
    last.set_size_bytes(copied_.size_bytes);
    call_.DescribeResult(last);
    message = Encode(last);
  }
  TaskDone([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (clone.ok()) {
      done_ = true;
      ready_ = std::move(message);
    } else if (!end_.has_value()) {
      end_ = clone.status();
    }
  });
}

absl::StatusOr<core::WorkspacePtr> CloneStream::Clone() {
  RETURN_IF_ERROR(CheckWanted());
  core::Authority& authority = *parts_.authority;
  // Check this before the source: a retried request succeeds even if the source
  // is gone.
  ASSIGN_OR_RETURN(core::WorkspacePtr existing,
                   authority.FindRepeated(*destination_, request_id_));
  if (existing != nullptr) {
    call_.changes_nothing = true;
    return existing;
  }
  ASSIGN_OR_RETURN(const core::WorkspacePtr source, authority.Get(*source_));
  auto clone = CopyAndPlace(source);
  // fs::Dir returns NOT_FOUND without a reason if the source vanishes during
  // the copy.
  if (absl::IsNotFound(clone.status()) &&
      base::GetReason(clone.status()).empty())
    return core::WorkspaceNotFound(source_->str());
  return clone;
}

absl::StatusOr<core::WorkspacePtr> CloneStream::CopyAndPlace(
    const core::WorkspacePtr& source) {
  core::Authority& authority = *parts_.authority;
  const auto ended = [this] { return Ended(); };
  // Copy into the staging directory, so that a crash or an error leaves no
  // partial workspace.
  ASSIGN_OR_RETURN(const auto from, parts_.base->OpenDir(source_->str()));
  ASSIGN_OR_RETURN(const auto tree, parts_.stage->Begin());
  ASSIGN_OR_RETURN(copied_,
                   artifacts::CopyTree(
                       {.project = *source_,
                        .from = *from,
                        .to = *tree,
                        .directories = directories_},
                       ended, [this](const artifacts::CopyProgress& progress) {
                         Report(progress);
                       }));
  Count(copied_);
  // Sync before the rename in Create(): a crash must not leave a workspace with
  // empty files.
  RETURN_IF_ERROR(tree->Sync(ended));
  if (Ended()) return ClientCancelled();
  // Look the source up again: if it was deleted meanwhile, the copy may lack
  // files. A different uid means that it was also recreated.
  ASSIGN_OR_RETURN(const core::WorkspacePtr still, authority.Get(*source_));
  if (still->uid != source->uid) return core::WorkspaceNotFound(source_->str());
  core::CreateArgs args = authority.ArgsOfClone(*still, *destination_);
  // A source may exceed its quota, but a new workspace may not.
  RETURN_IF_ERROR(core::CheckQuota(
      destination_->str(), args.quota, {},
      {.file_count = copied_.file_count, .size_bytes = copied_.size_bytes}));
  args.request_id = request_id_;
  args.staged = tree->name();
  return authority.Create(args);
}

bool CloneStream::Ended() {
  if (context().IsCancelled()) return true;
  absl::MutexLock lock(&mutex_);
  return end_.has_value();
}

void CloneStream::Count(const artifacts::CopyProgress& progress) {
  slot_->AddBytes(static_cast<size_t>(progress.size_bytes - counted_bytes_));
  counted_bytes_ = progress.size_bytes;
}

void CloneStream::Report(const artifacts::CopyProgress& progress) {
  Count(progress);
  const auto now = SteadyClock::now();
  if (now - reported_ < kReportInterval) return;
  reported_ = now;
  pb::CloneWorkspaceResponse message;
  message.set_file_count(ClampToInt32(progress.file_count));
  message.set_size_bytes(progress.size_bytes);
  Advance([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    // Replaces a message that the client has not taken yet, so a slow client
    // does not delay the copy.
    ready_ = Encode(message);
  });
}

}  // namespace mlops::rpc
