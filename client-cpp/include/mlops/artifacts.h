#ifndef MLOPS_ARTIFACTS_H_
#define MLOPS_ARTIFACTS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

// Artifacts are the files and directories in a workspace. This header defines
// the types with which WorkspaceClient reads and writes them;
// mlops/workspace_client.h includes it.
//
// PATHS
//
// A `path` is relative to the workspace and uses `/` as its separator. It is
// UTF-8 of at most 1024 bytes, and starts with one of the workspace's five
// directories. Each name in it has 1 to 255 bytes, contains neither `\` nor
// control characters, and is neither `.` nor `..`. If other programs create
// names that break these rules, the service shows each offending byte as
// `\xHH`; that form of the name can be read, moved and deleted.
//
// DIRECT FILE ACCESS
//
// If this host sees the server's file system, OpenForRead, Download and Upload
// access a file directly through the file system instead of the connection.
// They do so for transfers of at least 2 MiB, after the etag has proved that
// the local file is the server's file; results report this in `by_path`. The
// client falls back to the connection when direct access is impossible, and
// the semantics are the same. For uploads with direct access, only the server
// computes the SHA-256, unless `checksum` makes the client compute it, too.
namespace mlops {

// A file or directory in a workspace, as of the time when the server read it.
struct Artifact {
  std::string path;  // For example "models/run-7/model.pt".
  // Directories have no size, checksum or etag.
  bool directory = false;
  int64_t size_bytes = 0;
  // 64 lower-case hexadecimal digits. Set by GetArtifact with `checksum`,
  // ArtifactWriter::Finish and Upload.
  std::string sha256;
  // When the content last changed.
  absl::Time modify_time = absl::InfinitePast();
  // Changes whenever the file is written, replaced or moved, or its permissions
  // change.
  std::string etag;
};

// Result of Upload and Download.
struct TransferredArtifact : Artifact {
  // Whether the client copied all content directly through the file system.
  bool by_path = false;
};

struct GetArtifactOptions {
  // Also return the SHA-256. The server reads the whole file, unless it
  // remembers the checksum.
  bool checksum = false;
};

struct ListArtifactsOptions {
  // Directory to list. Empty means the workspace, which contains the five
  // directories.
  std::string path = "";
  // Also list everything below the directory's subdirectories.
  bool recursive = false;
  // Number of artifacts to hold in memory at once. 0 means 100; values above
  // 1000 mean 1000.
  int32_t page_size = 0;
};

struct DeleteArtifactOptions {
  // Delete a directory even if it is not empty.
  bool force = false;
  // If set, delete only if this is the artifact's current etag.
  std::string etag = "";
  // Return OK if there is no such artifact.
  bool allow_missing = false;
};

struct DeletedArtifacts {
  int64_t file_count = 0;
  int64_t size_bytes = 0;
};

// Options of MoveArtifact and CopyArtifact.
struct PlaceOptions {
  // Fail if the destination exists, instead of replacing it.
  bool create_only = false;
  // If set, must be the current etag of the source.
  std::string etag = "";
};

struct ReadOptions {
  // Position of the first byte to read.
  int64_t offset = 0;
  // Maximum number of bytes to read. 0 means up to the end.
  int64_t limit = 0;
  // If set, must be the file's current etag.
  std::string etag = "";
  // Access the file directly if possible.
  bool by_path = true;
};

struct WriteOptions {
  // Fail if the file exists, instead of replacing it.
  bool create_only = false;
  // If set, must be the current etag of the file to replace.
  std::string etag = "";
  // Makes the upload resumable. Matches `[A-Za-z0-9._-]{1,64}`, and must be
  // unique for each file. The server keeps the data that it has received for a
  // day, and a later call with the same id resumes the upload, even from
  // another process. If empty, the client generates an id.
  std::string upload_id = "";
};

// Called after each chunk and once at the end, with the number of bytes done
// and the total. `done_bytes` may decrease after a broken connection. If the
// callback returns false, the transfer ends with CANCELLED.
using Progress = std::function<bool(int64_t done_bytes, int64_t total_bytes)>;

struct UploadOptions {
  // See WriteOptions. If the server already has part of the file under
  // `upload_id`, the client sends only the rest.
  bool create_only = false;
  std::string etag = "";
  std::string upload_id = "";
  // Also compute the SHA-256 on this side. The server rejects the upload if its
  // own checksum differs.
  bool checksum = false;
  // Append to the staged file directly if possible. Ignored with an
  // `upload_id`, because another process could resume the same upload
  // concurrently.
  bool by_path = true;
  Progress progress = nullptr;
};

struct DownloadOptions {
  // If set, must be the file's current etag.
  std::string etag = "";
  // Compute the SHA-256 of the received content and compare it with the
  // server's, for which the server may have to read the file again.
  bool checksum = false;
  // Copy the file directly if possible.
  bool by_path = true;
  Progress progress = nullptr;
};

namespace internal {
class ReadSession;
class BufferedWriter;
}  // namespace internal

// Reads one file as it was when the reader was opened, even if the file is
// replaced meanwhile. Created by WorkspaceClient::OpenForRead. Not thread-safe,
// but different threads may use it one after the other.
//
// With direct access, the reader does not need the server after it is opened.
// Otherwise it resumes at its offset in the same file when the connection
// breaks. It returns the last error after 8 consecutive attempts without
// progress, which take a few seconds. Data that arrives ahead of Read() stays
// in gRPC's buffers of a few MiB.
class ArtifactReader {
 public:
  explicit ArtifactReader(std::unique_ptr<internal::ReadSession> session);
  ArtifactReader(ArtifactReader&&) noexcept;
  ArtifactReader& operator=(ArtifactReader&&) noexcept;
  // Ends the call, even if the file has not been read to its end.
  ~ArtifactReader();

  // Returns the file that the reader reads.
  const Artifact& artifact() const;
  // Returns whether the reader accesses the file directly.
  bool by_path() const;
  // Returns the position of the next byte in the file.
  int64_t offset() const;
  // Returns the number of bytes still to read.
  int64_t remaining_bytes() const;

  // Reads up to `size` bytes into `buffer` and returns their number. It is less
  // than `size` only at the end of the file, and 0 after that.
  //
  // Returns ABORTED/ETAG_MISMATCH {path, etag, current_etag} if the file was
  //   truncated or overwritten in place, or if the connection broke and the
  //   file was replaced. The caller must discard the data that was read.
  // Returns UNAVAILABLE if the connection broke and could not be reestablished.
  //   The data that was read is valid, and another reader can resume with
  //   `offset` and `etag`.
  absl::StatusOr<size_t> Read(char* buffer, size_t size);

  // Returns the next bytes, about 1 MiB, or none at the end. Returns the errors
  // of Read.
  absl::StatusOr<std::string> ReadChunk();

 private:
  std::unique_ptr<internal::ReadSession> session_;
};

// Writes one file, which becomes visible atomically when Finish() returns.
// Created by WorkspaceClient::OpenForWrite. Not thread-safe, but different
// threads may use it one after the other.
//
// When the connection breaks, the writer resumes, for which it holds at most
// 16 MiB of sent data. It gives up under the same conditions as ArtifactReader.
class ArtifactWriter {
 public:
  explicit ArtifactWriter(std::unique_ptr<internal::BufferedWriter> writer);
  ArtifactWriter(ArtifactWriter&&) noexcept;
  ArtifactWriter& operator=(ArtifactWriter&&) noexcept;
  // Abandons the file unless it is finished.
  ~ArtifactWriter();

  // Returns the position of the next byte in the file: initially 0, or the
  // offset at which an upload with the given `upload_id` resumes.
  int64_t offset() const;

  // Appends `data`. The writer sends messages of 1 MiB and buffers smaller
  // data, so for a smaller file only Finish() reports errors. After an error,
  // only Abandon() may be called.
  //
  // Returns NOT_FOUND/WORKSPACE_NOT_FOUND if the workspace does not exist or
  //   was deleted.
  // Returns DATA_LOSS/WORKSPACE_CORRUPT {file, line, problem} if the server
  //   cannot read its workspace.yaml.
  // Returns INVALID_ARGUMENT/PATH_INVALID {path, problem} if `path` is not
  //   valid for a new file.
  // Returns FAILED_PRECONDITION/PATH_UNSUITABLE {path, problem} if `path` is a
  //   directory or something else that is not a file, or leads through a
  //   symbolic link or a file.
  // Returns ALREADY_EXISTS/ARTIFACT_EXISTS {path} if `create_only` is true and
  //   the name is taken.
  // Returns ABORTED/ETAG_MISMATCH {path, etag, current_etag} if `etag` is set
  //   and is not the current one.
  // Returns ABORTED/WORKSPACE_BUSY {operation} if another writer writes the
  //   same upload.
  // Returns RESOURCE_EXHAUSTED/NO_SPACE {path, available_bytes} if the disk is
  //   full.
  // Returns UNAVAILABLE if the connection broke and could not be reestablished.
  // Returns DATA_LOSS, without a reason, if the server lost more data than the
  //   writer still holds, because the server's machine crashed.
  absl::Status Write(std::string_view data);

  // Makes the file durable and visible, atomically replacing a file of the same
  // name. If `sha256`, 64 hexadecimal digits, is set, the content must have
  // this checksum.
  //
  // Returns the errors of Write.
  // Returns INVALID_ARGUMENT/CHECKSUM_MISMATCH {path, expected_sha256,
  //   actual_sha256} if the content has another checksum. The server drops the
  //   data.
  // Returns UNAVAILABLE also if the outcome is unknown: if the file is smaller
  //   than 1 MiB, `create_only` or `etag` is set, and the connection broke
  //   before the response.
  absl::StatusOr<Artifact> Finish(std::string_view sha256 = "");

  // Abandons the file. With a caller's `upload_id`, the server keeps the data
  // under that id. Otherwise the client asks the server to drop it; if the
  // server cannot be reached within a few seconds, the data expires after a
  // day. A no-op after Finish().
  void Abandon();

 private:
  std::unique_ptr<internal::BufferedWriter> writer_;
};

}  // namespace mlops

#endif  // MLOPS_ARTIFACTS_H_
