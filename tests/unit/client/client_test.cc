// Tests WorkspaceClient with a real gRPC server whose responses each test
// scripts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "grpcpp/grpcpp.h"
#include "mlops/workspace/v1/workspace_service.grpc.pb.h"
#include "mlops/workspace_client.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/wire_status.h"

namespace mlops {
namespace {

namespace v1 = workspace::v1;
using absl::StatusCode;
using testing::ElementsAre;
using testing::Eq;
using testing::HasSubstr;
using testing::Optional;
using testing::Pair;
using testing::UnorderedElementsAre;

// Returns the next status of its script for each call, or OK after the end of
// the script, and records the requests.
class ScriptedService final : public v1::WorkspaceService::Service {
 public:
  std::vector<absl::Status> script;
  std::vector<absl::Time> deadlines;
  v1::Workspace workspace;
  v1::CreateWorkspaceRequest create_request;
  v1::UpdateWorkspaceRequest update_request;
  v1::DeleteWorkspaceRequest delete_request;
  v1::GetWorkspaceStatusRequest status_request;
  std::vector<std::string> page_tokens;
  absl::Notification stream_cancelled;

  grpc::Status Next(const grpc::ServerContext* context) {
    deadlines.push_back(absl::FromChrono(context->deadline()));
    const size_t call = deadlines.size() - 1;
    return wire::ToGrpc(call < script.size() ? script[call] : absl::OkStatus());
  }

  grpc::Status GetWorkspace(grpc::ServerContext* context,
                            const v1::GetWorkspaceRequest*,
                            v1::Workspace* response) override {
    *response = workspace;
    return Next(context);
  }
  grpc::Status CreateWorkspace(grpc::ServerContext* context,
                               const v1::CreateWorkspaceRequest* request,
                               v1::Workspace* response) override {
    create_request = *request;
    *response = workspace;
    return Next(context);
  }
  grpc::Status EnsureWorkspace(grpc::ServerContext* context,
                               const v1::EnsureWorkspaceRequest*,
                               v1::EnsureWorkspaceResponse* response) override {
    *response->mutable_workspace() = workspace;
    response->set_created(true);
    return Next(context);
  }
  grpc::Status UpdateWorkspace(grpc::ServerContext* context,
                               const v1::UpdateWorkspaceRequest* request,
                               v1::Workspace*) override {
    update_request = *request;
    return Next(context);
  }
  grpc::Status DeleteWorkspace(grpc::ServerContext* context,
                               const v1::DeleteWorkspaceRequest* request,
                               v1::DeleteWorkspaceResponse* response) override {
    delete_request = *request;
    response->set_file_count(3);
    response->set_size_bytes(1'000'000'000'000);
    response->set_purged(true);
    return Next(context);
  }
  grpc::Status UndeleteWorkspace(grpc::ServerContext* context,
                                 const v1::UndeleteWorkspaceRequest*,
                                 v1::Workspace*) override {
    return Next(context);
  }
  grpc::Status GetWorkspaceStatus(grpc::ServerContext* context,
                                  const v1::GetWorkspaceStatusRequest* request,
                                  v1::WorkspaceStatus*) override {
    status_request = *request;
    return Next(context);
  }
  grpc::Status GetServerInfo(grpc::ServerContext* context,
                             const v1::GetServerInfoRequest*,
                             v1::ServerInfo* response) override {
    response->set_version("1.2.3");
    response->mutable_purge_delay()->set_seconds(60);
    return Next(context);
  }

  // Returns three pages of two workspaces each: p0 to p5.
  grpc::Status ListWorkspaces(grpc::ServerContext* context,
                              const v1::ListWorkspacesRequest* request,
                              v1::ListWorkspacesResponse* response) override {
    page_tokens.push_back(request->page_token());
    const int first =
        request->page_token().empty() ? 0 : std::stoi(request->page_token());
    for (int i = first; i < first + 2; ++i)
      response->add_workspaces()->set_project(absl::StrCat("p", i));
    if (first < 4) response->set_next_page_token(absl::StrCat(first + 2));
    response->set_total_size(6);
    if (first == 0) response->add_unreachable("broken");
    return Next(context);
  }

  // Streams forever, unless the script has an error.
  grpc::Status StreamWorkspaceStatuses(
      grpc::ServerContext* context, const v1::StreamWorkspaceStatusesRequest*,
      grpc::ServerWriter<v1::StreamWorkspaceStatusesResponse>* writer)
      override {
    v1::StreamWorkspaceStatusesResponse some;
    v1::WorkspaceStatus& status = *some.add_statuses();
    status.mutable_workspace()->set_project("p");
    *status.mutable_error() = wire::ToProto(base::MakeError(
        StatusCode::kDataLoss, "x", {.reason = "WORKSPACE_CORRUPT"}));
    writer->Write(some);
    if (const grpc::Status error = Next(context); !error.ok()) return error;
    while (writer->Write(some)) {
    }
    if (context->IsCancelled()) stream_cancelled.Notify();
    return grpc::Status::CANCELLED;
  }
};

absl::Status Unavailable() {
  return base::MakeError(StatusCode::kUnavailable, "draining",
                         {.reason = "SHUTTING_DOWN"});
}

class ClientTest : public testing::Test {
 protected:
  ~ClientTest() override {
    if (server_) server_->Shutdown(std::chrono::system_clock::now());
    std::filesystem::remove_all(dir_);
  }

  static std::filesystem::path MakeTempDir() {
    std::string name = testing::TempDir() + "client_test_XXXXXX";
    return mkdtemp(name.data());
  }

  void StartServer() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort(address_, grpc::InsecureServerCredentials());
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
  }

  WorkspaceClient StartAndConnect(ClientOptions options = {}) {
    StartServer();
    options.address = address_;
    return *WorkspaceClient::Connect(options);
  }

  size_t calls() const { return service_.deadlines.size(); }

  const std::filesystem::path dir_ = MakeTempDir();
  const std::string address_ = "unix:" + (dir_ / "socket").string();
  ScriptedService service_;
  std::unique_ptr<grpc::Server> server_;
};

TEST_F(ClientTest, GetReturnsWhatTheServerSays) {
  service_.workspace.set_project("fraud");
  service_.workspace.set_uid("u1");
  service_.workspace.set_root_path("/base/fraud");
  service_.workspace.set_mlflow_experiment_id("");
  service_.workspace.set_bentoml_tag_prefix("fraud:");
  (*service_.workspace.mutable_metadata()->mutable_fields())["stage"]
      .set_string_value("dev");
  service_.workspace.mutable_create_time()->set_seconds(1'000'000'000);
  service_.workspace.mutable_create_time()->set_nanos(5);
  service_.workspace.mutable_delete_time()->set_seconds(7);
  service_.workspace.set_etag("e1");
  const auto workspace = StartAndConnect().Get("fraud");
  ASSERT_TRUE(workspace.ok()) << workspace.status();
  EXPECT_EQ(workspace->project, "fraud");
  EXPECT_EQ(workspace->uid, "u1");
  EXPECT_EQ(workspace->root_path, "/base/fraud");
  EXPECT_THAT(workspace->mlflow_experiment_id, Optional(Eq("")));
  EXPECT_EQ(workspace->mlflow_tracking_uri, std::nullopt);
  EXPECT_EQ(workspace->bentoml_tag_prefix, "fraud:");
  EXPECT_EQ(MetadataToJson(workspace->metadata), R"({"stage":"dev"})");
  EXPECT_EQ(workspace->create_time,
            absl::FromUnixNanos(1'000'000'000'000'000'005));
  EXPECT_EQ(workspace->update_time, absl::InfinitePast());
  EXPECT_THAT(workspace->delete_time, Optional(absl::FromUnixSeconds(7)));
  EXPECT_EQ(workspace->purge_time, std::nullopt);
  EXPECT_EQ(workspace->etag, "e1");
}

TEST_F(ClientTest, CreateSendsSettingsAndOptions) {
  const auto metadata = MetadataFromJson(R"({"n": 1})");
  ASSERT_TRUE(metadata.ok());
  ASSERT_TRUE(StartAndConnect()
                  .Create("fraud",
                          {.dvc_remote_path = "/remote", .metadata = *metadata},
                          {.validate_only = true, .request_id = "r1"})
                  .ok());
  const auto& request = service_.create_request;
  EXPECT_EQ(request.project(), "fraud");
  EXPECT_EQ(request.workspace().dvc_remote_path(), "/remote");
  EXPECT_FALSE(request.workspace().has_mlflow_tracking_uri());
  EXPECT_EQ(request.workspace().metadata().fields().at("n").number_value(), 1);
  EXPECT_TRUE(request.validate_only());
  EXPECT_EQ(request.request_id(), "r1");
}

TEST_F(ClientTest, UpdateSendsMaskRemovalsAndEtag) {
  ASSERT_TRUE(StartAndConnect()
                  .Update("fraud", {.bentoml_tag_prefix = "f:"},
                          {.update_mask = {"bentoml_tag_prefix", "metadata"},
                           .remove_metadata = {"old"},
                           .etag = "e1",
                           .allow_missing = true})
                  .ok());
  const auto& request = service_.update_request;
  EXPECT_EQ(request.workspace().project(), "fraud");
  EXPECT_EQ(request.workspace().etag(), "e1");
  EXPECT_THAT(request.update_mask().paths(),
              ElementsAre("bentoml_tag_prefix", "metadata"));
  EXPECT_THAT(request.remove_metadata(), ElementsAre("old"));
  EXPECT_TRUE(request.allow_missing());
  EXPECT_FALSE(request.validate_only());
}

TEST_F(ClientTest, UpdateWithoutMaskSendsNone) {
  ASSERT_TRUE(
      StartAndConnect().Update("fraud", {.bentoml_tag_prefix = "f:"}).ok());
  EXPECT_FALSE(service_.update_request.has_update_mask());
}

TEST_F(ClientTest, DeleteSendsOptionsAndTellsWhatWasFreed) {
  const auto result = StartAndConnect().Delete(
      "fraud", {.force = true, .permanent = true, .uid = "u1"});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(service_.delete_request.force());
  EXPECT_TRUE(service_.delete_request.permanent());
  EXPECT_EQ(service_.delete_request.uid(), "u1");
  EXPECT_EQ(result->workspace, std::nullopt);
  EXPECT_EQ(result->file_count, 3);
  EXPECT_EQ(result->size_bytes, 1'000'000'000'000);
  EXPECT_TRUE(result->purged);
}

TEST_F(ClientTest, GetStatusAsksForAnExactAnswerUnlessToldOtherwise) {
  const auto client = StartAndConnect();
  ASSERT_TRUE(client.GetStatus("fraud").ok());
  EXPECT_EQ(service_.status_request.max_staleness().seconds(), 0);
  EXPECT_EQ(service_.status_request.max_staleness().nanos(), 0);
  ASSERT_TRUE(
      client.GetStatus("fraud", {.max_staleness = absl::Milliseconds(1500)})
          .ok());
  EXPECT_EQ(service_.status_request.max_staleness().seconds(), 1);
  EXPECT_EQ(service_.status_request.max_staleness().nanos(), 500'000'000);
  EXPECT_FALSE(service_.status_request.counts_only());
  ASSERT_TRUE(client.GetStatus("fraud", {.counts_only = true}).ok());
  EXPECT_TRUE(service_.status_request.counts_only());
}

TEST_F(ClientTest, ServerInfoArrives) {
  const auto info = StartAndConnect().GetServerInfo();
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->version, "1.2.3");
  EXPECT_EQ(info->purge_delay, absl::Minutes(1));
}

TEST_F(ClientTest, ErrorsArriveWithReasonAndMetadata) {
  service_.script = {base::MakeError(
      StatusCode::kAlreadyExists, "Workspace already exists: fraud",
      {.reason = "WORKSPACE_EXISTS",
       .metadata = {{"project", "fraud"}, {"uid", "u1"}}})};
  const absl::Status error = StartAndConnect().Create("fraud").status();
  EXPECT_EQ(error.code(), StatusCode::kAlreadyExists);
  EXPECT_EQ(error.message(), "Workspace already exists: fraud");
  EXPECT_EQ(ErrorReason(error), "WORKSPACE_EXISTS");
  EXPECT_THAT(
      ErrorMetadata(error),
      UnorderedElementsAre(Pair("project", "fraud"), Pair("uid", "u1")));
  EXPECT_EQ(ErrorRetryDelay(error), std::nullopt);
}

TEST_F(ClientTest, RetryDelayArrives) {
  service_.script = {base::MakeError(
      StatusCode::kUnavailable, "busy",
      {.reason = "OVERLOADED", .retry_delay = absl::Milliseconds(250)})};
  EXPECT_THAT(ErrorRetryDelay(StartAndConnect().Create("fraud").status()),
              Optional(absl::Milliseconds(250)));
}

TEST_F(ClientTest, TheLargestErrorArrivesWhole) {
  base::ErrorInfo info{.reason = "WORKSPACE_CORRUPT"};
  for (int i = 0; i < 100; ++i)
    info.metadata[absl::StrCat("key", i)] = std::string(1000, 'v');
  std::string message;
  // This character takes three bytes, and nine bytes in gRPC's header.
  for (int i = 0; i < 1000; ++i) message += "€";
  service_.script = {base::MakeError(StatusCode::kDataLoss, message, info)};
  const absl::Status error = StartAndConnect().Get("fraud").status();
  EXPECT_EQ(error.code(), StatusCode::kDataLoss);
  EXPECT_EQ(ErrorReason(error), "WORKSPACE_CORRUPT");
}

TEST_F(ClientTest, RepeatableCallsAreRetriedWhileUnavailable) {
  service_.script = {Unavailable(), Unavailable(), Unavailable()};
  EXPECT_TRUE(StartAndConnect().Get("fraud").ok());
  EXPECT_EQ(calls(), 4u);
}

TEST_F(ClientTest, RetriesEndAfterFourAttempts) {
  service_.script.assign(10, Unavailable());
  EXPECT_EQ(ErrorReason(StartAndConnect().Ensure("fraud").status()),
            "SHUTTING_DOWN");
  EXPECT_EQ(calls(), 4u);
}

TEST_F(ClientTest, UpdateIsRetried) {
  service_.script = {Unavailable()};
  EXPECT_TRUE(StartAndConnect().Update("fraud", {}).ok());
  EXPECT_EQ(calls(), 2u);
}

TEST_F(ClientTest, CallsThatMayNotBeRepeatedAreNot) {
  service_.script.assign(10, Unavailable());
  const auto client = StartAndConnect();
  EXPECT_EQ(ErrorReason(client.Create("fraud").status()), "SHUTTING_DOWN");
  EXPECT_EQ(calls(), 1u);
  EXPECT_EQ(ErrorReason(client.Delete("fraud", {.force = true}).status()),
            "SHUTTING_DOWN");
  EXPECT_EQ(calls(), 2u);
  EXPECT_EQ(ErrorReason(client.Undelete("fraud").status()), "SHUTTING_DOWN");
  EXPECT_EQ(calls(), 3u);
  EXPECT_EQ(
      ErrorReason(client.StreamStatuses([](const auto&) { return true; })),
      "SHUTTING_DOWN");
  EXPECT_EQ(calls(), 4u);
}

TEST_F(ClientTest, OtherErrorsAreNotRetried) {
  service_.script.assign(10, base::MakeError(StatusCode::kAborted, "busy",
                                             {.reason = "WORKSPACE_BUSY"}));
  EXPECT_EQ(ErrorReason(StartAndConnect().Get("fraud").status()),
            "WORKSPACE_BUSY");
  EXPECT_EQ(calls(), 1u);
}

// Matches the deadline, as the server sees it, of a call that started between
// `before` and `after` with a timeout of `seconds`.
MATCHER_P3(IsTimeout, seconds, before, after, "") {
  // gRPC rounds timeouts to three digits.
  const absl::Duration slack = absl::Seconds(seconds) / 50;
  return arg >= before + absl::Seconds(seconds) - slack &&
         arg <= after + absl::Seconds(seconds) + slack;
}

TEST_F(ClientTest, EachKindOfCallHasItsDeadline) {
  const auto client = StartAndConnect();
  const absl::Time before = absl::Now();
  EXPECT_TRUE(client.Get("fraud").ok());
  EXPECT_TRUE(client.Ensure("fraud").ok());
  EXPECT_TRUE(client.Create("fraud").ok());
  EXPECT_TRUE(client.GetStatus("fraud").ok());
  EXPECT_TRUE(client.StreamStatuses([](const auto&) { return false; }).ok());
  service_.stream_cancelled.WaitForNotification();
  const absl::Time after = absl::Now();
  EXPECT_THAT(
      service_.deadlines,
      ElementsAre(IsTimeout(10, before, after), IsTimeout(10, before, after),
                  IsTimeout(30, before, after), IsTimeout(60, before, after),
                  IsTimeout(600, before, after)));
}

TEST_F(ClientTest, TimeoutsCanBeSetForAClientAndForACall) {
  const auto client =
      StartAndConnect({.repeatable_timeout = absl::Seconds(100)});
  const absl::Time before = absl::Now();
  EXPECT_TRUE(client.Get("fraud").ok());
  EXPECT_TRUE(client.Get("fraud", {.timeout = absl::Seconds(1000)}).ok());
  EXPECT_TRUE(client.Get("fraud", {.timeout = absl::InfiniteDuration()}).ok());
  const absl::Time after = absl::Now();
  EXPECT_THAT(
      service_.deadlines,
      ElementsAre(IsTimeout(100, before, after), IsTimeout(1000, before, after),
                  testing::Gt(after + absl::Hours(10'000))));
}

TEST_F(ClientTest, AnOverdueCallSaysWhichServer) {
  const absl::Status error =
      StartAndConnect().Get("fraud", {.timeout = absl::Seconds(-1)}).status();
  EXPECT_EQ(error.code(), StatusCode::kDeadlineExceeded);
  EXPECT_EQ(ErrorReason(error), "");
  EXPECT_THAT(std::string(error.message()), HasSubstr(address_));
}

TEST_F(ClientTest, ConnectsOnlyWhenCalled) {
  const auto client = WorkspaceClient::Connect({.address = address_});
  ASSERT_TRUE(client.ok()) << client.status();
  StartServer();
  EXPECT_TRUE(client->Get("fraud").ok());
}

TEST_F(ClientTest, FindsTheServerAgainAfterARestart) {
  const auto client = StartAndConnect();
  ASSERT_TRUE(client.Get("fraud").ok());
  server_->Shutdown();
  server_.reset();
  EXPECT_EQ(client.Create("fraud").status().code(), StatusCode::kUnavailable);
  StartServer();
  const absl::Time give_up = absl::Now() + absl::Seconds(30);
  while (!client.Get("fraud").ok()) ASSERT_LT(absl::Now(), give_up);
}

TEST_F(ClientTest, NobodyThereIsUnavailableAndSaysWhere) {
  const absl::Status error =
      WorkspaceClient::Connect({.address = address_})->Create("fraud").status();
  EXPECT_EQ(error.code(), StatusCode::kUnavailable);
  EXPECT_EQ(ErrorReason(error), "");
  EXPECT_THAT(std::string(error.message()), HasSubstr(address_));
}

TEST_F(ClientTest, ProxiesAreIgnoredOnThisMachine) {
  setenv("http_proxy", "http://127.0.0.1:1", /*overwrite=*/1);
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                           &port);
  builder.RegisterService(&service_);
  server_ = builder.BuildAndStart();
  const auto client =
      WorkspaceClient::Connect({.address = absl::StrCat("127.0.0.1:", port)});
  EXPECT_EQ(client->Create("fraud").status(), absl::OkStatus());
  unsetenv("http_proxy");
}

TEST_F(ClientTest, ListReturnsOnePage) {
  const auto page = StartAndConnect().List({.page_token = "2"});
  ASSERT_TRUE(page.ok()) << page.status();
  ASSERT_EQ(page->workspaces.size(), 2u);
  EXPECT_EQ(page->workspaces[0].project, "p2");
  EXPECT_EQ(page->next_page_token, "4");
  EXPECT_EQ(page->total_size, 6);
}

TEST_F(ClientTest, ListAllWalksThroughAllPages) {
  std::vector<std::string> seen;
  const auto summary =
      StartAndConnect().ListAll([&seen](const Workspace& workspace) {
        seen.push_back(workspace.project);
        return true;
      });
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_THAT(seen, ElementsAre("p0", "p1", "p2", "p3", "p4", "p5"));
  EXPECT_THAT(service_.page_tokens, ElementsAre("", "2", "4"));
  EXPECT_EQ(summary->total_size, 6);
  EXPECT_THAT(summary->unreachable, ElementsAre("broken"));
}

TEST_F(ClientTest, ListAllReadsNoFurtherThanWanted) {
  int seen = 0;
  EXPECT_TRUE(StartAndConnect()
                  .ListAll([&seen](const Workspace&) { return ++seen < 3; })
                  .ok());
  EXPECT_EQ(seen, 3);
  EXPECT_THAT(service_.page_tokens, ElementsAre("", "2"));
}

TEST_F(ClientTest, ListAllReturnsTheErrorOfALaterPage) {
  service_.script = {absl::OkStatus(),
                     base::MakeError(StatusCode::kInvalidArgument, "",
                                     {.reason = "TOKEN_INVALID"})};
  int seen = 0;
  const auto summary = StartAndConnect().ListAll(
      [&seen](const Workspace&) { return ++seen > 0; });
  EXPECT_EQ(ErrorReason(summary.status()), "TOKEN_INVALID");
  EXPECT_EQ(seen, 2);
}

TEST_F(ClientTest, AStreamEndsWhenNoMoreIsWanted) {
  int seen = 0;
  EXPECT_EQ(StartAndConnect().StreamStatuses(
                [&seen](const WorkspaceStatus&) { return ++seen < 5; }),
            absl::OkStatus());
  EXPECT_EQ(seen, 5);
  EXPECT_TRUE(service_.stream_cancelled.WaitForNotificationWithTimeout(
      absl::Seconds(30)));
}

TEST_F(ClientTest, ABrokenWorkspaceComesAsAStatusWithAnError) {
  absl::Status error;
  EXPECT_TRUE(StartAndConnect()
                  .StreamStatuses([&error](const WorkspaceStatus& status) {
                    error = status.error;
                    return false;
                  })
                  .ok());
  EXPECT_EQ(error.code(), StatusCode::kDataLoss);
  EXPECT_EQ(ErrorReason(error), "WORKSPACE_CORRUPT");
  service_.stream_cancelled.WaitForNotification();
}

TEST(Metadata, JsonComesBack) {
  const auto metadata =
      MetadataFromJson(R"({"list":[1,"a",null],"nested":{"x":2.5}})");
  ASSERT_TRUE(metadata.ok());
  EXPECT_EQ(MetadataToJson(*metadata),
            R"({"list":[1,"a",null],"nested":{"x":2.5}})");
}

TEST(Metadata, WhatIsNoObjectIsRefused) {
  for (const char* json : {"", "[1]", "3", "{", "{\"a\": NaN}"}) {
    const absl::Status error = MetadataFromJson(json).status();
    EXPECT_EQ(ErrorReason(error), "FIELD_INVALID") << json;
    EXPECT_EQ(ErrorMetadata(error)["field"], "metadata");
  }
}

TEST(ErrorHelpers, FindNothingInOtherStatuses) {
  for (const absl::Status& status :
       {absl::OkStatus(), absl::UnavailableError("nobody there")}) {
    EXPECT_EQ(ErrorReason(status), "");
    EXPECT_TRUE(ErrorMetadata(status).empty());
    EXPECT_EQ(ErrorRetryDelay(status), std::nullopt);
  }
}

}  // namespace
}  // namespace mlops
