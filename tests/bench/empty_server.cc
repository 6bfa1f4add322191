// The baseline for workspaced: a server of the same service with the same gRPC
// settings, whose handlers only copy a prepared response.
//
// Usage: empty_server ADDRESS[,ADDRESS] MODEL_ADDRESS PROJECT [CERT KEY]
//
// With the PEM files CERT and KEY, the server uses TLS.
//
// Fetches PROJECT from the server at MODEL_ADDRESS and returns it in every
// response. List returns the bytes of that server's first page of 1,000
// workspaces. Artifacts have any size: a read of `outputs/SIZE.bin`, or of a
// file below `outputs/parallel/SIZE/`, which has a 64th of SIZE, sends the same
// 1 MiB repeatedly; writes are received and discarded. Prints a line once it
// listens on ADDRESS, and exits at the end of its standard input.
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/impl/codegen/proto_utils.h"
#include "grpcpp/server.h"
#include "grpcpp/support/byte_buffer.h"
#include "mlops/workspace/v1/workspace_service.grpc.pb.h"
#include "service/rpc/receive_quota.h"
#include "service/server/grpc_settings.h"

namespace {

namespace pb = mlops::workspace::v1;

// A stream of messages in both directions cannot be overridden by one of bytes,
// so only the methods that are answered have callbacks.
// clang-format off
using RawService =
    pb::WorkspaceService::WithRawCallbackMethod_ListWorkspaces<
    pb::WorkspaceService::WithRawCallbackMethod_ReadArtifact<
    pb::WorkspaceService::WithRawCallbackMethod_WriteArtifact<
    pb::WorkspaceService::WithCallbackMethod_GetWorkspace<
    pb::WorkspaceService::WithCallbackMethod_EnsureWorkspace<
    pb::WorkspaceService::WithCallbackMethod_GetArtifact<
        pb::WorkspaceService::Service>>>>>>;
// clang-format on

constexpr int64_t kChunkBytes = 1 << 20;
constexpr int64_t kAcknowledgeBytes = 4 << 20;
constexpr int64_t kParallelFiles = 64;

grpc::ByteBuffer Encode(const google::protobuf::MessageLite& message) {
  const grpc::Slice slice(message.SerializeAsString());
  return grpc::ByteBuffer(&slice, 1);
}

// Returns the size that the name of an artifact encodes.
int64_t SizeOf(const std::string& path) {
  int64_t size = 0;
  const std::vector<std::string> names =
      absl::StrSplit(path, absl::ByAnyChar("/."));
  const bool parallel = names.size() > 2 && names[1] == "parallel";
  if (names.size() > 2) (void)absl::SimpleAtoi(names[parallel ? 2 : 1], &size);
  return parallel ? size / kParallelFiles : size;
}

// Sends an artifact's description, and then the same bytes repeatedly.
class EmptyReader final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  EmptyReader(const grpc::ByteBuffer& chunk,
              const pb::ReadArtifactRequest& request)
      : chunk_(chunk), left_(SizeOf(request.path())) {
    pb::ReadArtifactResponse first;
    first.mutable_artifact()->set_path(request.path());
    first.mutable_artifact()->set_size_bytes(left_);
    first_ = Encode(first);
    StartWrite(&first_);
  }
  void OnWriteDone(bool ok) override {
    if (!ok || left_ == 0) return Finish(grpc::Status::OK);
    left_ -= kChunkBytes;
    StartWrite(&chunk_);
  }
  void OnDone() override { delete this; }

 private:
  grpc::ByteBuffer chunk_;
  grpc::ByteBuffer first_;
  int64_t left_;
};

// Receives messages and acknowledges them as often as workspaced does, by the
// size of whole messages.
class EmptyWriter final
    : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  EmptyWriter() { StartRead(&message_); }
  void OnReadDone(bool ok) override {
    pb::WriteArtifactResponse response;
    if (!ok) {
      response.mutable_artifact();
      response_ = Encode(response);
      return StartWriteAndFinish(&response_, {}, grpc::Status::OK);
    }
    received_ += static_cast<int64_t>(message_.Length());
    if (received_ - acknowledged_ <= kAcknowledgeBytes)
      return StartRead(&message_);
    response.set_offset(acknowledged_ = received_);
    response_ = Encode(response);
    StartWrite(&response_);
  }
  void OnWriteDone(bool /*ok*/) override { StartRead(&message_); }
  void OnDone() override { delete this; }

 private:
  int64_t received_ = 0;
  int64_t acknowledged_ = 0;
  grpc::ByteBuffer message_;
  grpc::ByteBuffer response_;
};

class EmptyService final : public RawService {
 public:
  EmptyService(const pb::Workspace& reply, const std::string& page)
      : reply_(reply) {
    const grpc::Slice slice(page);
    page_ = grpc::ByteBuffer(&slice, 1);
    pb::ReadArtifactResponse chunk;
    chunk.set_data(std::string(kChunkBytes, 'x'));
    chunk_ = Encode(chunk);
  }

  grpc::ServerUnaryReactor* ListWorkspaces(
      grpc::CallbackServerContext* context, const grpc::ByteBuffer*,
      grpc::ByteBuffer* response) override {
    *response = page_;
    return Finished(context);
  }

  grpc::ServerUnaryReactor* GetWorkspace(grpc::CallbackServerContext* context,
                                         const pb::GetWorkspaceRequest*,
                                         pb::Workspace* response) override {
    *response = reply_;
    return Finished(context);
  }

  grpc::ServerUnaryReactor* EnsureWorkspace(
      grpc::CallbackServerContext* context, const pb::EnsureWorkspaceRequest*,
      pb::EnsureWorkspaceResponse* response) override {
    *response->mutable_workspace() = reply_;
    return Finished(context);
  }

  grpc::ServerWriteReactor<grpc::ByteBuffer>* ReadArtifact(
      grpc::CallbackServerContext*, const grpc::ByteBuffer* request) override {
    pb::ReadArtifactRequest parsed;
    grpc::ByteBuffer bytes = *request;
    (void)grpc::SerializationTraits<pb::ReadArtifactRequest>::Deserialize(
        &bytes, &parsed);
    return new EmptyReader(chunk_, parsed);
  }

  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* WriteArtifact(
      grpc::CallbackServerContext*) override {
    return new EmptyWriter;
  }

  grpc::ServerUnaryReactor* GetArtifact(grpc::CallbackServerContext* context,
                                        const pb::GetArtifactRequest*,
                                        pb::Artifact*) override {
    return Finished(context);
  }

 private:
  static grpc::ServerUnaryReactor* Finished(
      grpc::CallbackServerContext* context) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

  const pb::Workspace reply_;
  grpc::ByteBuffer page_;
  grpc::ByteBuffer chunk_;
};

void DieUnless(const grpc::Status& status) {
  if (status.ok()) return;
  std::cerr << "empty_server: cannot fetch the responses to copy: "
            << status.error_message() << "\n";
  std::exit(1);
}

pb::Workspace FetchReply(pb::WorkspaceService::Stub& stub,
                         const std::string& project) {
  grpc::ClientContext context;
  pb::GetWorkspaceRequest request;
  request.set_project(project);
  pb::Workspace reply;
  DieUnless(stub.GetWorkspace(&context, request, &reply));
  return reply;
}

std::string FetchPage(pb::WorkspaceService::Stub& stub) {
  grpc::ClientContext context;
  pb::ListWorkspacesRequest request;
  request.set_page_size(1'000);
  pb::ListWorkspacesResponse page;
  DieUnless(stub.ListWorkspaces(&context, request, &page));
  return page.SerializeAsString();
}

std::string ReadAll(const char* path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::shared_ptr<grpc::ServerCredentials> TlsCredentials(const char* cert,
                                                        const char* key) {
  grpc::SslServerCredentialsOptions options;
  options.pem_key_cert_pairs.push_back({ReadAll(key), ReadAll(cert)});
  return grpc::SslServerCredentials(options);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4 && argc != 6) {
    std::cerr
        << "usage: empty_server ADDRESS MODEL_ADDRESS PROJECT [CERT KEY]\n";
    return 2;
  }
  const auto model = pb::WorkspaceService::NewStub(
      grpc::CreateChannel(argv[2], grpc::InsecureChannelCredentials()));
  EmptyService service(FetchReply(*model, argv[3]), FetchPage(*model));
  grpc::ServerBuilder builder;
  const mlops::rpc::ReceiveQuota quota;
  mlops::server::ApplyGrpcSettings(builder, quota.quota());
  const auto credentials = argc == 6 ? TlsCredentials(argv[4], argv[5])
                                     : grpc::InsecureServerCredentials();
  for (const absl::string_view address : absl::StrSplit(argv[1], ','))
    builder.AddListeningPort(std::string(address), credentials);
  builder.RegisterService(&service);
  const auto server = builder.BuildAndStart();
  if (server == nullptr) return 1;
  std::cout << "listening on " << argv[1] << std::endl;
  while (std::cin.get() != EOF) {
  }
  server->Shutdown();
  return 0;
}
