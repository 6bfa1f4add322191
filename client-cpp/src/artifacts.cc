// Implements the methods of WorkspaceClient for artifacts.
#include "mlops/artifacts.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client-cpp/src/connection.h"
#include "client-cpp/src/convert.h"
#include "client-cpp/src/inherited_lease.h"
#include "client-cpp/src/local_file.h"
#include "client-cpp/src/read_session.h"
#include "client-cpp/src/write_session.h"
#include "mlops/workspace_client.h"
#include "proto/cpp/base/sha256.h"
#include "proto/cpp/base/status_macros.h"

namespace mlops {
namespace {

namespace v1 = workspace::v1;
using internal::Connection;
using internal::FromProto;
using internal::ReadSession;
using internal::Retry;
using internal::SourceFile;
using internal::TargetFile;
using internal::WriteSession;

// Returns a request for `path` in `project`.
template <typename Request>
Request About(std::string_view project, std::string_view path) {
  Request request;
  request.set_project(std::string(project));
  request.set_path(std::string(path));
  return request;
}

template <typename Request>
Request MakePlaceRequest(std::string_view project, std::string_view path,
                         std::string_view destination,
                         const PlaceOptions& options, int64_t fence) {
  auto request = About<Request>(project, path);
  request.set_fence(fence);
  request.set_destination_path(std::string(destination));
  request.set_create_only(options.create_only);
  request.set_etag(options.etag);
  return request;
}

// Returns the first message of a write, from WriteOptions or UploadOptions.
template <typename Options>
v1::WriteArtifactRequest MakeWriteRequest(std::string_view project,
                                          std::string_view path,
                                          const Options& options,
                                          int64_t fence) {
  auto request = About<v1::WriteArtifactRequest>(project, path);
  request.set_fence(fence);
  request.set_create_only(options.create_only);
  request.set_etag(options.etag);
  request.set_upload_id(options.upload_id);
  return request;
}

// Calls `progress`, if there is one. Returns CANCELLED if it returns false.
absl::Status Report(const Progress& progress, int64_t done_bytes,
                    int64_t total_bytes) {
  if (progress == nullptr || progress(done_bytes, total_bytes))
    return absl::OkStatus();
  return absl::CancelledError("The progress callback ended the transfer");
}

// Computes the SHA-256 of a whole file while the file is sent. A resumed upload
// may skip or repeat parts of the file, so this class hashes each part exactly
// once.
class FileChecksum {
 public:
  // `file` must outlive this.
  explicit FileChecksum(const SourceFile* file) : file_(file) {}

  // Hashes `data`, which starts at `offset` in the file. First reads and hashes
  // the skipped part before it.
  absl::Status Add(int64_t offset, const grpc::Slice& data) {
    while (hashed_ < offset) {
      ASSIGN_OR_RETURN(const grpc::Slice before,
                       file_->Read(hashed_, std::min(offset - hashed_,
                                                     internal::kChunkBytes)));
      Update(before, 0);
    }
    if (hashed_ - offset < static_cast<int64_t>(data.size()))
      Update(data, static_cast<size_t>(hashed_ - offset));
    return absl::OkStatus();
  }

  // Hashes the rest of the file and returns the checksum. May be called again,
  // because the client may retry finishing.
  absl::StatusOr<std::string> Finish() {
    if (!finished_.empty()) return finished_;
    RETURN_IF_ERROR(Add(file_->size(), grpc::Slice()));
    return finished_ = sha256_.Finish();
  }

 private:
  void Update(const grpc::Slice& data, size_t skip) {
    const absl::string_view bytes(reinterpret_cast<const char*>(data.begin()),
                                  data.size());
    sha256_.Update(bytes.substr(skip));
    hashed_ += static_cast<int64_t>(data.size() - skip);
  }

  const SourceFile* const file_;
  base::Sha256 sha256_;
  int64_t hashed_ = 0;
  std::string finished_;
};

// Opens a file for reading, with ReadOptions or DownloadOptions. Prefers direct
// access.
template <typename Options>
absl::StatusOr<std::unique_ptr<ReadSession>> OpenSession(
    const std::shared_ptr<Connection>& connection,
    v1::ReadArtifactRequest request, const Options& options,
    const CallOptions& call) {
  // Start the call even if the client then reads the file directly: the server
  // checks the request, and its answer has the etag that identifies the local
  // file.
  const Retry retry(call);
  request.set_etag(options.etag);
  ASSIGN_OR_RETURN(auto wire,
                   internal::WireReadSession::Open(connection, request, call));
  if (!options.by_path) return wire;
  auto by_path = internal::PathReadSession::Open(*connection, request.project(),
                                                 *wire, retry.Attempt());
  return by_path != nullptr ? std::move(by_path) : std::move(wire);
}

// Copies `file` directly into the server's staged file, if this host sees it.
// Copies as much as possible; the session sends the rest.
absl::Status AppendByPath(Connection& connection, WriteSession& session,
                          const SourceFile& file, const Progress& progress,
                          const CallOptions& call) {
  const Retry retry(call);
  const std::string base = connection.LocalBase(retry.Attempt());
  auto staged = base.empty() ? std::nullopt : session.OpenStaged(base);
  if (!staged) return absl::OkStatus();
  // Copy in chunks, to check for cancellation and report progress between them.
  // A failed copy ends the loop without an error, because the session can still
  // send the rest.
  for (int64_t copied = 1; copied > 0 && session.offset() < file.size();
       session.Appended(copied)) {
    RETURN_IF_ERROR(retry.CheckWanted());
    RETURN_IF_ERROR(Report(progress, session.offset(), file.size()));
    const int64_t size =
        std::min(file.size() - session.offset(), internal::kChunkBytes);
    copied =
        std::max<int64_t>(0, internal::CopyBytes(file.fd(), session.offset(),
                                                 staged->fd.get(), size));
  }
  // Close here, because close(2) may report a failed write.
  return internal::CloseWritten(std::move(staged->fd));
}

// Reads `session` to its end into `file`. Returns the SHA-256 if
// `options.checksum` is true, otherwise "".
absl::StatusOr<std::string> Save(ReadSession& session, TargetFile& file,
                                 const DownloadOptions& options) {
  base::Sha256 sha256;
  const int64_t total = session.remaining_bytes();
  // Run at least once, so that even an empty file reports progress and the
  // client reads the status of the call.
  do {
    if (options.checksum) {
      ASSIGN_OR_RETURN(const auto pieces, session.NextPieces());
      for (const absl::string_view piece : pieces) sha256.Update(piece);
      RETURN_IF_ERROR(file.Append(pieces));
    } else {
      RETURN_IF_ERROR(session.Save(file));
    }
    RETURN_IF_ERROR(Report(options.progress, session.offset(), total));
  } while (session.remaining_bytes() > 0);
  return options.checksum ? sha256.Finish() : "";
}

}  // namespace

ArtifactReader::ArtifactReader(std::unique_ptr<internal::ReadSession> session)
    : session_(std::move(session)) {}
ArtifactReader::ArtifactReader(ArtifactReader&&) noexcept = default;
ArtifactReader& ArtifactReader::operator=(ArtifactReader&&) noexcept = default;
ArtifactReader::~ArtifactReader() = default;

const Artifact& ArtifactReader::artifact() const {
  return session_->artifact();
}
bool ArtifactReader::by_path() const { return session_->by_path(); }
int64_t ArtifactReader::offset() const { return session_->offset(); }
int64_t ArtifactReader::remaining_bytes() const {
  return session_->remaining_bytes();
}
absl::StatusOr<size_t> ArtifactReader::Read(char* buffer, size_t size) {
  return session_->Read(buffer, size);
}

absl::StatusOr<std::string> ArtifactReader::ReadChunk() {
  ASSIGN_OR_RETURN(const auto pieces, session_->NextPieces());
  // Reserve the whole size, so that appending copies each piece only once.
  size_t size = 0;
  for (const absl::string_view piece : pieces) size += piece.size();
  std::string chunk;
  chunk.reserve(size);
  for (const absl::string_view piece : pieces)
    chunk.append(piece.data(), piece.size());
  return chunk;
}

ArtifactWriter::ArtifactWriter(std::unique_ptr<internal::BufferedWriter> writer)
    : writer_(std::move(writer)) {}
ArtifactWriter::ArtifactWriter(ArtifactWriter&&) noexcept = default;
ArtifactWriter& ArtifactWriter::operator=(ArtifactWriter&&) noexcept = default;
ArtifactWriter::~ArtifactWriter() = default;

int64_t ArtifactWriter::offset() const { return writer_->offset(); }
absl::Status ArtifactWriter::Write(std::string_view data) {
  return writer_->Write(data);
}
absl::StatusOr<Artifact> ArtifactWriter::Finish(std::string_view sha256) {
  return writer_->Finish(sha256);
}
void ArtifactWriter::Abandon() { writer_->Abandon(); }

absl::StatusOr<Artifact> WorkspaceClient::GetArtifact(
    std::string_view project, std::string_view path,
    const GetArtifactOptions& options, const CallOptions& call) const {
  auto request = About<v1::GetArtifactRequest>(project, path);
  request.set_checksum(options.checksum);
  ASSIGN_OR_RETURN(const v1::Artifact artifact,
                   connection_->GetArtifact(request, call));
  return FromProto(artifact);
}

absl::Status WorkspaceClient::ListArtifacts(
    std::string_view project, const std::function<bool(const Artifact&)>& visit,
    const ListArtifactsOptions& options, const CallOptions& call) const {
  auto request = About<v1::ListArtifactsRequest>(project, options.path);
  request.set_recursive(options.recursive);
  request.set_page_size(options.page_size);
  do {
    ASSIGN_OR_RETURN(const v1::ListArtifactsResponse page,
                     connection_->ListArtifacts(request, call));
    for (const v1::Artifact& artifact : page.artifacts()) {
      if (!visit(FromProto(artifact))) return absl::OkStatus();
    }
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  return absl::OkStatus();
}

absl::StatusOr<DeletedArtifacts> WorkspaceClient::DeleteArtifact(
    std::string_view project, std::string_view path,
    const DeleteArtifactOptions& options, const CallOptions& call) const {
  auto request = About<v1::DeleteArtifactRequest>(project, path);
  request.set_force(options.force);
  request.set_etag(options.etag);
  request.set_allow_missing(options.allow_missing);
  request.set_fence(inherited_lease_->FenceFor(project, call));
  ASSIGN_OR_RETURN(const v1::DeleteArtifactResponse response,
                   connection_->DeleteArtifact(request, call));
  return DeletedArtifacts{.file_count = response.file_count(),
                          .size_bytes = response.size_bytes()};
}

absl::StatusOr<Artifact> WorkspaceClient::MoveArtifact(
    std::string_view project, std::string_view path,
    std::string_view destination, const PlaceOptions& options,
    const CallOptions& call) const {
  const auto request = MakePlaceRequest<v1::MoveArtifactRequest>(
      project, path, destination, options,
      inherited_lease_->FenceFor(project, call));
  ASSIGN_OR_RETURN(const v1::Artifact artifact,
                   connection_->MoveArtifact(request, call));
  return FromProto(artifact);
}

absl::StatusOr<Artifact> WorkspaceClient::CopyArtifact(
    std::string_view project, std::string_view path,
    std::string_view destination, const PlaceOptions& options,
    const CallOptions& call) const {
  const auto request = MakePlaceRequest<v1::CopyArtifactRequest>(
      project, path, destination, options,
      inherited_lease_->FenceFor(project, call));
  ASSIGN_OR_RETURN(const v1::Artifact artifact,
                   connection_->CopyArtifact(request, call));
  return FromProto(artifact);
}

absl::StatusOr<Artifact> WorkspaceClient::MakeDirectory(
    std::string_view project, std::string_view path,
    const CallOptions& call) const {
  auto request = About<v1::MakeDirectoryRequest>(project, path);
  request.set_fence(inherited_lease_->FenceFor(project, call));
  ASSIGN_OR_RETURN(const v1::Artifact artifact,
                   connection_->MakeDirectory(request, call));
  return FromProto(artifact);
}

absl::StatusOr<ArtifactReader> WorkspaceClient::OpenForRead(
    std::string_view project, std::string_view path, const ReadOptions& options,
    const CallOptions& call) const {
  auto request = About<v1::ReadArtifactRequest>(project, path);
  request.set_offset(options.offset);
  request.set_limit(options.limit);
  ASSIGN_OR_RETURN(auto session,
                   OpenSession(connection_, std::move(request), options, call));
  return ArtifactReader(std::move(session));
}

absl::StatusOr<ArtifactWriter> WorkspaceClient::OpenForWrite(
    std::string_view project, std::string_view path,
    const WriteOptions& options, const CallOptions& call) const {
  auto session = std::make_unique<WriteSession>(
      connection_,
      MakeWriteRequest(project, path, options,
                       inherited_lease_->FenceFor(project, call)),
      call);
  if (!options.upload_id.empty()) RETURN_IF_ERROR(session->Resume());
  return ArtifactWriter(
      std::make_unique<internal::BufferedWriter>(std::move(session)));
}

absl::StatusOr<TransferredArtifact> WorkspaceClient::Upload(
    std::string_view project, const std::string& source, std::string_view path,
    const UploadOptions& options, const CallOptions& call) const {
  ASSIGN_OR_RETURN(const SourceFile file, SourceFile::Open(source));
  const Retry retry(call);
  WriteSession session(
      connection_,
      MakeWriteRequest(project, path, options,
                       inherited_lease_->FenceFor(project, call)),
      call);
  if (!options.upload_id.empty()) RETURN_IF_ERROR(session.Resume());
  // A file of several messages needs an id, to resume after a broken
  // connection.
  if (file.size() > internal::kChunkBytes) session.UseOwnUploadId();
  // With a caller's id, another process could write the same staged file
  // concurrently.
  bool by_path = options.by_path && options.upload_id.empty() &&
                 file.size() >= internal::kMinBytesByPath;
  absl::Status appended;
  if (by_path)
    appended = AppendByPath(*connection_, session, file, options.progress,
                            retry.Attempt());
  FileChecksum checksum(&file);
  // Called for each chunk that goes over the connection, after which the upload
  // no longer counts as `by_path`.
  const auto read = [&](int64_t offset) -> absl::StatusOr<grpc::Slice> {
    by_path = false;
    RETURN_IF_ERROR(Report(options.progress, offset, file.size()));
    ASSIGN_OR_RETURN(grpc::Slice data,
                     file.Read(offset, internal::kChunkBytes));
    if (options.checksum) RETURN_IF_ERROR(checksum.Add(offset, data));
    return data;
  };
  const auto finish_checksum = [&] {
    return options.checksum ? checksum.Finish() : "";
  };
  const auto finish = [&] {
    return session.Finish(file.size(), read, finish_checksum);
  };
  const absl::StatusOr<Artifact> artifact = appended.ok() ? finish() : appended;
  // Let the server drop the staged data, which nobody will resume.
  if (!artifact.ok()) session.Abandon();
  RETURN_IF_ERROR(artifact.status());
  // Ignore the callback's result: the upload is finished and can no longer be
  // cancelled.
  Report(options.progress, file.size(), file.size()).IgnoreError();
  return TransferredArtifact{*artifact, by_path};
}

absl::StatusOr<TransferredArtifact> WorkspaceClient::Download(
    std::string_view project, std::string_view path,
    const std::string& destination, const DownloadOptions& options,
    const CallOptions& call) const {
  const auto request = About<v1::ReadArtifactRequest>(project, path);
  ASSIGN_OR_RETURN(const auto session,
                   OpenSession(connection_, request, options, call));
  ASSIGN_OR_RETURN(TargetFile file, TargetFile::Create(destination));
  ASSIGN_OR_RETURN(const std::string sha256, Save(*session, file, options));
  TransferredArtifact artifact{session->artifact(), session->by_path()};
  // Compare the checksums before the file replaces another one. The etag shows
  // whether the server's checksum is still of the same file.
  if (options.checksum) {
    ASSIGN_OR_RETURN(const Artifact now,
                     GetArtifact(project, path, {.checksum = true}, call));
    if (now.etag != artifact.etag) {
      return absl::AbortedError(
          absl::StrCat(artifact.path,
                       " was replaced before its checksum could be compared; "
                       "download it again"));
    }
    if (now.sha256 != sha256) {
      return absl::DataLossError(absl::StrCat(
          "The downloaded content of ", artifact.path, " has SHA-256 ", sha256,
          ", but the server's has ", now.sha256, "; download it again"));
    }
    artifact.sha256 = sha256;
  }
  RETURN_IF_ERROR(file.Place());
  return artifact;
}

}  // namespace mlops
