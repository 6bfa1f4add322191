#include "service/rpc/artifact_streams.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "grpcpp/impl/codegen/proto_utils.h"
#include "proto/cpp/base/status_macros.h"
#include "service/core/errors.h"
#include "service/rpc/convert.h"

namespace mlops::rpc {

using core::FieldInvalid;

namespace {

constexpr size_t kSha256Digits = 64;
// Smaller messages are hashed on the thread that writes them: handing them to
// another one costs more than it saves.
constexpr size_t kParallelBytes = 256 * 1024;

// An acknowledgement is sent at the latest when this many more bytes are
// staged. A message cannot hold more, so a call with one message gets one
// response.
constexpr int64_t kAcknowledgeBytes = kMaxChunkBytes;

absl::StatusOr<std::string> ParseSha256(const std::string& text) {
  if (text.size() != kSha256Digits ||
      !std::all_of(text.begin(), text.end(), absl::ascii_isxdigit)) {
    return FieldInvalid("sha256", "must be 64 hexadecimal digits");
  }
  return absl::AsciiStrToLower(text);
}

}  // namespace

void ArtifactStreams::EndIdle() {
  const bool others_refused =
      SteadyClock::now() - slots_.last_refusal() < Calls::kShortage;
  live_.EndThose({.patience = calls_->Patience(others_refused),
                  .why = core::ClientIsIdle()});
}

// --- ReadArtifact ---

ArtifactReadStream::ArtifactReadStream(ArtifactStreams* streams,
                                       grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer& request)
    : Stream(&streams->calls(), kReadArtifact, &streams->live(),
             &streams->workers(), context),
      streams_(streams),
      slot_(&streams->slots()) {
  absl::Status status = Admit(request);
  if (status.ok()) status = Parse(request);
  if (status.ok()) status = slot_.Take();
  Begin(std::move(status));
}

absl::Status ArtifactReadStream::Parse(const grpc::ByteBuffer& request) {
  pb::ReadArtifactRequest parsed;
  RETURN_IF_ERROR(CheckRequestSize(request.Length()));
  RETURN_IF_ERROR(Decode(request, &parsed));
  RETURN_IF_ERROR(Authorize(parsed));
  ASSIGN_OR_RETURN(args_, FromProto(parsed));
  return absl::OkStatus();
}

ArtifactReadStream::Step ArtifactReadStream::Next() {
  Step step;
  // Without a message that could carry the status, end with the status alone.
  if (all_read_ && ready_.empty() && tasks_ == 0) end_ = absl::OkStatus();
  if (!writing_ && !ready_.empty()) {
    step.write = std::move(ready_.front());
    ready_.pop_front();
    // Send the last message together with the status. Give no hint that another
    // message follows: gRPC 1.51 may then wait forever.
    step.last = all_read_ && ready_.empty() && tasks_ == 0;
  }
  // Read one chunk ahead at most: a slow reader must not fill the memory.
  if (tasks_ == 0 && ready_.empty() && !all_read_) step.tasks = 1;
  return step;
}

void ArtifactReadStream::Work() {
  std::deque<grpc::ByteBuffer> messages;
  absl::Status status = WorkOnce(&messages);
  const bool all_read = reader_ != nullptr && reader_->remaining_bytes() == 0;
  // Close the file here, on a worker thread, because closing may block.
  if (all_read) reader_.reset();
  TaskDone([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    all_read_ = all_read;
    if (!status.ok() && !end_.has_value()) end_ = std::move(status);
    for (grpc::ByteBuffer& message : messages)
      ready_.push_back(std::move(message));
  });
}

absl::Status ArtifactReadStream::WorkOnce(
    std::deque<grpc::ByteBuffer>* messages) {
  RETURN_IF_ERROR(CheckWanted());
  // The first message describes the file, so that the client knows its size
  // before any data arrives.
  if (reader_ == nullptr) {
    ASSIGN_OR_RETURN(reader_, streams_->artifacts().OpenForRead(*args_));
    pb::ReadArtifactResponse first;
    ToProto(reader_->artifact(), first.mutable_artifact());
    messages->push_back(Encode(first));
    if (reader_->remaining_bytes() == 0) return absl::OkStatus();
  }
  // The reader fills the buffer that is sent, which saves a copy.
  const size_t size = static_cast<size_t>(std::min<int64_t>(
      reader_->remaining_bytes(), IsPaced() ? kPacedBytes : kChunkBytes));
  ASSIGN_OR_RETURN(grpc::ByteBuffer message, EncodeData(size, [&](char* data) {
                     return reader_->Read(data, size).status();
                   }));
  messages->push_back(std::move(message));
  return absl::OkStatus();
}

// --- WriteArtifact ---

ArtifactWriteStream::ArtifactWriteStream(ArtifactStreams* streams,
                                         grpc::CallbackServerContext* context)
    : ReceiveStream(&streams->calls(), kWriteArtifact, &streams->live(),
                    &streams->workers(), context),
      streams_(streams),
      slot_(&streams->slots()) {
  Begin(Admit());
}

std::optional<absl::Status> ArtifactWriteStream::Handle(bool* more) {
  if (absl::Status wanted = CheckWanted(); !wanted.ok()) return wanted;
  // A message that had to wait for the rehash is still in `message_`.
  if (!message_.has_value()) {
    const std::optional<grpc::ByteBuffer> bytes = TakeReceived();
    if (!bytes.has_value()) return EndUnfinished();
    auto message = DecodeWrite(*bytes);
    if (!message.ok()) return message.status();
    if (!message->head.finish()) ReadNext();
    if (message->head.discard()) return Discard(*message);
    message_ = *std::move(message);
    if (absl::Status begun = BeginMessage(); !begun.ok()) return begun;
  }
  // Rehash one chunk per task, so that other streams get their turn.
  if (rehashing_) {
    const auto rest = writer_->Rehash();
    if (!rest.ok()) return rest.status();
    rehashing_ = *more = *rest;
    if (rehashing_) return std::nullopt;
  }
  // Clear `message_`, so that the next task takes a new message.
  const bool finish = message_->head.finish();
  absl::Status written = Write(*std::exchange(message_, std::nullopt));
  if (!written.ok() || finish) return written;
  AcknowledgeStaged(asks_);
  return std::nullopt;
}

absl::Status ArtifactWriteStream::BeginMessage() {
  const bool first = writer_ == nullptr;
  // A later message without data asks how much is staged.
  asks_ = !first && message_->data.pieces.empty();
  return first ? BeginUpload(message_->head) : CheckLater(message_->head);
}

absl::StatusOr<artifacts::WriteArgs> ArtifactWriteStream::ParseFirst(
    const pb::WriteArtifactRequest& first) {
  RETURN_IF_ERROR(Authorize(first));
  return FromProto(first);
}

absl::Status ArtifactWriteStream::BeginUpload(
    const pb::WriteArtifactRequest& first) {
  ASSIGN_OR_RETURN(const artifacts::WriteArgs args, ParseFirst(first));
  // Take the slot only now, so that clients that open streams and send nothing
  // do not occupy slots.
  RETURN_IF_ERROR(slot_.Take());
  memory_.emplace(&streams_->receive_quota());
  ASSIGN_OR_RETURN(writer_, streams_->artifacts().OpenForWrite(
                                args, [this] { return !CheckWanted().ok(); }));
  // A resumed upload must hash the bytes that are already staged before it can
  // append more.
  acknowledged_ = writer_->offset();
  rehashing_ = writer_->offset() > 0;
  return absl::OkStatus();
}

absl::Status ArtifactWriteStream::Discard(const WriteMessage& message) {
  const pb::WriteArtifactRequest& head = message.head;
  std::optional<artifacts::WriteArgs> first;
  // Without a writer, this is the first message, so it must name the upload.
  if (writer_ == nullptr) {
    ASSIGN_OR_RETURN(first, ParseFirst(head));
    if (first->upload_id.empty())
      return FieldInvalid("upload_id",
                          "is required with discard in the first message");
  } else {
    RETURN_IF_ERROR(CheckLater(head));
  }
  if (head.finish() || !message.data.pieces.empty()) {
    return FieldInvalid("discard",
                        "must not come together with data or finish");
  }
  // If the upload has already finished, report the resulting artifact.
  ASSIGN_OR_RETURN(
      const auto finished,
      first ? streams_->artifacts().DiscardUpload(*first) : writer_->Discard());
  Answer(finished ? finished->size_bytes : 0, finished);
  return absl::OkStatus();
}

// Checks that a later message does not contradict the first.
absl::Status ArtifactWriteStream::CheckLater(
    const pb::WriteArtifactRequest& head) const {
  const artifacts::WriteArgs& args = writer_->args();
  RETURN_IF_ERROR(CheckRepeated("project", head.project(), args.project.str()));
  RETURN_IF_ERROR(CheckRepeated("path", head.path(), args.path.shown()));
  RETURN_IF_ERROR(CheckRepeated("upload_id", head.upload_id(), args.upload_id));
  RETURN_IF_ERROR(CheckRepeated("etag", head.etag(), args.precondition.etag));
  if (head.fence() != 0 && head.fence() != args.fence)
    return DiffersFromFirst("fence");
  if (head.create_only() && !args.precondition.create_only) {
    return DiffersFromFirst("create_only");
  }
  // Zero means that the message states no offset.
  if (head.discard() || head.offset() == 0 ||
      head.offset() == writer_->offset())
    return absl::OkStatus();
  return core::UploadOffsetMismatch(args.project.str(), args.upload_id,
                                    head.offset(), writer_->offset());
}

absl::Status ArtifactWriteStream::Write(const WriteMessage& message) {
  // Record the expected checksum before Finish() compares it.
  if (!message.head.sha256().empty()) {
    ASSIGN_OR_RETURN(std::string sha256, ParseSha256(message.head.sha256()));
    writer_->ExpectSha256(std::move(sha256));
  }
  RETURN_IF_ERROR(WriteData(message));
  if (!message.head.finish()) return absl::OkStatus();
  ASSIGN_OR_RETURN(artifacts::Artifact artifact,
                   writer_->Finish([this] { return !CheckWanted().ok(); }));
  Answer(writer_->offset(), std::move(artifact));
  return absl::OkStatus();
}

absl::Status ArtifactWriteStream::WriteData(const WriteMessage& message) {
  const std::vector<absl::string_view>& pieces = message.data.pieces;
  size_t size = 0;
  for (absl::string_view piece : pieces) size += piece.size();
  const auto cancelled = [this] { return !CheckWanted().ok(); };
  if (size < kParallelBytes) return writer_->Write(pieces, cancelled);
  // Hashing takes about as long as writing, so do both at once.
  absl::Status written;
  base::RunBoth(
      streams_->workers(),
      [&] { written = writer_->Append(pieces, cancelled); },
      [&] { writer_->Hash(pieces); });
  return written;
}

void ArtifactWriteStream::AcknowledgeStaged(bool asked) {
  const int64_t staged = writer_->offset();
  if (!asked && staged - acknowledged_ <= kAcknowledgeBytes) return;
  acknowledged_ = staged;
  pb::WriteArtifactResponse response;
  response.set_offset(staged);
  Acknowledge(Encode(response));
}

absl::Status ArtifactWriteStream::EndUnfinished() {
  if (context().IsCancelled()) return ClientCancelled();
  if (writer_ == nullptr) return FieldInvalid("project", "is required");
  // An unfinished upload survives only under an upload_id, which lets the
  // client resume it.
  if (writer_->args().upload_id.empty()) {
    return FieldInvalid("finish",
                        "did not come before the end of the stream, and there "
                        "is no upload_id to keep it for");
  }
  Answer(writer_->offset(), std::nullopt);
  return absl::OkStatus();
}

void ArtifactWriteStream::Answer(
    int64_t offset, const std::optional<artifacts::Artifact>& artifact) {
  pb::WriteArtifactResponse response;
  response.set_offset(offset);
  if (artifact) {
    ToProto(*artifact, response.mutable_artifact());
    call_.DescribeResult(response.artifact());
  }
  SetLast(Encode(response));
}

}  // namespace mlops::rpc
