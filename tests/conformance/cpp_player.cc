// The C++ player of the conformance cases: does calls through the C++ client's connection, or for those that it does
// not have yet through the generated stub, and says what came back.
//
// Usage: cpp_player ADDRESS. Each line of stdin is a call, {"rpc": ..., "request": {...}}, with a list of requests
// where the method takes a stream; each is answered by a line,
// {"responses": [...]} with, if the call failed, "error": a google.rpc.Status. Messages are protojson, but for
// "update_mask": {"paths": [...]}, because protojson cannot say "*" or a name it does not know.

#include <functional>
#include <iostream>
#include <map>
#include <string>
#include <utility>

#include "client-cpp/src/connection.h"
#include "google/protobuf/util/json_util.h"
#include "grpcpp/create_channel.h"
#include "mlops/workspace/v1/workspace_service.grpc.pb.h"
#include "mlops/workspace_client.h"
#include "nlohmann/json.hpp"
#include "proto/cpp/wire_status.h"

namespace {

using Json = nlohmann::json;
using mlops::CallOptions;
using mlops::internal::Connection;
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

Json Answer(Json responses, const absl::Status& status) {
  Json answer = {{"responses", std::move(responses)}};
  if (!status.ok()) answer["error"] = ToJson(mlops::wire::ToProto(status));
  return answer;
}

using Call = std::function<Json(Connection&, const Json&)>;

template <typename Request, typename Response>
Call Unary(absl::StatusOr<Response> (Connection::*method)(const Request&, const CallOptions&)) {
  return [method](Connection& connection, const Json& request) {
    const absl::StatusOr<Response> response = (connection.*method)(Parse<Request>(request), CallOptions());
    return Answer(response.ok() ? Json::array({ToJson(*response)}) : Json::array(), response.status());
  };
}

Json StreamStatuses(Connection& connection, const Json& request) {
  Json responses = Json::array();
  const auto keep = [&responses](const v1::WorkspaceStatus& status) {
    responses.push_back(ToJson(status));
    return true;
  };
  const absl::Status status =
      connection.StreamWorkspaceStatuses(Parse<v1::StreamWorkspaceStatusesRequest>(request), CallOptions(), keep);
  return Answer(std::move(responses), status);
}

// --- By the generated stub ------------------------------------------------------------------------------------------

using Stub = v1::WorkspaceService::Stub;

template <typename Request, typename Response>
Call Unary(Stub* stub, grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*)) {
  return [stub, method](Connection&, const Json& request) {
    grpc::ClientContext context;
    Response response;
    const absl::Status status = mlops::wire::FromGrpc((stub->*method)(&context, Parse<Request>(request), &response));
    return Answer(status.ok() ? Json::array({ToJson(response)}) : Json::array(), status);
  };
}

Json ReadArtifact(Stub* stub, const Json& request) {
  grpc::ClientContext context;
  const auto reader = stub->ReadArtifact(&context, Parse<v1::ReadArtifactRequest>(request));
  Json responses = Json::array();
  for (v1::ReadArtifactResponse response; reader->Read(&response);) responses.push_back(ToJson(response));
  return Answer(std::move(responses), mlops::wire::FromGrpc(reader->Finish()));
}

Json WriteArtifact(Stub* stub, const Json& requests) {
  grpc::ClientContext context;
  v1::WriteArtifactResponse response;
  const auto writer = stub->WriteArtifact(&context, &response);
  for (const Json& request : requests) {
    if (!writer->Write(Parse<v1::WriteArtifactRequest>(request))) break;
  }
  writer->WritesDone();
  const absl::Status status = mlops::wire::FromGrpc(writer->Finish());
  return Answer(status.ok() ? Json::array({ToJson(response)}) : Json::array(), status);
}

std::map<std::string, Call> Calls(Stub* stub) {
  return {
      {"GetArtifact", Unary(stub, &Stub::GetArtifact)},
      {"ListArtifacts", Unary(stub, &Stub::ListArtifacts)},
      {"ReadArtifact", [stub](Connection&, const Json& request) { return ReadArtifact(stub, request); }},
      {"WriteArtifact", [stub](Connection&, const Json& requests) { return WriteArtifact(stub, requests); }},
      {"GetUpload", Unary(stub, &Stub::GetUpload)},
      {"DeleteArtifact", Unary(stub, &Stub::DeleteArtifact)},
      {"MoveArtifact", Unary(stub, &Stub::MoveArtifact)},
      {"CopyArtifact", Unary(stub, &Stub::CopyArtifact)},
      {"MakeDirectory", Unary(stub, &Stub::MakeDirectory)},
      {"CreateWorkspace", Unary(&Connection::CreateWorkspace)},
      {"GetWorkspace", Unary(&Connection::GetWorkspace)},
      {"ListWorkspaces", Unary(&Connection::ListWorkspaces)},
      {"UpdateWorkspace", Unary(&Connection::UpdateWorkspace)},
      {"DeleteWorkspace", Unary(&Connection::DeleteWorkspace)},
      {"EnsureWorkspace", Unary(&Connection::EnsureWorkspace)},
      {"UndeleteWorkspace", Unary(&Connection::UndeleteWorkspace)},
      {"GetWorkspaceStatus", Unary(&Connection::GetWorkspaceStatus)},
      {"StreamWorkspaceStatuses", StreamStatuses},
      {"GetServerInfo", Unary(&Connection::GetServerInfo)},
  };
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) Die("usage: cpp_player ADDRESS");
  const auto connection = mlops::internal::MakeGrpcConnection(argv[1], mlops::ClientOptions());
  const auto stub = v1::WorkspaceService::NewStub(grpc::CreateChannel(argv[1], grpc::InsecureChannelCredentials()));
  const std::map<std::string, Call> calls = Calls(stub.get());
  for (std::string line; std::getline(std::cin, line);) {
    const Json call = Json::parse(line);
    std::cout << calls.at(call["rpc"])(*connection, call["request"]).dump() << std::endl;
  }
}
