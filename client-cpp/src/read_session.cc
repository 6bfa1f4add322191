#include "client-cpp/src/read_session.h"

#include <algorithm>
#include <cstring>

#include "client-cpp/src/convert.h"
#include "service/base/status_macros.h"

namespace mlops::internal {

namespace v1 = workspace::v1;

absl::StatusOr<std::unique_ptr<ReadSession>> ReadSession::Open(std::shared_ptr<Connection> connection,
                                                               v1::ReadArtifactRequest request,
                                                               const CallOptions& call) {
  std::unique_ptr<ReadSession> session(new ReadSession(std::move(connection), std::move(request), call));
  while (!session->described_) RETURN_IF_ERROR(session->Retried(session->Begin()));
  return session;
}

absl::StatusOr<size_t> ReadSession::Read(char* buffer, size_t size) {
  size_t done = 0;
  while (done < size) {
    RETURN_IF_ERROR(Fill());
    if (pieces_.empty()) break;
    absl::string_view& piece = pieces_.front();
    const size_t taken = std::min(size - done, piece.size());
    std::memcpy(buffer + done, piece.data(), taken);
    piece.remove_prefix(taken);
    if (piece.empty()) pieces_.remove_prefix(1);
    done += taken;
    offset_ += static_cast<int64_t>(taken);
  }
  return done;
}

absl::StatusOr<absl::Span<const absl::string_view>> ReadSession::NextPieces() {
  RETURN_IF_ERROR(Fill());
  for (const absl::string_view piece : pieces_) offset_ += static_cast<int64_t>(piece.size());
  return std::exchange(pieces_, {});
}

absl::Status ReadSession::Fill() {
  while (pieces_.empty() && offset_ < end_) {
    absl::Status status = stream_ == nullptr ? Begin() : absl::OkStatus();
    if (status.ok()) status = Receive();
    if (status.ok()) retry_.Progressed();
    RETURN_IF_ERROR(Retried(std::move(status)));
  }
  return absl::OkStatus();
}

absl::Status ReadSession::Retried(absl::Status status) {
  if (status.ok()) return status;
  stream_.reset();
  return absl::IsUnavailable(status) ? retry_.Wait(status) : status;
}

absl::Status ReadSession::Begin() {
  v1::ReadArtifactRequest request = request_;
  if (described_) {
    request.set_offset(offset_);
    request.set_limit(end_ - offset_);
    request.set_etag(artifact_.etag);
  }
  stream_ = connection_->ReadArtifact(request, retry_.Attempt());
  v1::ReadArtifactResponse first;
  ASSIGN_OR_RETURN(const bool described, stream_->Read(&first, &data_));
  if (!described) return absl::InternalError("The server did not say what is read");
  if (described_) return absl::OkStatus();
  described_ = true;
  artifact_ = FromProto(first.artifact());
  offset_ = request_.offset();
  end_ = artifact_.size_bytes;
  if (request_.limit() > 0) end_ = offset_ + std::min(request_.limit(), end_ - offset_);
  return absl::OkStatus();
}

absl::Status ReadSession::Receive() {
  v1::ReadArtifactResponse head;
  ASSIGN_OR_RETURN(const bool more, stream_->Read(&head, &data_));
  int64_t size = 0;
  for (const absl::string_view piece : data_.pieces) size += static_cast<int64_t>(piece.size());
  if (!more || size > end_ - offset_)
    return absl::DataLossError("The server sent another number of bytes than it said");
  if (size == end_ - offset_) {
    // Only the end tells that all that came is of use.
    wire::Data none;
    const auto after = stream_->Read(&head, &none);
    if (!after.ok() && !absl::IsUnavailable(after.status())) return after.status();
  }
  pieces_ = absl::MakeSpan(data_.pieces);
  return absl::OkStatus();
}

}  // namespace mlops::internal
