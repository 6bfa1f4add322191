#include "client-cpp/src/read_session.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "client-cpp/src/convert.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/status_macros.h"

namespace mlops::internal {

namespace {

namespace v1 = workspace::v1;

// Number of bytes per read or copy with direct access, the same as in a
// message.
constexpr int64_t kReadBytes = 1 << 20;

}  // namespace

absl::Status ReadSession::Save(TargetFile& file) {
  ASSIGN_OR_RETURN(const auto pieces, NextPieces());
  return file.Append(pieces);
}

// --- Over the wire ----------------------------------------------------------

absl::StatusOr<std::unique_ptr<ReadSession>> WireReadSession::Open(
    std::shared_ptr<Connection> connection, v1::ReadArtifactRequest request,
    const CallOptions& call) {
  std::unique_ptr<WireReadSession> session(
      new WireReadSession(std::move(connection), std::move(request), call));
  // Retried() returns OK as long as another attempt is allowed.
  while (!session->described_)
    RETURN_IF_ERROR(session->Retried(session->Begin()));
  return session;
}

absl::StatusOr<size_t> WireReadSession::Read(char* buffer, size_t size) {
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

absl::StatusOr<absl::Span<const absl::string_view>>
WireReadSession::NextPieces() {
  RETURN_IF_ERROR(Fill());
  for (const absl::string_view piece : pieces_)
    offset_ += static_cast<int64_t>(piece.size());
  return std::exchange(pieces_, {});
}

absl::Status WireReadSession::Fill() {
  while (pieces_.empty() && offset_ < end_) {
    absl::Status status = stream_ == nullptr ? Begin() : absl::OkStatus();
    if (status.ok()) status = Receive();
    if (status.ok()) retry_.Progressed();
    RETURN_IF_ERROR(Retried(std::move(status)));
  }
  return absl::OkStatus();
}

absl::Status WireReadSession::Retried(absl::Status status) {
  if (status.ok()) return status;
  stream_.reset();
  // Retry CANCELLED too, because the server cancels a read that makes no
  // progress for long. If the caller cancelled the call, Wait() returns the
  // error.
  const bool lost = IsResumable(status) || absl::IsCancelled(status);
  return lost ? retry_.Wait(status) : status;
}

absl::Status WireReadSession::Begin() {
  // A resumed call asks for the rest of the same file. The etag makes the
  // server refuse another one.
  v1::ReadArtifactRequest request = request_;
  if (described_) {
    request.set_offset(offset_);
    request.set_limit(end_ - offset_);
    request.set_etag(artifact_.etag);
  }
  stream_ = connection_->ReadArtifact(request, retry_.Attempt());
  v1::ReadArtifactResponse first;
  ASSIGN_OR_RETURN(const bool described, stream_->Read(&first, &data_));
  if (!described)
    return absl::InternalError("The server sent no description of the file");
  if (described_) return absl::OkStatus();
  // The first call defines the file and the range for all later calls.
  described_ = true;
  artifact_ = FromProto(first.artifact());
  offset_ = request_.offset();
  end_ = artifact_.size_bytes;
  if (request_.limit() > 0)
    end_ = offset_ + std::min(request_.limit(), end_ - offset_);
  return absl::OkStatus();
}

absl::Status WireReadSession::Receive() {
  v1::ReadArtifactResponse head;
  ASSIGN_OR_RETURN(const bool more, stream_->Read(&head, &data_));
  // Check the number of bytes against the description of the file.
  int64_t size = 0;
  for (const absl::string_view piece : data_.pieces)
    size += static_cast<int64_t>(piece.size());
  if (!more || size > end_ - offset_)
    return absl::DataLossError(
        "The server sent more or fewer bytes than it announced; read the file "
        "again");
  if (size == end_ - offset_) {
    // The status at the end of the stream says whether the data is valid: the
    // server returns ABORTED if the file changed during the read. A broken
    // connection does not matter here, because all data has arrived.
    wire::Data none;
    const auto after = stream_->Read(&head, &none);
    if (!after.ok() && !IsResumable(after.status())) return after.status();
  }
  pieces_ = absl::MakeSpan(data_.pieces);
  return absl::OkStatus();
}

// --- Through the file system ------------------------------------------------

std::unique_ptr<ReadSession> PathReadSession::Open(Connection& connection,
                                                   const std::string& project,
                                                   const ReadSession& wire,
                                                   const CallOptions& call) {
  if (wire.remaining_bytes() < kMinBytesByPath) return nullptr;
  const Retry retry(call);
  const std::string base = connection.LocalBase(call);
  if (base.empty()) return nullptr;
  const Artifact& artifact = wire.artifact();
  // The local directory may be another one, so only the etag proves that this
  // is the server's file.
  auto file =
      SameFile::Open(absl::StrCat(base, "/", project, "/", artifact.path),
                     O_RDONLY, artifact.etag);
  if (!file) return nullptr;
  return std::unique_ptr<ReadSession>(
      new PathReadSession(project, wire, *std::move(file), retry));
}

absl::StatusOr<size_t> PathReadSession::Read(char* buffer, size_t size) {
  RETURN_IF_ERROR(retry_.CheckWanted());
  const size_t wanted = std::min(size, static_cast<size_t>(remaining_bytes()));
  ASSIGN_OR_RETURN(const size_t got, ReadBytes(file_.fd.get(), offset_, buffer,
                                               wanted, artifact_.path));
  RETURN_IF_ERROR(
      MoveOn(static_cast<int64_t>(got), static_cast<int64_t>(wanted)));
  return got;
}

absl::StatusOr<absl::Span<const absl::string_view>>
PathReadSession::NextPieces() {
  buffer_.resize(static_cast<size_t>(std::min(kReadBytes, remaining_bytes())));
  ASSIGN_OR_RETURN(const size_t got, Read(buffer_.data(), buffer_.size()));
  piece_ = absl::string_view(buffer_.data(), got);
  return absl::MakeConstSpan(&piece_, got > 0 ? 1 : 0);
}

absl::Status PathReadSession::Save(TargetFile& file) {
  RETURN_IF_ERROR(retry_.CheckWanted());
  const int64_t wanted = std::min(kReadBytes, remaining_bytes());
  ASSIGN_OR_RETURN(const int64_t got,
                   file.CopyFrom(file_.fd.get(), offset_, wanted));
  return MoveOn(got, wanted);
}

absl::Status PathReadSession::MoveOn(int64_t got, int64_t wanted) {
  struct stat now = {};
  const bool told = ::fstat(file_.fd.get(), &now) == 0;
  // Apply the same rule as the server: an append does no harm, and an unlinked
  // or renamed file is still the same file. So compare the size and the
  // modification time, not the etag.
  if (told && got == wanted &&
      (now.st_size > file_.state.st_size || SameModifyTime(now, file_.state))) {
    offset_ += got;
    return absl::OkStatus();
  }
  return base::MakeError(
      absl::StatusCode::kAborted,
      absl::StrCat(base::Echo(artifact_.path),
                   " was changed while it was read; read it again"),
      {.reason = "ETAG_MISMATCH",
       .metadata = {{"project", project_},
                    {"path", artifact_.path},
                    {"etag", artifact_.etag},
                    {"current_etag", told ? EtagOf(now) : ""}}});
}

}  // namespace mlops::internal
