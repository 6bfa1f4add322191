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

namespace mlops::internal {

// The data of one message.
inline constexpr int64_t kChunkBytes = 1 << 20;

// Writes a file in as many calls as it takes: each goes on where the server
// stands. Not thread-safe.
class WriteSession {
 public:
  // `first` is what the first message of a call says. Without an `upload_id`
  // all goes in one message, or UseOwnUploadId() is called before the first of
  // several.
  WriteSession(std::shared_ptr<Connection> connection,
               workspace::v1::WriteArtifactRequest first,
               const CallOptions& call)
      : connection_(std::move(connection)),
        first_(std::move(first)),
        retry_(call) {}

  // To be called first if `first` has an `upload_id`: asks where it stands.
  absl::Status Resume();
  // Takes a new one if there is none.
  void UseOwnUploadId();

  // Begins an upload of its own without sending anything of it, and opens the
  // file that the server has staged for it, if it is proved to lie below `base`
  // on this machine. Where nothing comes of that, all goes on as if it had not
  // been called.
  std::optional<SameFile> OpenStaged(const std::string& base);
  // To be called when so much was appended to that file.
  void Appended(int64_t bytes) { offset_ += bytes; }

  // Where the server stands, as far as known here.
  int64_t offset() const { return offset_; }
  // Set once the file is there, by this session or an earlier one.
  const std::optional<Artifact>& finished() const { return finished_; }

  // Gives the bytes of the file from `offset` on: some, at most kChunkBytes.
  using Source = absl::FunctionRef<absl::StatusOr<grpc::Slice>(int64_t offset)>;

  // Sends what stands before `end`. Errors of `source` are returned as they
  // are, and must not be UNAVAILABLE.
  absl::Status Send(int64_t end, Source source);

  // Waits until the server has got `wanted` of the bytes that were sent, and
  // returns how many it has. Less if the way to it was lost meanwhile: then
  // Send() goes on from there. Errors as Send().
  absl::StatusOr<int64_t> WaitUntilHas(int64_t wanted);

  // What the whole must have, or "". Asked for once `source` has given the last
  // bytes.
  using Checksum = absl::FunctionRef<absl::StatusOr<std::string>()>;

  // Sends what is left and finishes the file.
  absl::StatusOr<Artifact> Finish(int64_t end, Source source,
                                  Checksum checksum);

  // Lets the server drop what nobody will go on with. Best effort: what stays
  // there is swept.
  void Abandon();

 private:
  absl::StatusOr<workspace::v1::Upload> GetUpload() const;
  // One attempt. Finishes the file if there is a `checksum`.
  absl::Status TrySend(int64_t end, Source source, const Checksum* checksum);
  absl::StatusOr<int64_t> TryWaitUntilHas(int64_t wanted);
  // Finds out where to go on, or returns why not to.
  absl::Status Recover(const absl::Status& error);
  absl::Status SendMessage(const grpc::Slice& data, const Checksum* checksum);
  absl::Status ReadAnswer();
  absl::Status TryDiscard();
  absl::Status CheckNotFinished(int64_t end) const;
  bool IsWorthRetry(const absl::Status& error) const;

  const std::shared_ptr<Connection> connection_;
  workspace::v1::WriteArtifactRequest first_;
  bool own_upload_id_ = false;
  Retry retry_;
  std::unique_ptr<WriteStream> stream_;
  int64_t offset_ = 0;
  int64_t known_offset_ = 0;  // As the server said last.
  std::optional<Artifact> finished_;
};

// What ArtifactWriter does: cuts what comes into messages, and holds them for
// as long as they may be lost. Not thread-safe.
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
  // Moves what is buffered to what is held.
  void Seal();
  // Sends what is held, and lets go of what the server has if it is too much.
  absl::Status SendHeld();
  absl::StatusOr<grpc::Slice> Held(int64_t offset) const;
  absl::Status Failed(absl::Status error);

  const std::unique_ptr<WriteSession> session_;
  int64_t end_ = 0;  // Of what is held.
  std::deque<grpc::Slice> held_;
  int64_t held_bytes_ = 0;
  int64_t server_has_ = 0;  // As far as it was asked.
  grpc::Slice buffer_;
  int64_t filled_ = 0;  // Of the buffer.
  bool over_ = false;
};

}  // namespace mlops::internal

#endif  // MLOPS_CLIENT_CPP_SRC_WRITE_SESSION_H_
