// The yardstick for workspaced: a server of the same service, with the same settings of gRPC, whose handlers do nothing
// but copy a reply that was made before.
//
// Usage: empty_server ADDRESS MODEL_ADDRESS PROJECT. Listens on ADDRESS. Its reply to everything is what the server at
// MODEL_ADDRESS says about PROJECT; to List the bytes of that server's first page of 1,000, as they came. Prints a line
// when it listens, and ends when its standard input does.
#include <iostream>
#include <string>

#include "grpcpp/create_channel.h"
#include "grpcpp/server.h"
#include "grpcpp/support/byte_buffer.h"
#include "mlops/workspace/v1/workspace_service.grpc.pb.h"
#include "service/server/grpc_settings.h"

namespace {

namespace pb = mlops::workspace::v1;

using RawList = pb::WorkspaceService::WithRawCallbackMethod_ListWorkspaces<pb::WorkspaceService::CallbackService>;

class EmptyService final : public RawList {
 public:
  EmptyService(const pb::Workspace& reply, const std::string& page) : reply_(reply) {
    const grpc::Slice slice(page);
    page_ = grpc::ByteBuffer(&slice, 1);
  }

  grpc::ServerUnaryReactor* ListWorkspaces(grpc::CallbackServerContext* context, const grpc::ByteBuffer*,
                                           grpc::ByteBuffer* response) override {
    *response = page_;
    return Finished(context);
  }

  grpc::ServerUnaryReactor* GetWorkspace(grpc::CallbackServerContext* context, const pb::GetWorkspaceRequest*,
                                         pb::Workspace* response) override {
    *response = reply_;
    return Finished(context);
  }

  grpc::ServerUnaryReactor* EnsureWorkspace(grpc::CallbackServerContext* context, const pb::EnsureWorkspaceRequest*,
                                            pb::EnsureWorkspaceResponse* response) override {
    *response->mutable_workspace() = reply_;
    return Finished(context);
  }

 private:
  static grpc::ServerUnaryReactor* Finished(grpc::CallbackServerContext* context) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

  const pb::Workspace reply_;
  grpc::ByteBuffer page_;
};

void DieUnless(const grpc::Status& status) {
  if (status.ok()) return;
  std::cerr << "empty_server: no reply to copy: " << status.error_message() << "\n";
  std::exit(1);
}

pb::Workspace FetchReply(pb::WorkspaceService::Stub& stub, const std::string& project) {
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

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: empty_server ADDRESS MODEL_ADDRESS PROJECT\n";
    return 2;
  }
  const auto model = pb::WorkspaceService::NewStub(grpc::CreateChannel(argv[2], grpc::InsecureChannelCredentials()));
  EmptyService service(FetchReply(*model, argv[3]), FetchPage(*model));
  grpc::ServerBuilder builder;
  mlops::server::ApplyGrpcSettings(builder);
  builder.AddListeningPort(argv[1], grpc::InsecureServerCredentials());
  builder.RegisterService(&service);
  const auto server = builder.BuildAndStart();
  if (server == nullptr) return 1;
  std::cout << "listening on " << argv[1] << std::endl;
  while (std::cin.get() != EOF) {
  }
  server->Shutdown();
  return 0;
}
