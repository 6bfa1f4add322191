// The yardstick for workspaced: a server of the same service, with the same settings of gRPC, whose handlers do nothing
// but copy a reply that was made before.
//
// Usage: empty_server ADDRESS MODEL_ADDRESS PROJECT. Listens on ADDRESS. Its reply to everything is what the server at
// MODEL_ADDRESS says about PROJECT. Prints a line when it listens, and ends when its standard input does.
#include <iostream>
#include <string>

#include "grpcpp/create_channel.h"
#include "grpcpp/server.h"
#include "mlops/workspace/v1/workspace_service.grpc.pb.h"
#include "service/server/grpc_settings.h"

namespace {

namespace pb = mlops::workspace::v1;

class EmptyService final : public pb::WorkspaceService::CallbackService {
 public:
  explicit EmptyService(const pb::Workspace& reply) : reply_(reply) {}

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
};

pb::Workspace FetchReply(const std::string& address, const std::string& project) {
  const auto stub = pb::WorkspaceService::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  pb::GetWorkspaceRequest request;
  request.set_project(project);
  pb::Workspace reply;
  const grpc::Status status = stub->GetWorkspace(&context, request, &reply);
  if (status.ok()) return reply;
  std::cerr << "empty_server: no reply from " << address << ": " << status.error_message() << "\n";
  std::exit(1);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: empty_server ADDRESS MODEL_ADDRESS PROJECT\n";
    return 2;
  }
  EmptyService service(FetchReply(argv[2], argv[3]));
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
