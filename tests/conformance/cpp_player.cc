// The C++ player of the conformance cases: makes calls through the C++ client's
// connection and prints their results.
//
// Usage: cpp_player ADDRESS. Each line of stdin is a call,
// {"rpc": ..., "request": {...}}; for a method that takes a stream, "request"
// is a list of messages. Each call is answered by one line on stdout,
// {"responses": [...]}, with a google.rpc.Status as "error" if the call failed.
// Messages are protojson, except for "update_mask": {"paths": [...]}, because
// protojson cannot express "*" or unknown names.

#include <functional>
#include <iostream>
#include <map>
#include <string>
#include <utility>

#include "client-cpp/src/connection.h"
#include "google/protobuf/util/json_util.h"
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
  for (const Json& path : mask.value("paths", Json::array()))
    request.mutable_update_mask()->add_paths(path);
}

template <typename Request>
Request Parse(Json json) {
  Request request;
  // JsonStringToMessage would reject the mask, so it is filled in separately.
  if constexpr (std::is_same_v<Request, v1::UpdateWorkspaceRequest>) {
    if (json.contains("update_mask")) SetMask(request, json["update_mask"]);
  }
  json.erase("update_mask");
  Request body;
  const auto status =
      google::protobuf::util::JsonStringToMessage(json.dump(), &body);
  if (!status.ok()) Die(status.ToString());
  request.MergeFrom(body);
  return request;
}

Json ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string text;
  const auto status =
      google::protobuf::util::MessageToJsonString(message, &text, options);
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
Call Unary(absl::StatusOr<Response> (Connection::*method)(const Request&,
                                                          const CallOptions&)) {
  return [method](Connection& connection, const Json& request) {
    const absl::StatusOr<Response> response =
        (connection.*method)(Parse<Request>(request), CallOptions());
    return Answer(
        response.ok() ? Json::array({ToJson(*response)}) : Json::array(),
        response.status());
  };
}

Json StreamStatuses(Connection& connection, const Json& request) {
  Json responses = Json::array();
  const auto keep = [&responses](const v1::WorkspaceStatus& status) {
    // One status per response, which is how the cases count them.
    v1::StreamWorkspaceStatusesResponse response;
    *response.add_statuses() = status;
    responses.push_back(ToJson(response));
    return true;
  };
  const absl::Status status = connection.StreamWorkspaceStatuses(
      Parse<v1::StreamWorkspaceStatusesRequest>(request), CallOptions(), keep);
  return Answer(std::move(responses), status);
}

Json CloneWorkspace(Connection& connection, const Json& request) {
  Json responses = Json::array();
  const auto keep = [&responses](const v1::CloneWorkspaceResponse& response) {
    responses.push_back(ToJson(response));
    return true;
  };
  const auto last = connection.CloneWorkspace(
      Parse<v1::CloneWorkspaceRequest>(request), CallOptions(), keep);
  return Answer(std::move(responses), last.status());
}

Json ReadArtifact(Connection& connection, const Json& request) {
  const auto stream = connection.ReadArtifact(
      Parse<v1::ReadArtifactRequest>(request), CallOptions());
  Json responses = Json::array();
  while (true) {
    v1::ReadArtifactResponse response;
    mlops::wire::Data data;
    const auto more = stream->Read(&response, &data);
    if (!more.ok() || !*more)
      return Answer(std::move(responses), more.status());
    for (const absl::string_view piece : data.pieces)
      response.mutable_data()->append(piece.data(), piece.size());
    responses.push_back(ToJson(response));
  }
}

Json WriteArtifact(Connection& connection, const Json& requests) {
  const auto stream = connection.WriteArtifact(CallOptions());
  for (const Json& request : requests) {
    auto head = Parse<v1::WriteArtifactRequest>(request);
    const grpc::Slice data(head.data());
    head.clear_data();
    // Send the data through the zero-copy path, as the client's uploads do.
    if (!stream->Write(head, data) || head.finish()) break;
  }
  stream->WritesDone();
  Json responses = Json::array();
  while (true) {
    v1::WriteArtifactResponse response;
    const auto more = stream->Read(&response);
    if (!more.ok() || !*more)
      return Answer(std::move(responses), more.status());
    responses.push_back(ToJson(response));
  }
}

Json ExportWorkspace(Connection& connection, const Json& request) {
  Json responses = Json::array();
  const absl::Status end = connection.ExportWorkspace(
      Parse<v1::ExportWorkspaceRequest>(request), CallOptions(),
      [&responses](const v1::ExportWorkspaceResponse& response) {
        responses.push_back(ToJson(response));
        return absl::OkStatus();
      });
  return Answer(std::move(responses), end);
}

Json ImportWorkspace(Connection& connection, const Json& requests) {
  size_t at = 0;
  const auto response = connection.ImportWorkspace(
      CallOptions(),
      [&](v1::ImportWorkspaceRequest* message) -> absl::StatusOr<bool> {
        if (at == requests.size()) return false;
        *message = Parse<v1::ImportWorkspaceRequest>(requests[at++]);
        return true;
      },
      [](int64_t) { return absl::OkStatus(); });
  Json responses = Json::array();
  if (response.ok()) responses.push_back(ToJson(*response));
  return Answer(std::move(responses), response.status());
}

std::map<std::string, Call> Calls() {
  return {
      {"GetArtifact", Unary(&Connection::GetArtifact)},
      {"ListArtifacts", Unary(&Connection::ListArtifacts)},
      {"ReadArtifact", ReadArtifact},
      {"WriteArtifact", WriteArtifact},
      {"GetUpload", Unary(&Connection::GetUpload)},
      {"DeleteArtifact", Unary(&Connection::DeleteArtifact)},
      {"MoveArtifact", Unary(&Connection::MoveArtifact)},
      {"CopyArtifact", Unary(&Connection::CopyArtifact)},
      {"MakeDirectory", Unary(&Connection::MakeDirectory)},
      {"ExportWorkspace", ExportWorkspace},
      {"ImportWorkspace", ImportWorkspace},
      {"CreateWorkspace", Unary(&Connection::CreateWorkspace)},
      {"GetWorkspace", Unary(&Connection::GetWorkspace)},
      {"ListWorkspaces", Unary(&Connection::ListWorkspaces)},
      {"UpdateWorkspace", Unary(&Connection::UpdateWorkspace)},
      {"DeleteWorkspace", Unary(&Connection::DeleteWorkspace)},
      {"EnsureWorkspace", Unary(&Connection::EnsureWorkspace)},
      {"UndeleteWorkspace", Unary(&Connection::UndeleteWorkspace)},
      {"GetWorkspaceStatus", Unary(&Connection::GetWorkspaceStatus)},
      {"StreamWorkspaceStatuses", StreamStatuses},
      {"CloneWorkspace", CloneWorkspace},
      {"ListTemplates", Unary(&Connection::ListTemplates)},
      {"GetServerInfo", Unary(&Connection::GetServerInfo)},
  };
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) Die("usage: cpp_player ADDRESS");
  const auto connection =
      mlops::internal::MakeGrpcConnection(argv[1], mlops::ClientOptions())
          .value();
  const std::map<std::string, Call> calls = Calls();
  for (std::string line; std::getline(std::cin, line);) {
    const Json call = Json::parse(line);
    std::cout << calls.at(call["rpc"])(*connection, call["request"]).dump()
              << std::endl;
  }
}
