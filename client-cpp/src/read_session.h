#ifndef MLOPS_CLIENT_CPP_SRC_READ_SESSION_H_
#define MLOPS_CLIENT_CPP_SRC_READ_SESSION_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "client-cpp/src/connection.h"
#include "client-cpp/src/retry.h"
#include "proto/cpp/wire_data.h"

namespace mlops::internal {

// Reads a file, or a part of it, in as many calls as it takes: each goes on where the one before broke. Not
// thread-safe.
class ReadSession {
 public:
  // Begins the first call, and waits until the server has said what is read.
  static absl::StatusOr<std::unique_ptr<ReadSession>> Open(std::shared_ptr<Connection> connection,
                                                           workspace::v1::ReadArtifactRequest request,
                                                           const CallOptions& call);

  const Artifact& artifact() const { return artifact_; }
  int64_t offset() const { return offset_; }
  int64_t remaining_bytes() const { return end_ - offset_; }

  // Copies the next bytes: `size`, or as many as there are.
  absl::StatusOr<size_t> Read(char* buffer, size_t size);

  // Takes what is left of a message, or the next one, where gRPC has left it: valid until the next call. None at the
  // end.
  absl::StatusOr<absl::Span<const absl::string_view>> NextPieces();

 private:
  ReadSession(std::shared_ptr<Connection> connection, workspace::v1::ReadArtifactRequest request,
              const CallOptions& call)
      : connection_(std::move(connection)), request_(std::move(request)), retry_(call) {}

  // Sees to it that there are pieces, unless this is the end, in as many attempts as it takes.
  absl::Status Fill();
  absl::Status Begin();
  absl::Status Receive();
  absl::Status Retried(absl::Status error);

  const std::shared_ptr<Connection> connection_;
  workspace::v1::ReadArtifactRequest request_;
  Retry retry_;
  std::unique_ptr<ReadStream> stream_;
  bool described_ = false;  // Whether it is known what is read.
  Artifact artifact_;
  int64_t offset_ = 0;
  int64_t end_ = 0;
  wire::Data data_;
  absl::Span<absl::string_view> pieces_;  // What is left of the data.
};

}  // namespace mlops::internal

#endif  // MLOPS_CLIENT_CPP_SRC_READ_SESSION_H_
