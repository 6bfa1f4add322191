#include "client-cpp/src/grpc_call.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "grpcpp/impl/codegen/proto_utils.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/sync_stream.h"
#include "proto/cpp/wire_status.h"

namespace mlops::internal {
namespace {

namespace v1 = workspace::v1;
using grpc::ByteBuffer;
using grpc::internal::RpcMethod;

class GrpcReadStream final : public ReadStream {
 public:
  GrpcReadStream(std::unique_ptr<ClientCall> call,
                 std::unique_ptr<grpc::ClientReader<ByteBuffer>> reader)
      : call_(std::move(call)), reader_(std::move(reader)) {}

  ~GrpcReadStream() override {
    if (ended_) return;
    // gRPC requires Finish() before the reader is destroyed; cancelling keeps
    // it short.
    call_->context().TryCancel();
    (void)reader_->Finish();
  }

  absl::StatusOr<bool> Read(v1::ReadArtifactResponse* head,
                            wire::Data* data) override {
    if (ByteBuffer bytes; reader_->Read(&bytes)) {
      if (wire::Decode(bytes, v1::ReadArtifactResponse::kDataFieldNumber, head,
                       data))
        return true;
      return absl::InternalError(
          "The server sent a malformed ReadArtifactResponse");
    }
    ended_ = true;
    const absl::Status end = call_->ToAbsl(reader_->Finish());
    if (!end.ok()) return end;
    return false;
  }

 private:
  const std::unique_ptr<ClientCall> call_;
  const std::unique_ptr<grpc::ClientReader<ByteBuffer>> reader_;
  bool ended_ = false;
};

class GrpcWriteStream final : public WriteStream {
 public:
  // `channel` and `method` must outlive this.
  GrpcWriteStream(grpc::ChannelInterface* channel, const RpcMethod* method,
                  std::unique_ptr<ClientCall> call)
      : channel_(channel), method_(method), call_(std::move(call)) {}

  ~GrpcWriteStream() override {
    if (stream_ == nullptr || ended_) return;
    call_->context().TryCancel();
    (void)stream_->Finish();
  }

  bool Write(const v1::WriteArtifactRequest& head,
             const grpc::Slice& data) override {
    if (stream_ == nullptr) {
      // Send the initial metadata together with the first message.
      call_->context().set_initial_metadata_corked(true);
      Begin();
    }
    grpc::WriteOptions options;
    if (head.finish()) options.set_last_message();
    no_more_ = head.finish();
    return stream_->Write(
        wire::Encode(head, v1::WriteArtifactRequest::kDataFieldNumber, data),
        options);
  }

  void WritesDone() override {
    if (stream_ == nullptr) Begin();
    if (!std::exchange(no_more_, true)) stream_->WritesDone();
  }

  absl::StatusOr<bool> Read(v1::WriteArtifactResponse* response) override {
    if (ByteBuffer bytes; !last_was_read_ && stream_->Read(&bytes)) {
      const grpc::Status decoded =
          grpc::SerializationTraits<v1::WriteArtifactResponse>::Deserialize(
              &bytes, response);
      if (!decoded.ok())
        return absl::InternalError(
            "The server sent what is no WriteArtifactResponse");
      // Only the status follows the artifact, so do not wait for another
      // message.
      last_was_read_ = response->has_artifact();
      return true;
    }
    ended_ = true;
    const absl::Status end = call_->ToAbsl(stream_->Finish());
    if (!end.ok()) return end;
    return false;
  }

 private:
  using BidiStream = grpc::ClientReaderWriter<ByteBuffer, ByteBuffer>;

  void Begin() {
    stream_.reset(grpc::internal::ClientReaderWriterFactory<
                  ByteBuffer, ByteBuffer>::Create(channel_, *method_,
                                                  &call_->context()));
  }

  grpc::ChannelInterface* const channel_;
  const RpcMethod* const method_;
  const std::unique_ptr<ClientCall> call_;
  // Null before the first message.
  std::unique_ptr<BidiStream> stream_;
  bool no_more_ = false;
  bool last_was_read_ = false;
  bool ended_ = false;
};

// Returns the text between the server's address and gRPC's message. UNAVAILABLE
// without a reason comes from gRPC: the connection failed.
absl::string_view Hint(const absl::Status& error) {
  if (!absl::IsUnavailable(error)) return ": ";
  if (absl::StrContains(error.message(), "handshake failed"))
    return " failed the TLS handshake; do ca_file and the scheme fit it? ";
  return " does not answer; is it running? ";
}

}  // namespace

absl::Status ClientCall::ToAbsl(const grpc::Status& status) const {
  const absl::Status error = wire::FromGrpc(status);
  if (error.ok() || !ErrorReason(error).empty()) return error;
  // A stop appears as CANCELLED, like a cancellation by the server.
  if (absl::IsCancelled(error) && stop_.stop_requested())
    return absl::CancelledError("The call was stopped");
  return absl::Status(error.code(), absl::StrCat("The server at ", address_,
                                                 Hint(error), error.message()));
}

GrpcStreams::GrpcStreams(std::shared_ptr<grpc::Channel> channel)
    : channel_(std::move(channel)),
      read_method_("/mlops.workspace.v1.WorkspaceService/ReadArtifact",
                   RpcMethod::SERVER_STREAMING, channel_),
      write_method_("/mlops.workspace.v1.WorkspaceService/WriteArtifact",
                    RpcMethod::BIDI_STREAMING, channel_) {}

std::unique_ptr<ReadStream> GrpcStreams::Read(
    std::unique_ptr<ClientCall> call,
    const v1::ReadArtifactRequest& request) const {
  std::unique_ptr<grpc::ClientReader<ByteBuffer>> reader(
      grpc::internal::ClientReaderFactory<ByteBuffer>::Create(
          channel_.get(), read_method_, &call->context(), request));
  return std::make_unique<GrpcReadStream>(std::move(call), std::move(reader));
}

std::unique_ptr<WriteStream> GrpcStreams::Write(
    std::unique_ptr<ClientCall> call) const {
  return std::make_unique<GrpcWriteStream>(channel_.get(), &write_method_,
                                           std::move(call));
}

}  // namespace mlops::internal
