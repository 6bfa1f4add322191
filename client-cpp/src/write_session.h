#ifndef MLOPS_CLIENT_CPP_SRC_WRITE_SESSION_H_
#define MLOPS_CLIENT_CPP_SRC_WRITE_SESSION_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client-cpp/src/connection.h"
#include "client-cpp/src/local_file.h"
#include "client-cpp/src/retry.h"
#include "grpcpp/support/slice.h"
#include "mlops/artifacts.h"
#include "mlops/options.h"

namespace mlops::internal {

// Number of data bytes per message.
inline constexpr int64_t kChunkBytes = 1 << 20;

// Writes a file in as many calls as necessary: after a broken connection, the
// next call resumes at the server's offset. Not thread-safe.
class WriteSession {
 public:
  // `first` has the fields of a call's first message. Without an `upload_id`,
  // the caller must either send everything in one message, or call
  // UseOwnUploadId() before sending the first of several.
  WriteSession(std::shared_ptr<Connection> connection,
               workspace::v1::WriteArtifactRequest first,
               const CallOptions& call)
      : connection_(std::move(connection)),
        first_(std::move(first)),
        retry_(call) {}

  // Asks the server for the state of the upload. Must be called first if
  // `first` has an `upload_id`.
  absl::Status Resume();
  // Generates an `upload_id` if there is none.
  void UseOwnUploadId();

  // Begins an upload under a generated id and opens its staged file, if that
  // provably lies below `base` on this machine. Otherwise returns nullopt, and
  // the session works as if this had not been called.
  std::optional<SameFile> OpenStaged(const std::string& base);
  // Records that the caller has appended `bytes` to the staged file.
  void Appended(int64_t bytes) { offset_ += bytes; }

  // Number of bytes sent.
  int64_t offset() const { return offset_; }
  // Number of bytes that the server has acknowledged.
  int64_t acknowledged() const { return acknowledged_; }
  // Set once the file is visible, whether this session or an earlier one
  // finished it.
  const std::optional<Artifact>& finished() const { return finished_; }

  // Returns bytes of the file from `offset` on: at least one, at most
  // kChunkBytes. `offset` is below acknowledged() only if the server has lost
  // bytes that it had acknowledged.
  using Source = absl::FunctionRef<absl::StatusOr<grpc::Slice>(int64_t offset)>;

  // Sends the bytes before `end`. On return, the server has acknowledged all
  // but the last 16 MiB of them. Returns errors of `source` unchanged; they
  // must not be UNAVAILABLE.
  absl::Status Send(int64_t end, Source source);

  // Returns the SHA-256 that the whole file must have, or "". Called after
  // `source` has returned the last bytes.
  using Checksum = absl::FunctionRef<absl::StatusOr<std::string>()>;

  // Sends the rest and finishes the file. Returns the errors of Send().
  absl::StatusOr<Artifact> Finish(int64_t end, Source source,
                                  Checksum checksum);

  // Asks the server to drop an upload that nobody can resume. Best effort,
  // because the server sweeps leftovers.
  void Abandon();

 private:
  absl::StatusOr<workspace::v1::Upload> GetUpload() const;
  // Makes one attempt. Finishes the file if `checksum` is not null.
  absl::Status TrySend(int64_t end, Source source, const Checksum* checksum);
  // Reads acknowledgements until few enough bytes lack one.
  absl::Status AwaitAcknowledgements();
  void SetAcknowledged(int64_t offset);
  // Finds the offset at which to resume. Returns an error if resuming is
  // pointless.
  absl::Status Recover(const absl::Status& error);
  absl::Status SendMessage(const grpc::Slice& data, const Checksum* checksum);
  // Ends the stream and returns its last response.
  absl::StatusOr<workspace::v1::WriteArtifactResponse> EndStream();
  absl::Status TryDiscard();
  absl::Status CheckNotFinished(int64_t end) const;
  bool IsWorthRetry(const absl::Status& error) const;

  const std::shared_ptr<Connection> connection_;
  workspace::v1::WriteArtifactRequest first_;
  bool own_upload_id_ = false;
  Retry retry_;
  std::unique_ptr<WriteStream> stream_;
  int64_t offset_ = 0;
  int64_t acknowledged_ = 0;
  std::optional<Artifact> finished_;
};

// Implements ArtifactWriter. Cuts the given bytes into messages, and holds each
// message until the server has acknowledged it. Not thread-safe.
class BufferedWriter {
 public:
  explicit BufferedWriter(std::unique_ptr<WriteSession> session)
      : session_(std::move(session)), end_(session_->offset()) {}
  ~BufferedWriter() { Abandon(); }

  int64_t offset() const { return end_ + filled_; }
  absl::Status Write(std::string_view data);
  absl::StatusOr<Artifact> Finish(std::string_view sha256);
  void Abandon();

 private:
  // Appends the buffer to the held messages.
  void Seal();
  // Sends the held messages and releases the acknowledged ones.
  absl::Status SendHeld();
  absl::StatusOr<grpc::Slice> Held(int64_t offset) const;
  absl::Status Failed(absl::Status error);

  const std::unique_ptr<WriteSession> session_;
  std::deque<grpc::Slice> held_;
  int64_t held_bytes_ = 0;
  int64_t end_ = 0;  // Offset of the end of `held_`.
  grpc::Slice buffer_;
  int64_t filled_ = 0;  // Bytes used in `buffer_`.
  bool over_ = false;
};

}  // namespace mlops::internal

#endif  // MLOPS_CLIENT_CPP_SRC_WRITE_SESSION_H_
