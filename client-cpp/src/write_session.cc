#include "client-cpp/src/write_session.h"

#include <fcntl.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "client-cpp/src/convert.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/field_invalid.h"
#include "proto/cpp/base/id.h"
#include "proto/cpp/base/status_macros.h"

namespace mlops::internal {
namespace {

namespace v1 = workspace::v1;

constexpr absl::Duration kAbandonTimeout = absl::Seconds(10);
// Maximum number of bytes sent without an acknowledgement, and thus the memory
// that a writer holds. A multiple of what a server stages before it
// acknowledges, so that sending does not pause for acknowledgements.
constexpr int64_t kMaxUnacknowledgedBytes = 16 << 20;

// Returns whether `path` can be the staged file of the upload. Prevents a
// server from directing this client's writes to another file.
bool IsStagedName(absl::string_view path, absl::string_view upload_id) {
  return !absl::StrContains(path, "..") &&
         absl::StartsWith(path.substr(path.rfind('/') + 1), upload_id);
}

absl::Status EndedEarly() {
  return absl::InternalError(
      "The server ended the stream before the file was finished");
}

}  // namespace

void WriteSession::UseOwnUploadId() {
  if (!first_.upload_id().empty()) return;
  first_.set_upload_id(base::RandomId());
  own_upload_id_ = true;
}

absl::StatusOr<v1::Upload> WriteSession::GetUpload() const {
  v1::GetUploadRequest request;
  request.set_project(first_.project());
  request.set_upload_id(first_.upload_id());
  return connection_->GetUpload(request, retry_.Attempt());
}

std::optional<SameFile> WriteSession::OpenStaged(const std::string& base) {
  UseOwnUploadId();
  // An empty message makes the server stage the file, and ending the stream
  // makes it keep the file.
  const bool begun =
      SendMessage(grpc::Slice(), nullptr).ok() && EndStream().ok();
  if (!begun) return std::nullopt;
  const auto upload = GetUpload();
  if (!upload.ok() || !IsStagedName(upload->staged_path(), first_.upload_id()))
    return std::nullopt;
  auto file = SameFile::Open(
      absl::StrCat(base, "/", first_.project(), "/", upload->staged_path()),
      O_WRONLY, upload->staged_etag());
  // A new staged file is empty and has one name; anything else may be another
  // file.
  if (file && (file->state.st_size != 0 || file->state.st_nlink != 1))
    return std::nullopt;
  return file;
}

absl::Status WriteSession::Resume() {
  const auto upload = GetUpload();
  offset_ = 0;
  if (ErrorReason(upload.status()) == "UPLOAD_NOT_FOUND")
    return absl::OkStatus();
  RETURN_IF_ERROR(upload.status());
  // Resuming the upload of another file would mix their contents.
  if (upload->path() != first_.path()) {
    return base::FieldInvalid(
        "upload_id",
        absl::StrCat("is that of another file, ", base::Echo(upload->path())));
  }
  offset_ = upload->offset();
  if (upload->has_artifact()) finished_ = FromProto(upload->artifact());
  return absl::OkStatus();
}

absl::Status WriteSession::CheckNotFinished(int64_t end) const {
  if (offset_ <= end && !finished_.has_value()) return absl::OkStatus();
  return base::FieldInvalid(
      "upload_id",
      absl::StrCat("is that of a file of which the server has ", offset_,
                   " bytes", finished_ ? ", and which is finished" : ""));
}

absl::Status WriteSession::Send(int64_t end, Source source) {
  while (offset_ != end) {
    RETURN_IF_ERROR(CheckNotFinished(end));
    absl::Status status = TrySend(end, source, /*checksum=*/nullptr);
    if (!status.ok()) RETURN_IF_ERROR(Recover(status));
  }
  return absl::OkStatus();
}

absl::StatusOr<Artifact> WriteSession::Finish(int64_t end, Source source,
                                              Checksum checksum) {
  while (!finished_.has_value() || offset_ != end) {
    RETURN_IF_ERROR(CheckNotFinished(end));
    absl::Status status = TrySend(end, source, &checksum);
    if (!status.ok()) RETURN_IF_ERROR(Recover(status));
  }
  return *finished_;
}

absl::Status WriteSession::TrySend(int64_t end, Source source,
                                   const Checksum* checksum) {
  bool finish = false;
  while (offset_ < end || (checksum != nullptr && !finish)) {
    grpc::Slice data;
    if (offset_ < end) {
      ASSIGN_OR_RETURN(data, source(offset_));
    }
    const int64_t size = static_cast<int64_t>(data.size());
    finish = checksum != nullptr && offset_ + size == end;
    // The last data and `finish` share a message, so that a small file needs
    // only one.
    RETURN_IF_ERROR(SendMessage(data, finish ? checksum : nullptr));
    offset_ += size;
    if (!finish) RETURN_IF_ERROR(AwaitAcknowledgements());
  }
  if (!finish) return absl::OkStatus();
  ASSIGN_OR_RETURN(const v1::WriteArtifactResponse response, EndStream());
  finished_ = FromProto(response.artifact());
  return absl::OkStatus();
}

absl::Status WriteSession::AwaitAcknowledgements() {
  while (offset_ - acknowledged_ > kMaxUnacknowledgedBytes) {
    v1::WriteArtifactResponse response;
    ASSIGN_OR_RETURN(const bool more, stream_->Read(&response));
    if (!more) return EndedEarly();
    SetAcknowledged(response.offset());
  }
  return absl::OkStatus();
}

void WriteSession::SetAcknowledged(int64_t offset) {
  // A server that has lost bytes has made no progress.
  if (offset > acknowledged_) retry_.Progressed();
  acknowledged_ = offset;
}

absl::Status WriteSession::SendMessage(const grpc::Slice& data,
                                       const Checksum* checksum) {
  v1::WriteArtifactRequest head;
  if (stream_ == nullptr) {
    stream_ = connection_->WriteArtifact(retry_.Attempt());
    head = first_;
    // The server refuses a stream that begins at another offset than it has
    // staged.
    head.set_offset(offset_);
    acknowledged_ = offset_;
  }
  head.set_finish(checksum != nullptr);
  if (checksum != nullptr) {
    ASSIGN_OR_RETURN(*head.mutable_sha256(), (*checksum)());
  }
  if (stream_->Write(head, data)) return absl::OkStatus();
  // A failed write gives no reason; the end of the stream does.
  absl::Status status = EndStream().status();
  return status.ok() ? EndedEarly() : status;
}

absl::StatusOr<v1::WriteArtifactResponse> WriteSession::EndStream() {
  const auto stream = std::move(stream_);
  stream->WritesDone();
  v1::WriteArtifactResponse last;
  // The last response has the result; earlier ones are acknowledgements.
  while (true) {
    v1::WriteArtifactResponse response;
    ASSIGN_OR_RETURN(const bool more, stream->Read(&response));
    if (!more) return last;
    last = std::move(response);
  }
}

// Without an upload_id, the outcome of a broken call is unknown. Writing the
// file again is safe unless it must meet a condition, which the first copy may
// now violate.
bool WriteSession::IsWorthRetry(const absl::Status& error) const {
  const std::string reason = ErrorReason(error);
  if (!first_.upload_id().empty() &&
      (reason == "WORKSPACE_BUSY" || reason == "UPLOAD_OFFSET_MISMATCH"))
    return true;
  if (!IsResumable(error)) return false;
  return !first_.upload_id().empty() || !reason.empty() ||
         (!first_.create_only() && first_.etag().empty());
}

absl::Status WriteSession::Recover(const absl::Status& error) {
  stream_.reset();
  absl::Status status = error;
  do {
    if (!IsWorthRetry(status)) return status;
    RETURN_IF_ERROR(retry_.Wait(status));
    // Ask the server where to resume; without an id, start again.
    offset_ = 0;
    status = first_.upload_id().empty() ? absl::OkStatus() : Resume();
  } while (!status.ok());
  SetAcknowledged(offset_);
  return absl::OkStatus();
}

absl::Status WriteSession::TryDiscard() {
  v1::WriteArtifactRequest head;
  if (stream_ == nullptr) {
    stream_ = connection_->WriteArtifact(retry_.Attempt());
    head = first_;
  }
  head.set_discard(true);
  stream_->Write(head, grpc::Slice());  // The end of the stream has any error.
  return EndStream().status();
}

void WriteSession::Abandon() {
  if (std::exchange(own_upload_id_, false) && !finished_.has_value()) {
    if (stream_ != nullptr && TryDiscard().ok()) return;
    // Use a separate call if the stream broke, was cancelled or had ended. The
    // server may not have noticed that yet, so retry while it is busy.
    retry_ = Retry({.timeout = kAbandonTimeout});
    absl::Status status = TryDiscard();
    while (ErrorReason(status) == "WORKSPACE_BUSY" && retry_.Wait(status).ok())
      status = TryDiscard();
  }
  stream_.reset();
}

absl::Status BufferedWriter::Write(std::string_view data) {
  if (over_)
    return absl::FailedPreconditionError("Nothing can be written any more");
  while (!data.empty()) {
    if (filled_ == 0) buffer_ = grpc::Slice(static_cast<size_t>(kChunkBytes));
    const size_t taken =
        std::min(data.size(), static_cast<size_t>(kChunkBytes - filled_));
    // Writing is safe, because nobody else refers to the slice yet.
    std::memcpy(const_cast<uint8_t*>(buffer_.begin()) + filled_, data.data(),
                taken);
    filled_ += static_cast<int64_t>(taken);
    data.remove_prefix(taken);
    // Send only full messages; Finish() sends the rest.
    if (filled_ < kChunkBytes) return absl::OkStatus();
    Seal();
    // A file of several messages needs an id, to resume after a broken
    // connection.
    session_->UseOwnUploadId();
    if (absl::Status sent = SendHeld(); !sent.ok())
      return Failed(std::move(sent));
  }
  return absl::OkStatus();
}

absl::StatusOr<Artifact> BufferedWriter::Finish(std::string_view sha256) {
  if (over_)
    return absl::FailedPreconditionError("Nothing can be finished any more");
  Seal();
  auto artifact = session_->Finish(
      end_, [this](int64_t offset) { return Held(offset); },
      [sha256]() -> absl::StatusOr<std::string> {
        return std::string(sha256);
      });
  if (!artifact.ok()) return Failed(artifact.status());
  over_ = true;
  return artifact;
}

void BufferedWriter::Abandon() {
  if (!std::exchange(over_, true)) session_->Abandon();
}

void BufferedWriter::Seal() {
  if (filled_ == 0) return;
  held_.push_back(wire::Part(buffer_, 0, static_cast<size_t>(filled_)));
  end_ += filled_;
  held_bytes_ += filled_;
  filled_ = 0;
}

absl::Status BufferedWriter::SendHeld() {
  RETURN_IF_ERROR(
      session_->Send(end_, [this](int64_t offset) { return Held(offset); }));
  // The server has staged the acknowledged messages, so free them.
  while (!held_.empty()) {
    const int64_t size = static_cast<int64_t>(held_.front().size());
    if (end_ - held_bytes_ + size > session_->acknowledged()) break;
    held_.pop_front();
    held_bytes_ -= size;
  }
  return absl::OkStatus();
}

absl::StatusOr<grpc::Slice> BufferedWriter::Held(int64_t offset) const {
  int64_t begin = end_ - held_bytes_;
  // A linear search suffices, because few messages are held.
  for (const grpc::Slice& slice : held_) {
    const int64_t size = static_cast<int64_t>(slice.size());
    if (offset >= begin && offset < begin + size) {
      return wire::Part(slice, static_cast<size_t>(offset - begin),
                        slice.size());
    }
    begin += size;
  }
  return absl::DataLossError(
      absl::StrCat("The server lost what came after byte ", offset,
                   ", which is not held here"));
}

absl::Status BufferedWriter::Failed(absl::Status error) {
  Abandon();
  return error;
}

}  // namespace mlops::internal
