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

constexpr absl::Duration kRetryDelay = absl::Milliseconds(500);
constexpr size_t kSha256Digits = 64;
// Smaller messages are hashed on the thread that writes them: handing them to
// another one costs more than it saves.
constexpr size_t kParallelBytes = 256 * 1024;

// Acknowledged at the latest once so much more is staged. Not less than a
// message may have: a call of one message gets one response.
constexpr int64_t kAcknowledgeBytes = kMaxChunkBytes;

// Destroys `object` on a worker thread, because its destructor may block on
// disk I/O.
template <typename T>
void DestroyOn(base::ThreadPool& workers, std::unique_ptr<T> object) {
  if (object == nullptr) return;
  // If the queue is full, the object is destroyed here.
  (void)workers.TrySchedule([object = std::shared_ptr<T>(std::move(
                                 object))]() mutable { object.reset(); });
}

absl::StatusOr<std::string> ParseSha256(const std::string& text) {
  if (text.size() != kSha256Digits ||
      !std::all_of(text.begin(), text.end(), absl::ascii_isxdigit)) {
    return FieldInvalid("sha256", "must be 64 hexadecimal digits");
  }
  return absl::AsciiStrToLower(text);
}

}  // namespace

absl::Status ArtifactStreams::Slot::Take() {
  int running = streams_->running_.load();
  do {
    if (running >= streams_->max_streams_) {
      streams_->last_refusal_ = SteadyClock::now();
      return core::Overloaded(absl::StrCat("streams of artifacts, of which ",
                                           streams_->max_streams_, " may run"),
                              kRetryDelay);
    }
  } while (!streams_->running_.compare_exchange_weak(running, running + 1));
  taken_ = true;
  return absl::OkStatus();
}

void ArtifactStreams::EndIdle() {
  const bool others_refused =
      SteadyClock::now() - last_refusal_.load() < Calls::kShortage;
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
      slot_(streams) {
  if (!request.Valid()) NoteCancelled();
  calls().CountReceived(call_, request.Length());
  absl::Status status = Admit();
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

void ArtifactReadStream::Release() {
  DestroyOn(streams_->workers(), std::move(reader_));
}

ArtifactReadStream::Step ArtifactReadStream::Next() {
  Step step;
  if (all_read_ && ready_.empty() && tasks_ == 0) end_ = absl::OkStatus();
  if (!writing_ && !ready_.empty()) {
    step.write = std::move(ready_.front());
    ready_.pop_front();
    // Send the last message together with the status. Give no hint that another
    // message follows: gRPC 1.51 may then wait forever.
    step.last = all_read_ && ready_.empty() && tasks_ == 0;
  }
  if (tasks_ == 0 && ready_.empty() && !all_read_) step.tasks = 1;
  return step;
}

void ArtifactReadStream::Work() {
  std::deque<grpc::ByteBuffer> messages;
  absl::Status status = WorkOnce(&messages);
  const bool all_read = reader_ != nullptr && reader_->remaining_bytes() == 0;
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
  if (reader_ == nullptr) {
    ASSIGN_OR_RETURN(reader_, streams_->artifacts().OpenForRead(*args_));
    pb::ReadArtifactResponse first;
    ToProto(reader_->artifact(), first.mutable_artifact());
    messages->push_back(Encode(first));
    if (reader_->remaining_bytes() == 0) return absl::OkStatus();
  }
  const size_t size = static_cast<size_t>(
      std::min<int64_t>(reader_->remaining_bytes(), kChunkBytes));
  ASSIGN_OR_RETURN(grpc::ByteBuffer message, EncodeData(size, [&](char* data) {
                     return reader_->Read(data, size).status();
                   }));
  messages->push_back(std::move(message));
  return absl::OkStatus();
}

// --- WriteArtifact ---

ArtifactWriteStream::ArtifactWriteStream(ArtifactStreams* streams,
                                         grpc::CallbackServerContext* context)
    : Stream(&streams->calls(), kWriteArtifact, &streams->live(),
             &streams->workers(), context),
      streams_(streams),
      slot_(streams) {
  Begin(Admit());
}

void ArtifactWriteStream::OnReadDone(bool ok) {
  ReadDone([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (ok) {
      calls().CountReceived(call_, being_read_.Length());
      received_ = std::move(being_read_);
    } else {
      no_more_ = true;
    }
  });
}

void ArtifactWriteStream::Release() {
  DestroyOn(streams_->workers(), std::move(writer_));
}

ArtifactWriteStream::Step ArtifactWriteStream::Next() {
  Step step;
  if (last_.has_value()) {
    // Supersedes an acknowledgement that is due, but not one being written.
    step.last = !writing_ && tasks_ == 0;
    if (step.last) step.write = std::exchange(last_, std::nullopt);
    return step;
  }
  if (!writing_) step.write = std::exchange(next_, std::nullopt);
  step.tasks = tasks_ == 0 && (received_.has_value() || no_more_);
  step.read = !reading_ && !no_more_ && !received_.has_value();
  return step;
}

bool ArtifactWriteStream::MustRelease() {
  return std::exchange(holds_upload_, false);
}

void ArtifactWriteStream::Work() {
  bool more = false;
  const std::optional<absl::Status> end =
      HasEnd() ? absl::OkStatus() : WorkOnce(&more);
  // The client may resume as soon as it sees the end, so release the upload
  // before.
  if (end.has_value()) writer_.reset();
  if (more && !end.has_value()) return Schedule(1);
  TaskDone([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    holds_upload_ = writer_ != nullptr;
    if (end.has_value() && !end->ok() && !end_.has_value()) end_ = *end;
  });
}

std::optional<grpc::ByteBuffer> ArtifactWriteStream::TakeReceived() {
  std::optional<grpc::ByteBuffer> bytes;
  Advance([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    bytes = std::exchange(received_, std::nullopt);
  });
  return bytes;
}

std::optional<absl::Status> ArtifactWriteStream::WorkOnce(bool* more) {
  if (absl::Status wanted = CheckWanted(); !wanted.ok()) return wanted;
  if (!message_.has_value()) {
    const std::optional<grpc::ByteBuffer> bytes = TakeReceived();
    if (!bytes.has_value()) return EndUnfinished();
    auto message = DecodeWrite(*bytes);
    if (!message.ok()) return message.status();
    if (message->head.discard()) return Discard(*message);
    message_ = *std::move(message);
    if (absl::Status begun = BeginMessage(); !begun.ok()) return begun;
  }
  // A task hashes one chunk, so that other streams have their turn.
  if (rehashing_) {
    const auto rest = writer_->Rehash();
    if (!rest.ok()) return rest.status();
    rehashing_ = *more = *rest;
    if (rehashing_) return std::nullopt;
  }
  const bool finish = message_->head.finish();
  absl::Status written = Write(*std::exchange(message_, std::nullopt));
  if (!written.ok() || finish) return written;
  Acknowledge(asks_);
  return std::nullopt;
}

absl::Status ArtifactWriteStream::BeginMessage() {
  const bool first = writer_ == nullptr;
  asks_ = !first && message_->data.pieces.empty();
  return first ? BeginUpload(message_->head) : CheckLater(message_->head);
}

absl::StatusOr<artifacts::WriteArgs> ArtifactWriteStream::ParseFirst(
    const pb::WriteArtifactRequest& first) {
  RETURN_IF_ERROR(Authorize(first));
  RETURN_IF_ERROR(CheckNoFence(first.fence()));
  return FromProto(first);
}

absl::Status ArtifactWriteStream::BeginUpload(
    const pb::WriteArtifactRequest& first) {
  ASSIGN_OR_RETURN(const artifacts::WriteArgs args, ParseFirst(first));
  // Not before: clients that open streams and send nothing must not occupy
  // slots.
  RETURN_IF_ERROR(slot_.Take());
  memory_.emplace(&streams_->receive_quota());
  ASSIGN_OR_RETURN(writer_, streams_->artifacts().OpenForWrite(args));
  acknowledged_ = writer_->offset();
  rehashing_ = writer_->offset() > 0;
  return absl::OkStatus();
}

absl::Status ArtifactWriteStream::Discard(const WriteMessage& message) {
  const pb::WriteArtifactRequest& head = message.head;
  std::optional<artifacts::WriteArgs> first;
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
  const auto check = [](absl::string_view field, const std::string& now,
                        const std::string& first) {
    if (now.empty() || now == first) return absl::OkStatus();
    return FieldInvalid(field,
                        "is not what the first message of the stream says");
  };
  RETURN_IF_ERROR(CheckNoFence(head.fence()));
  RETURN_IF_ERROR(check("project", head.project(), args.project.str()));
  RETURN_IF_ERROR(check("path", head.path(), args.path.shown()));
  RETURN_IF_ERROR(check("upload_id", head.upload_id(), args.upload_id));
  RETURN_IF_ERROR(check("etag", head.etag(), args.precondition.etag));
  if (head.create_only() && !args.precondition.create_only) {
    return FieldInvalid("create_only",
                        "is not what the first message of the stream says");
  }
  if (head.discard() || head.offset() == 0 ||
      head.offset() == writer_->offset())
    return absl::OkStatus();
  return core::UploadOffsetMismatch(args.project.str(), args.upload_id,
                                    head.offset(), writer_->offset());
}

absl::Status ArtifactWriteStream::Write(const WriteMessage& message) {
  if (!message.head.sha256().empty()) {
    ASSIGN_OR_RETURN(std::string sha256, ParseSha256(message.head.sha256()));
    writer_->ExpectSha256(std::move(sha256));
  }
  RETURN_IF_ERROR(WriteData(message));
  if (!message.head.finish()) return absl::OkStatus();
  ASSIGN_OR_RETURN(artifacts::Artifact artifact, writer_->Finish());
  Answer(writer_->offset(), std::move(artifact));
  return absl::OkStatus();
}

absl::Status ArtifactWriteStream::WriteData(const WriteMessage& message) {
  const std::vector<absl::string_view>& pieces = message.data.pieces;
  size_t size = 0;
  for (absl::string_view piece : pieces) size += piece.size();
  if (size < kParallelBytes) return writer_->Write(pieces);
  // Hashing takes about as long as writing, so do both at once.
  absl::Status written;
  base::RunBoth(
      streams_->workers(), [&] { written = writer_->Append(pieces); },
      [&] { writer_->Hash(pieces); });
  return written;
}

void ArtifactWriteStream::Acknowledge(bool asked) {
  const int64_t staged = writer_->offset();
  if (!asked && staged - acknowledged_ <= kAcknowledgeBytes) return;
  acknowledged_ = staged;
  pb::WriteArtifactResponse response;
  response.set_offset(staged);
  grpc::ByteBuffer bytes = Encode(response);
  Advance([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    next_ = std::move(bytes);
  });
}

absl::Status ArtifactWriteStream::EndUnfinished() {
  if (context().IsCancelled()) return ClientCancelled();
  if (writer_ == nullptr) return FieldInvalid("project", "is required");
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
  absl::MutexLock lock(&mutex_);
  last_ = Encode(response);
}

}  // namespace mlops::rpc
