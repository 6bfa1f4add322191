#ifndef MLOPS_SERVICE_RPC_RECEIVE_STREAM_H_
#define MLOPS_SERVICE_RPC_RECEIVE_STREAM_H_

#include <cstdint>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "service/rpc/stream.h"

namespace mlops::rpc {

// A call that receives data and ends with one response. It receives the next
// message while it handles one, so a fast writer occupies the memory of two.
//
// Acknowledgements never delay the work: at most one is being written, and a
// newer one replaces one that still waits.
class ReceiveStream
    : public Stream<
          grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>> {
 public:
  void OnReadDone(bool ok) final;

 protected:
  using Stream::Stream;

  // Handles one message, or the end of the client's messages. Returns the
  // status that ends the call, if it ends now; before returning OK, it must
  // call SetLast(). Sets `more` if the same message needs another task.
  virtual std::optional<absl::Status> Handle(bool* more) = 0;
  // Returns whether the call holds what Drop() releases. Neither function runs
  // concurrently with Handle().
  virtual bool Holds() const = 0;
  // Releases resources that must be free when the client sees the end of the
  // call.
  virtual void Drop() = 0;

  // Returns the received message, or nullopt at the end of the messages.
  std::optional<grpc::ByteBuffer> TakeReceived() ABSL_LOCKS_EXCLUDED(mutex_);
  // Lets the next read start while the message that was taken is handled.
  // Not called for the last message, which saves a read.
  void ReadNext() ABSL_LOCKS_EXCLUDED(mutex_);
  // Schedules `response` to be written, unless a newer one replaces it.
  void Acknowledge(grpc::ByteBuffer response) ABSL_LOCKS_EXCLUDED(mutex_);
  // Sets the response that ends the call.
  void SetLast(grpc::ByteBuffer response) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  Step Next() final ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool MustRelease() final ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Work() final ABSL_LOCKS_EXCLUDED(mutex_);

  // The result of Holds() after the last task.
  bool holds_ ABSL_GUARDED_BY(mutex_) = false;
  // A message that waits for a worker.
  std::optional<grpc::ByteBuffer> received_ ABSL_GUARDED_BY(mutex_);
  // Whether the next read waits for ReadNext(), or for the end of Handle().
  bool holds_read_ ABSL_GUARDED_BY(mutex_) = false;
  // Whether the client's stream has ended or is broken.
  bool no_more_ ABSL_GUARDED_BY(mutex_) = false;
  // An acknowledgement that waits until the previous one is written.
  std::optional<grpc::ByteBuffer> next_ ABSL_GUARDED_BY(mutex_);
  std::optional<grpc::ByteBuffer> last_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_RECEIVE_STREAM_H_
