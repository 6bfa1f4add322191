#include "service/rpc/archive_streams.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/cpp/base/status_macros.h"
#include "service/core/errors.h"
#include "service/rpc/artifact_wire.h"
#include "service/rpc/convert.h"

namespace mlops::rpc {

using core::FieldInvalid;

namespace {

// An acknowledgement is sent at the latest when this many more bytes are
// staged.
constexpr int64_t kAcknowledgeBytes = kMaxChunkBytes;

absl::StatusOr<archive::ExportArgs> FromProto(
    const pb::ExportWorkspaceRequest& request) {
  ASSIGN_OR_RETURN(core::ProjectName project,
                   core::ProjectName::Parse(request.project()));
  ASSIGN_OR_RETURN(std::vector<std::string> directories,
                   ParseDirectories(request.directories()));
  return archive::ExportArgs{.project = std::move(project),
                             .directories = std::move(directories)};
}

}  // namespace

void ArchiveStreams::EndIdle() {
  const bool others_refused =
      SteadyClock::now() - slots_->last_refusal() < Calls::kShortage;
  live_.EndThose({.patience = calls_->Patience(others_refused),
                  .why = core::ClientIsIdle()});
}

// --- ExportWorkspace ---

ExportStream::ExportStream(ArchiveStreams* streams,
                           grpc::CallbackServerContext* context,
                           const grpc::ByteBuffer& request)
    : Stream(&streams->calls(), kExportWorkspace, &streams->live(),
             &streams->workers(), context),
      streams_(streams),
      slot_(&streams->slots(), TransferKind::kExport) {
  absl::Status status = Admit(request);
  if (status.ok()) status = Parse(request);
  if (status.ok()) status = slot_.Take();
  Begin(std::move(status));
}

absl::Status ExportStream::Parse(const grpc::ByteBuffer& request) {
  pb::ExportWorkspaceRequest parsed;
  RETURN_IF_ERROR(CheckRequestSize(request.Length()));
  RETURN_IF_ERROR(Decode(request, &parsed));
  RETURN_IF_ERROR(Authorize(parsed));
  ASSIGN_OR_RETURN(args_, FromProto(parsed));
  return absl::OkStatus();
}

void ExportStream::Release() {
  // Without an end, the last message was written together with OK.
  if (!HasEnd() && !context().IsCancelled()) slot_.Succeed();
  DestroyLater(std::move(exporter_));
}

ExportStream::Step ExportStream::Next() {
  Step step;
  if (!writing_ && ready_.has_value()) {
    step.write = std::exchange(ready_, std::nullopt);
    // Send the last message together with the status. Give no hint that another
    // message follows: gRPC 1.51 may then wait forever.
    step.last = all_read_ && tasks_ == 0;
  }
  // Read one chunk ahead at most: a slow reader must not fill the memory.
  if (tasks_ == 0 && !ready_.has_value() && !all_read_) step.tasks = 1;
  return step;
}

void ExportStream::Work() {
  absl::StatusOr<grpc::ByteBuffer> chunk = NextChunk();
  const bool all_read = chunk.ok() && exporter_->done();
  // Close the files here, on a worker thread, because closing may block.
  if (all_read) exporter_.reset();
  TaskDone([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    all_read_ = all_read;
    if (chunk.ok()) {
      ready_ = *std::move(chunk);
    } else if (!end_.has_value()) {
      end_ = chunk.status();
    }
  });
}

absl::StatusOr<grpc::ByteBuffer> ExportStream::NextChunk() {
  RETURN_IF_ERROR(CheckWanted());
  // Open the workspace here, not in the constructor, because gRPC's threads
  // must not wait for the disk.
  if (exporter_ == nullptr) {
    ASSIGN_OR_RETURN(exporter_, streams_->archives().Export(*args_));
  }
  // Read straight into the buffer that is sent, which saves a copy.
  const size_t most = IsPaced() ? kPacedBytes : kChunkBytes;
  size_t got = 0;
  ASSIGN_OR_RETURN(const grpc::Slice slice,
                   wire::MakeSlice(most, [&](char* buffer) -> absl::Status {
                     ASSIGN_OR_RETURN(got, exporter_->Read(buffer, most));
                     return absl::OkStatus();
                   }));
  slot_.AddBytes(got);
  return wire::Encode(pb::ExportWorkspaceResponse(),
                      pb::ExportWorkspaceResponse::kDataFieldNumber,
                      wire::Part(slice, 0, got));
}

// --- ImportWorkspace ---

ImportStream::ImportStream(ArchiveStreams* streams,
                           grpc::CallbackServerContext* context)
    : ReceiveStream(&streams->calls(), kImportWorkspace, &streams->live(),
                    &streams->workers(), context),
      streams_(streams),
      slot_(&streams->slots(), TransferKind::kImport) {
  Begin(Admit());
}

std::optional<absl::Status> ImportStream::Handle(bool*) {
  // The call may have waited in the queue, and its client may have left
  // meanwhile.
  if (absl::Status wanted = CheckWanted(); !wanted.ok()) return wanted;
  const std::optional<grpc::ByteBuffer> bytes = TakeReceived();
  // No message means that the client has finished sending.
  if (!bytes.has_value()) return Finish();
  Message message;
  if (!wire::Decode(*bytes, pb::ImportWorkspaceRequest::kDataFieldNumber,
                    &message.head, &message.data))
    return FieldInvalid("request", "is not a valid ImportWorkspaceRequest");
  ReadNext();
  // The first message names the workspace; later ones may repeat the name. A
  // retried request ends here, because its workspace exists already.
  if (importer_ == nullptr) {
    absl::Status begun = BeginImport(message.head);
    if (!begun.ok() || importer_ == nullptr) return begun;
  } else if (absl::Status fits = CheckLater(message.head); !fits.ok()) {
    return fits;
  }
  // Count only the bytes that were staged, even if Feed() fails halfway.
  const int64_t staged_bytes = importer_->offset();
  absl::Status staged = importer_->Feed(message.data.pieces);
  slot_.AddBytes(static_cast<size_t>(importer_->offset() - staged_bytes));
  if (!staged.ok()) return staged;
  AcknowledgeStaged();
  return std::nullopt;
}

absl::StatusOr<archive::ImportArgs> ImportStream::ParseFirst(
    const pb::ImportWorkspaceRequest& first) {
  RETURN_IF_ERROR(Authorize(first));
  ASSIGN_OR_RETURN(core::ProjectName project,
                   core::ProjectName::Parse(first.project()));
  RETURN_IF_ERROR(CheckRequestId(first.request_id()));
  return archive::ImportArgs{.project = std::move(project),
                             .request_id = first.request_id()};
}

absl::Status ImportStream::BeginImport(
    const pb::ImportWorkspaceRequest& first) {
  ASSIGN_OR_RETURN(archive::ImportArgs args, ParseFirst(first));
  // Take the slot only now, so that clients that open streams and send nothing
  // do not occupy slots.
  RETURN_IF_ERROR(slot_.Take());
  memory_.emplace(&streams_->receive_quota());
  ASSIGN_OR_RETURN(archive::ImportStart start,
                   streams_->archives().Import(args));
  importer_ = std::move(start.importer);
  if (start.existing != nullptr) Answer(0, *start.existing);
  return absl::OkStatus();
}

// Checks that a later message does not contradict the first.
absl::Status ImportStream::CheckLater(
    const pb::ImportWorkspaceRequest& head) const {
  const archive::ImportArgs& args = importer_->args();
  RETURN_IF_ERROR(CheckRepeated("project", head.project(), args.project.str()));
  return CheckRepeated("request_id", head.request_id(), args.request_id);
}

void ImportStream::AcknowledgeStaged() {
  const int64_t staged = importer_->offset();
  if (staged - acknowledged_ <= kAcknowledgeBytes) return;
  acknowledged_ = staged;
  pb::ImportWorkspaceResponse response;
  response.set_offset(staged);
  Acknowledge(Encode(response));
}

absl::Status ImportStream::Finish() {
  // A cancelled stream also ends the client's messages, but it is not a
  // complete archive.
  if (context().IsCancelled()) return ClientCancelled();
  if (importer_ == nullptr) return FieldInvalid("project", "is required");
  ASSIGN_OR_RETURN(const core::WorkspacePtr workspace,
                   importer_->Finish([this] { return !CheckWanted().ok(); }));
  Answer(importer_->offset(), *workspace);
  return absl::OkStatus();
}

void ImportStream::Answer(int64_t offset, const core::Workspace& workspace) {
  pb::ImportWorkspaceResponse response;
  response.set_offset(offset);
  ToProto(workspace, response.mutable_workspace());
  call_.DescribeResult(response.workspace());
  // Mark the success before the client can see it.
  slot_.Succeed();
  SetLast(Encode(response));
}

}  // namespace mlops::rpc
