#ifndef MLOPS_CLIENT_CPP_SRC_READ_SESSION_H_
#define MLOPS_CLIENT_CPP_SRC_READ_SESSION_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "client-cpp/src/connection.h"
#include "client-cpp/src/local_file.h"
#include "client-cpp/src/retry.h"
#include "mlops/artifacts.h"
#include "mlops/options.h"
#include "proto/cpp/wire_data.h"

namespace mlops::internal {

// Reads a file, or a part of it, sequentially. Not thread-safe.
class ReadSession {
 public:
  virtual ~ReadSession() = default;

  const Artifact& artifact() const { return artifact_; }
  int64_t offset() const { return offset_; }
  int64_t remaining_bytes() const { return end_ - offset_; }
  virtual bool by_path() const = 0;

  // Copies the next bytes into `buffer`. Returns their number, which is less
  // than `size` only at the end.
  virtual absl::StatusOr<size_t> Read(char* buffer, size_t size) = 0;

  // Returns the next available bytes without copying them. The memory is valid
  // until the next call. Returns no pieces at the end.
  virtual absl::StatusOr<absl::Span<const absl::string_view>> NextPieces() = 0;

  // Appends the next available bytes to `file`.
  virtual absl::Status Save(TargetFile& file);

 protected:
  ReadSession() = default;
  ReadSession(const ReadSession&) = default;

  Artifact artifact_;
  int64_t offset_ = 0;
  int64_t end_ = 0;
};

// Reads over the connection. When a call breaks, resumes with a new call at the
// same offset.
class WireReadSession final : public ReadSession {
 public:
  // Starts the first call, and waits until the server has described the file.
  static absl::StatusOr<std::unique_ptr<ReadSession>> Open(
      std::shared_ptr<Connection> connection,
      workspace::v1::ReadArtifactRequest request, const CallOptions& call);

  bool by_path() const override { return false; }
  absl::StatusOr<size_t> Read(char* buffer, size_t size) override;
  // Returns the rest of the current message, or the next message, in gRPC's
  // memory.
  absl::StatusOr<absl::Span<const absl::string_view>> NextPieces() override;

 private:
  WireReadSession(std::shared_ptr<Connection> connection,
                  workspace::v1::ReadArtifactRequest request,
                  const CallOptions& call)
      : connection_(std::move(connection)),
        request_(std::move(request)),
        retry_(call) {}

  // Receives pieces if none are left, unless this is the end. Retries as
  // needed.
  absl::Status Fill();
  // Starts a call at the current offset, and reads the description of the file.
  absl::Status Begin();
  // Receives one message into `pieces_`.
  absl::Status Receive();
  // If `error` is a broken connection, waits before the next attempt and
  // returns OK. Otherwise returns `error`.
  absl::Status Retried(absl::Status error);

  const std::shared_ptr<Connection> connection_;
  workspace::v1::ReadArtifactRequest request_;
  Retry retry_;
  std::unique_ptr<ReadStream> stream_;
  bool described_ = false;  // Whether the server has described the file.
  wire::Data data_;         // The last message.
  absl::Span<absl::string_view> pieces_;  // The unread part of `data_`.
};

// Reads a file directly through the file system, after its etag has proved that
// it is the server's file. Does not need the server after Open().
class PathReadSession final : public ReadSession {
 public:
  // Returns a session that replaces `wire`, from which nothing has been read
  // yet. Returns null if direct access is impossible or not worthwhile.
  static std::unique_ptr<ReadSession> Open(Connection& connection,
                                           const std::string& project,
                                           const ReadSession& wire,
                                           const CallOptions& call);

  bool by_path() const override { return true; }
  absl::StatusOr<size_t> Read(char* buffer, size_t size) override;
  absl::StatusOr<absl::Span<const absl::string_view>> NextPieces() override;
  // Copies in the kernel.
  absl::Status Save(TargetFile& file) override;

 private:
  PathReadSession(const std::string& project, const ReadSession& wire,
                  SameFile file, const Retry& retry)
      : ReadSession(wire),
        project_(project),
        file_(std::move(file)),
        retry_(retry) {}

  // Advances the offset by `got` bytes. Returns ABORTED/ETAG_MISMATCH unless
  // `got` equals `wanted` and the file has not changed since it was opened.
  absl::Status MoveOn(int64_t got, int64_t wanted);

  const std::string project_;
  const SameFile file_;
  const Retry retry_;
  std::string buffer_;
  absl::string_view piece_;  // The used part of `buffer_`.
};

}  // namespace mlops::internal

#endif  // MLOPS_CLIENT_CPP_SRC_READ_SESSION_H_
