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

// Artifacts: the files and directories in a workspace, and what WorkspaceClient
// (mlops/workspace_client.h, which includes this) reads and writes them with.
//
// PATHS
//
// A `path` is relative to the workspace, with `/` between its names: UTF-8, at
// most 1024 bytes, each name 1 to 255 bytes without `\`, control characters,
// and not `.` or `..`; the first is one of the workspace's five directories.
// Names on disk that are none of that, made by others, are shown with `\xHH`
// for each such byte, and can be read, moved and deleted by that name.
//
// FILES ON THIS MACHINE
//
// Where the server's file system is seen from here, too, OpenForRead, Download
// and Upload use a file by its path rather than the connection, if 2 MiB or
// more are wanted and the etag has proved that it is the one that the server
// speaks of; the result tells (`by_path`). All else is as over the connection,
// which does what cannot be done so. Of what is uploaded in this way the server
// alone computes the SHA-256, unless `checksum` has it done here, too.
namespace mlops {

// A file or directory in a workspace, as it was when it was looked at.
struct Artifact {
  std::string path;  // For example "models/run-7/model.pt".
  // Directories have neither size nor checksum nor etag.
  bool directory = false;
  int64_t size_bytes = 0;
  // 64 lower-case hexadecimal digits. Set by Get with `checksum`, Finish and
  // Upload.
  std::string sha256;
  // When the content last changed.
  absl::Time modify_time = absl::InfinitePast();
  // Changes whenever the file is written, replaced, moved or given other
  // rights.
  std::string etag;
};

// What Upload and Download return.
struct TransferredArtifact : Artifact {
  // Whether all of the content was copied by the file's path, as told above.
  bool by_path = false;
};

struct GetArtifactOptions {
  // Also compute the SHA-256, for which the server reads the whole file unless
  // it remembers it.
  bool checksum = false;
};

struct ListArtifactsOptions {
  // The directory to list; empty: the workspace itself, which has the five.
  std::string path = "";
  // Also list what is in its directories, and in those.
  bool recursive = false;
  // How many to hold in memory at once; 0 means 100, more than 1000 means 1000.
  int32_t page_size = 0;
};

struct DeleteArtifactOptions {
  // Delete a directory although something is in it.
  bool force = false;
  // If given, delete only if it is still the current one.
  std::string etag = "";
  // Answer OK also if there is no such artifact.
  bool allow_missing = false;
};

struct DeletedArtifacts {
  int64_t file_count = 0;
  int64_t size_bytes = 0;
};

// Of Move and Copy.
struct PlaceOptions {
  // Do not replace anything.
  bool create_only = false;
  // If given, must be the current one of what is moved or copied.
  std::string etag = "";
};

struct ReadOptions {
  // Where to begin, in bytes.
  int64_t offset = 0;
  // How many bytes to read at most; 0 means to the end.
  int64_t limit = 0;
  // If given, must be the file's current one.
  std::string etag = "";
  // Read by the path where possible.
  bool by_path = true;
};

struct WriteOptions {
  // Do not replace a file.
  bool create_only = false;
  // If given, must be the etag of the file that is replaced.
  std::string etag = "";
  // `[A-Za-z0-9._-]{1,64}`, one for each file: what comes is kept under it for
  // a day, to go on from with another call that gives the same one, also from
  // another process. Empty: the client takes one of its own.
  std::string upload_id = "";
};

// Called with the bytes that are done and those there are, after each chunk and
// once at the end. After a broken connection fewer may be done than before.
// Returning false ends the transfer with CANCELLED.
using Progress = std::function<bool(int64_t done_bytes, int64_t total_bytes)>;

struct UploadOptions {
  // As in WriteOptions. With an `upload_id` under which part of the file is
  // kept already, only the rest is sent.
  bool create_only = false;
  std::string etag = "";
  std::string upload_id = "";
  // Compute the SHA-256 here too, and have the server compare: it refuses what
  // is not the same.
  bool checksum = false;
  // Append by the path where possible; not with an `upload_id`, by which others
  // could go on with it meanwhile.
  bool by_path = true;
  Progress progress = nullptr;
};

struct DownloadOptions {
  // If given, must be the file's current one.
  std::string etag = "";
  // Compute the SHA-256 of what came and compare it with the server's, who may
  // have to read the file once more for it.
  bool checksum = false;
  // Copy by the path where possible.
  bool by_path = true;
  Progress progress = nullptr;
};

namespace internal {
class ReadSession;
class BufferedWriter;
}  // namespace internal

// Reads one file: as it was when the reader was opened, also if it is replaced
// meanwhile. Made by WorkspaceClient::OpenForRead. By the path it needs the
// server no more. Else, where the connection breaks, it goes on at its place in
// the same file; after 8 attempts in a row, within some seconds, that brought
// nothing, it returns their error. What came ahead of Read() waits in gRPC's
// buffers, of some MiB. Not thread-safe, but may be used from one thread after
// the other.
class ArtifactReader {
 public:
  explicit ArtifactReader(std::unique_ptr<internal::ReadSession> session);
  ArtifactReader(ArtifactReader&&) noexcept;
  ArtifactReader& operator=(ArtifactReader&&) noexcept;
  // Ends the call, whether or not all was read.
  ~ArtifactReader();

  // What is read.
  const Artifact& artifact() const;
  // Whether it is read by its path.
  bool by_path() const;
  // Where the next byte stands in the file.
  int64_t offset() const;
  // How many bytes are still to come.
  int64_t remaining_bytes() const;

  // Sets the next bytes and returns how many: `size`, or less where the end
  // comes before, and so 0 at the end.
  //
  // Returns ABORTED/ETAG_MISMATCH {path, etag, current_etag} if the file was
  // cut off or written over in place, or, where
  //   the connection broke, replaced: what was read is of no use then.
  // Returns UNAVAILABLE if the connection broke and could not be made again;
  // what was read stands, and another reader
  //   can go on with `offset` and `etag`.
  absl::StatusOr<size_t> Read(char* buffer, size_t size);

  // Returns the next bytes, about 1 MiB, or none at the end. Errors as Read.
  absl::StatusOr<std::string> ReadChunk();

 private:
  std::unique_ptr<internal::ReadSession> session_;
};

// Writes one file, which is there, whole, when Finish() returns, and until then
// not at all. Made by WorkspaceClient::OpenForWrite. Holds what is needed to go
// on where the connection broke: at most 16 MiB. Gives up as ArtifactReader.
// Not thread-safe, but may be used from one thread after the other.
class ArtifactWriter {
 public:
  explicit ArtifactWriter(std::unique_ptr<internal::BufferedWriter> writer);
  ArtifactWriter(ArtifactWriter&&) noexcept;
  ArtifactWriter& operator=(ArtifactWriter&&) noexcept;
  // Abandons what is not finished.
  ~ArtifactWriter();

  // Where in the file the next byte will stand: at first 0, or where an upload
  // of that `upload_id` stands.
  int64_t offset() const;

  // Appends `data`. What is sent is in messages of 1 MiB; as long as a file is
  // smaller, nothing is, and Finish() tells of all errors. After an error
  // nothing but Abandon() can follow.
  //
  // Returns NOT_FOUND/WORKSPACE_NOT_FOUND if there is no such workspace, or not
  // any more. Returns DATA_LOSS/WORKSPACE_CORRUPT {file, line, problem} if its
  // workspace.yaml cannot be read. Returns INVALID_ARGUMENT/PATH_INVALID {path,
  // problem} if the path is not one that a new file may have. Returns
  // FAILED_PRECONDITION/PATH_UNSUITABLE {path, problem} if it is a directory or
  // something else that is no file,
  //   or leads through a symbolic link or a file.
  // Returns ALREADY_EXISTS/ARTIFACT_EXISTS {path} if `create_only` is set and
  // the name is taken. Returns ABORTED/ETAG_MISMATCH {path, etag, current_etag}
  // if `etag` is given and is not the current one. Returns
  // ABORTED/WORKSPACE_BUSY {operation} if something else writes the same
  // upload. Returns RESOURCE_EXHAUSTED/NO_SPACE {path, available_bytes} if the
  // disk is full. Returns UNAVAILABLE if the connection broke and could not be
  // made again. Returns DATA_LOSS, without a reason, if the server lost more of
  // what was sent than is held here: it was killed with
  //   its machine.
  absl::Status Write(std::string_view data);

  // Makes the file visible, in place of the one that had the name, durably. If
  // `sha256` is given, 64 hexadecimal digits, the whole must have it. Errors as
  // Write, and Returns INVALID_ARGUMENT/CHECKSUM_MISMATCH {path,
  // expected_sha256, actual_sha256} if it has not; what was sent is
  //   dropped.
  // Returns UNAVAILABLE also where nobody knows whether the file is there: a
  // file of less than 1 MiB, with `create_only`
  //   or `etag`, whose connection broke before the answer.
  absl::StatusOr<Artifact> Finish(std::string_view sha256 = "");

  // Gives the file up. With an `upload_id` of yours, what was sent is kept
  // under it; else the server is told to drop it, and does so after a day if it
  // cannot be reached within some seconds. Does nothing after Finish().
  void Abandon();

 private:
  std::unique_ptr<internal::BufferedWriter> writer_;
};

}  // namespace mlops

#endif  // MLOPS_ARTIFACTS_H_
