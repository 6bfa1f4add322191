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
#include "proto/cpp/wire_data.h"

namespace mlops::internal {

// Reads a file, or a part of it. Not thread-safe.
class ReadSession {
 public:
  virtual ~ReadSession() = default;

  const Artifact& artifact() const { return artifact_; }
  int64_t offset() const { return offset_; }
  int64_t remaining_bytes() const { return end_ - offset_; }
  virtual bool by_path() const = 0;

  // Copies the next bytes: `size`, or as many as there are.
  virtual absl::StatusOr<size_t> Read(char* buffer, size_t size) = 0;

  // Takes what is there of the next bytes, where it is: valid until the next
  // call. None at the end.
  virtual absl::StatusOr<absl::Span<const absl::string_view>> NextPieces() = 0;

  // Appends the next bytes to `file`.
  virtual absl::Status Save(TargetFile& file);

 protected:
  ReadSession() = default;
  ReadSession(const ReadSession&) = default;

  Artifact artifact_;
  int64_t offset_ = 0;
  int64_t end_ = 0;
};

// Over the wire, in as many calls as it takes: each goes on where the one
// before broke.
class WireReadSession final : public ReadSession {
 public:
  // Begins the first call, and waits until the server has said what is read.
  static absl::StatusOr<std::unique_ptr<ReadSession>> Open(
      std::shared_ptr<Connection> connection,
      workspace::v1::ReadArtifactRequest request, const CallOptions& call);

  bool by_path() const override { return false; }
  absl::StatusOr<size_t> Read(char* buffer, size_t size) override;
  // What is left of a message, or the next one, where gRPC has left it.
  absl::StatusOr<absl::Span<const absl::string_view>> NextPieces() override;

 private:
  WireReadSession(std::shared_ptr<Connection> connection,
                  workspace::v1::ReadArtifactRequest request,
                  const CallOptions& call)
      : connection_(std::move(connection)),
        request_(std::move(request)),
        retry_(call) {}

  // Sees to it that there are pieces, unless this is the end, in as many
  // attempts as it takes.
  absl::Status Fill();
  absl::Status Begin();
  absl::Status Receive();
  absl::Status Retried(absl::Status error);

  const std::shared_ptr<Connection> connection_;
  workspace::v1::ReadArtifactRequest request_;
  Retry retry_;
  std::unique_ptr<ReadStream> stream_;
  bool described_ = false;  // Whether it is known what is read.
  wire::Data data_;
  absl::Span<absl::string_view> pieces_;  // What is left of the data.
};

// By the path, of a file that is proved to lie on this machine: does not need
// the server any more.
class PathReadSession final : public ReadSession {
 public:
  // Takes the place of `wire`, which has read nothing yet. Null where it
  // cannot.
  static std::unique_ptr<ReadSession> Open(Connection& connection,
                                           const std::string& project,
                                           const ReadSession& wire,
                                           const CallOptions& call);

  bool by_path() const override { return true; }
  absl::StatusOr<size_t> Read(char* buffer, size_t size) override;
  absl::StatusOr<absl::Span<const absl::string_view>> NextPieces() override;
  // In the kernel.
  absl::Status Save(TargetFile& file) override;

 private:
  PathReadSession(const std::string& project, const ReadSession& wire,
                  SameFile file, const Retry& retry)
      : ReadSession(wire),
        project_(project),
        file_(std::move(file)),
        retry_(retry) {}

  // Takes note of `got` bytes read. ABORTED/ETAG_MISMATCH unless these are
  // `wanted` bytes of the file as it was opened.
  absl::Status MoveOn(int64_t got, int64_t wanted);

  const std::string project_;
  const SameFile file_;
  const Retry retry_;
  std::string buffer_;
  absl::string_view piece_;  // Of the buffer.
};

}  // namespace mlops::internal

#endif  // MLOPS_CLIENT_CPP_SRC_READ_SESSION_H_
