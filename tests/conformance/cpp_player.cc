// The C++ player of the conformance cases: does calls through the C++ client's connection and says what came back.
//
// Usage: cpp_player ADDRESS. Each line of stdin is a call, {"rpc": ..., "request": {...}}; each is answered by a line,
// {"responses": [...]} with, if the call failed, "error": a google.rpc.Status. Messages are protojson, but for
// "update_mask": {"paths": [...]}, because protojson cannot say "*" or a name it does not know.

#include <functional>
#include <iostream>
#include <map>
#include <string>
#include <utility>

#include "google/protobuf/util/json_util.h"
#include "grpcpp/grpcpp.h"
#include "mlops/workspace/v1/workspace_service.grpc.pb.h"
#include "nlohmann/json.hpp"
#include "proto/cpp/wire_status.h"

namespace {

using Json = nlohmann::json;
using Stub = mlops::workspace::v1::WorkspaceService::Stub;
namespace v1 = mlops::workspace::v1;

[[noreturn]] void Die(const std::string& problem) {
  std::cerr << "cpp_player: " << problem << "\n";
  std::exit(1);
}

void SetMask(v1::UpdateWorkspaceRequest& request, const Json& mask) {
  request.mutable_update_mask();
  for (const Json& path : mask.value("paths", Json::array())) request.mutable_update_mask()->add_paths(path);
}

template <typename Request>
Request Parse(Json json) {
  Request request;
  if constexpr (std::is_same_v<Request, v1::UpdateWorkspaceRequest>) {
    if (json.contains("update_mask")) SetMask(request, json["update_mask"]);
  }
  json.erase("update_mask");
  Request body;
  const auto status = google::protobuf::util::JsonStringToMessage(json.dump(), &body);
  if (!status.ok()) Die(status.ToString());
  request.MergeFrom(body);
  return request;
}

Json ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string text;
  const auto status = google::protobuf::util::MessageToJsonString(message, &text, options);
  if (!status.ok()) Die(status.ToString());
  return Json::parse(text);
}

Json Answer(Json responses, const grpc::Status& status) {
  Json answer = {{"responses", std::move(responses)}};
  if (!status.ok()) answer["error"] = ToJson(mlops::wire::ToProto(mlops::wire::FromGrpc(status)));
  return answer;
}

using Call = std::function<Json(Stub&, const Json&)>;

template <typename Request, typename Response>
Call Unary(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*)) {
  return [method](Stub& stub, const Json& request) {
    grpc::ClientContext context;
    Response response;
    const grpc::Status status = (stub.*method)(&context, Parse<Request>(request), &response);
    return Answer(status.ok() ? Json::array({ToJson(response)}) : Json::array(), status);
  };
}

Json StreamStatuses(Stub& stub, const Json& request) {
  grpc::ClientContext context;
  auto reader = stub.StreamWorkspaceStatuses(&context, Parse<v1::StreamWorkspaceStatusesRequest>(request));
  Json responses = Json::array();
  for (v1::WorkspaceStatus status; reader->Read(&status);) responses.push_back(ToJson(status));
  return Answer(std::move(responses), reader->Finish());
}

std::map<std::string, Call> Calls() {
  return {
      {"CreateWorkspace", Unary(&Stub::CreateWorkspace)},
      {"GetWorkspace", Unary(&Stub::GetWorkspace)},
      {"ListWorkspaces", Unary(&Stub::ListWorkspaces)},
      {"UpdateWorkspace", Unary(&Stub::UpdateWorkspace)},
      {"DeleteWorkspace", Unary(&Stub::DeleteWorkspace)},
      {"EnsureWorkspace", Unary(&Stub::EnsureWorkspace)},
      {"UndeleteWorkspace", Unary(&Stub::UndeleteWorkspace)},
      {"GetWorkspaceStatus", Unary(&Stub::GetWorkspaceStatus)},
      {"StreamWorkspaceStatuses", StreamStatuses},
      {"GetServerInfo", Unary(&Stub::GetServerInfo)},
  };
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) Die("usage: cpp_player ADDRESS");
  auto channel = grpc::CreateChannel(argv[1], grpc::InsecureChannelCredentials());
  Stub stub(channel);
  const std::map<std::string, Call> calls = Calls();
  for (std::string line; std::getline(std::cin, line);) {
    const Json call = Json::parse(line);
    std::cout << calls.at(call["rpc"])(stub, call["request"]).dump() << std::endl;
  }
}
