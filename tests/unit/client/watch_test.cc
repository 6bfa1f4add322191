// Tests WorkspaceClient::Watch with a server whose streams each test scripts,
// and with the fake.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <stop_token>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "grpcpp/grpcpp.h"
#include "mlops/testing/fake_workspace_service.h"
#include "mlops/workspace/v1/workspace_service.grpc.pb.h"
#include "mlops/workspace_client.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/wire_status.h"

namespace mlops {
namespace {

namespace v1 = workspace::v1;
using absl::StatusCode;
using ::testing::ElementsAre;

std::string Text(const WorkspaceEvent& event) {
  constexpr const char* kNames[] = {"created", "updated", "deleted", "synced"};
  return absl::StrCat(kNames[static_cast<int>(event.change)], " ",
                      event.workspace.project);
}

// One call: what the server sends, and how it ends. Without an end it stays
// open.
struct Call {
  std::vector<v1::WatchWorkspacesResponse> responses;
  std::optional<absl::Status> end;
};

v1::WatchWorkspacesResponse Response(v1::Change change,
                                     const std::string& project,
                                     const std::string& token,
                                     const std::string& etag = "e") {
  v1::WatchWorkspacesResponse response;
  response.set_change(change);
  if (!project.empty()) {
    response.mutable_workspace()->set_project(project);
    response.mutable_workspace()->set_uid("uid-" + project);
    response.mutable_workspace()->set_etag(etag);
  }
  response.set_resume_token(token);
  return response;
}

absl::Status Error(StatusCode code, const std::string& reason) {
  return base::MakeError(code, "scripted", {.reason = reason});
}

class ScriptedWatches final : public v1::WorkspaceService::Service {
 public:
  std::vector<Call> script;
  std::vector<std::string> tokens;
  std::vector<std::string> projects;

  grpc::Status WatchWorkspaces(
      grpc::ServerContext* context, const v1::WatchWorkspacesRequest* request,
      grpc::ServerWriter<v1::WatchWorkspacesResponse>* writer) override {
    tokens.push_back(request->resume_token());
    projects.assign(request->projects().begin(), request->projects().end());
    const Call& call = script[std::min(tokens.size(), script.size()) - 1];
    for (const auto& response : call.responses) writer->Write(response);
    if (call.end.has_value()) return wire::ToGrpc(*call.end);
    while (!context->IsCancelled()) absl::SleepFor(absl::Milliseconds(1));
    return grpc::Status::CANCELLED;
  }
};

class WatchTest : public ::testing::Test {
 protected:
  WatchTest() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                             &port_);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    client_ =
        WorkspaceClient::Connect({.address = absl::StrCat("127.0.0.1:", port_)})
            .value();
  }
  ~WatchTest() override { server_->Shutdown(); }

  // Watches until there are `count` events.
  absl::Status Watch(size_t count, const WatchOptions& options = {}) {
    return client_->Watch(
        [&](const WorkspaceEvent& event) {
          events_.push_back(Text(event));
          return events_.size() < count;
        },
        options);
  }

  ScriptedWatches service_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
  std::optional<WorkspaceClient> client_;
  std::vector<std::string> events_;
};

TEST_F(WatchTest, ReportsEventsUntilTheVisitorHasEnough) {
  service_.script = {{.responses = {Response(v1::CHANGE_CREATED, "a", "1"),
                                    Response(v1::CHANGE_SYNCED, "", "2"),
                                    Response(v1::CHANGE_DELETED, "a", "3")}}};
  EXPECT_TRUE(Watch(3, {.projects = {"a"}}).ok());
  EXPECT_THAT(events_, ElementsAre("created a", "synced ", "deleted a"));
  EXPECT_THAT(service_.projects, ElementsAre("a"));
}

TEST_F(WatchTest, TellsWhetherAWorkspaceUsesMoreThanItsQuota) {
  auto over = Response(v1::CHANGE_UPDATED, "a", "2");
  over.set_over_quota(true);
  service_.script = {
      {.responses = {Response(v1::CHANGE_CREATED, "a", "1"), over,
                     Response(v1::CHANGE_UPDATED, "a", "3")}}};
  std::vector<bool> seen;
  const auto visit = [&](const WorkspaceEvent& event) {
    seen.push_back(event.over_quota);
    return seen.size() < 3;
  };
  EXPECT_TRUE(client_->Watch(visit).ok());
  EXPECT_THAT(seen, ElementsAre(false, true, false));
}

TEST_F(WatchTest, ResumesAfterTheLastEvent) {
  service_.script = {{.responses = {Response(v1::CHANGE_CREATED, "a", "1")},
                      .end = Error(StatusCode::kUnavailable, "SHUTTING_DOWN")},
                     {.end = Error(StatusCode::kUnavailable, "OVERLOADED")},
                     {.responses = {Response(v1::CHANGE_UPDATED, "a", "2")}}};
  EXPECT_EQ(Watch(2, {.resume_token = "0"}), absl::OkStatus());
  EXPECT_THAT(events_, ElementsAre("created a", "updated a"));
  EXPECT_THAT(service_.tokens, ElementsAre("0", "1", "1"));
}

TEST_F(WatchTest, ListsAgainAndReportsTheDifferences) {
  service_.script = {
      {.responses = {Response(v1::CHANGE_CREATED, "gone", "1"),
                     Response(v1::CHANGE_CREATED, "same", "1"),
                     Response(v1::CHANGE_CREATED, "changed", "1")},
       .end = Error(StatusCode::kOutOfRange, "RESUME_TOKEN_EXPIRED")},
      {.responses = {Response(v1::CHANGE_CREATED, "changed", "2", "new"),
                     Response(v1::CHANGE_CREATED, "new", "2"),
                     Response(v1::CHANGE_CREATED, "same", "2"),
                     Response(v1::CHANGE_SYNCED, "", "2")}}};
  EXPECT_EQ(Watch(7), absl::OkStatus());
  EXPECT_THAT(events_, ElementsAre("created gone", "created same",
                                   "created changed", "updated changed",
                                   "created new", "deleted gone", "synced "));
  EXPECT_THAT(service_.tokens, ElementsAre("", ""));
}

TEST_F(WatchTest, AnExpiredTokenOfTheCallerIsAnError) {
  service_.script = {
      {.end = Error(StatusCode::kOutOfRange, "RESUME_TOKEN_EXPIRED")}};
  EXPECT_EQ(ErrorReason(Watch(1, {.resume_token = "old"})),
            "RESUME_TOKEN_EXPIRED");
}

TEST_F(WatchTest, OtherErrorsEndIt) {
  service_.script = {
      {.responses = {Response(v1::CHANGE_SYNCED, "", "1")},
       .end = Error(StatusCode::kPermissionDenied, "PERMISSION_MISSING")}};
  EXPECT_EQ(ErrorReason(Watch(9)), "PERMISSION_MISSING");
  EXPECT_THAT(events_, ElementsAre("synced "));
}

TEST_F(WatchTest, AStopAndATimeoutEndIt) {
  service_.script = {{.responses = {Response(v1::CHANGE_SYNCED, "", "1")}}};
  std::stop_source stop;
  const absl::Status stopped = client_->Watch(
      [&](const WorkspaceEvent&) {
        std::thread([&stop] { stop.request_stop(); }).detach();
        return true;
      },
      {}, {.stop = stop.get_token()});
  EXPECT_EQ(stopped.code(), StatusCode::kCancelled);
  const absl::Status late =
      client_->Watch([](const WorkspaceEvent&) { return true; }, {},
                     {.timeout = absl::Milliseconds(50)});
  EXPECT_EQ(late.code(), StatusCode::kDeadlineExceeded);
}

// --- The fake ----------------------------------------------------------------

TEST(FakeWatch, ReportsWhatExistsAndWhatChanges) {
  mlops::testing::FakeWorkspaceService service;
  const WorkspaceClient client = service.Client();
  ASSERT_TRUE(client.Create("a").ok());
  std::vector<std::string> events;
  std::string token;
  EXPECT_TRUE(client
                  .Watch([&](const WorkspaceEvent& event) {
                    events.push_back(Text(event));
                    token = event.resume_token;
                    if (event.change == WorkspaceChange::kSynced) {
                      EXPECT_TRUE(client.Create("b").ok());
                      EXPECT_TRUE(client.Update("a", {}).ok());
                      EXPECT_TRUE(client.Delete("b", {.force = true}).ok());
                      EXPECT_TRUE(client.Undelete("b").ok());
                    }
                    return events.size() < 6;
                  })
                  .ok());
  EXPECT_THAT(events, ElementsAre("created a", "synced ", "created b",
                                  "updated a", "deleted b", "created b"));
  ASSERT_TRUE(client.Delete("a", {.force = true}).ok());
  events.clear();
  EXPECT_TRUE(client
                  .Watch(
                      [&](const WorkspaceEvent& event) {
                        events.push_back(Text(event));
                        return event.change != WorkspaceChange::kSynced;
                      },
                      {.projects = {"a"}, .resume_token = token})
                  .ok());
  EXPECT_THAT(events, ElementsAre("deleted a", "synced "));
  const auto page = client.List();
  EXPECT_NE(page->resume_token, "");
}

TEST(FakeWatch, EndsAtAStopAndAtAFailure) {
  mlops::testing::FakeWorkspaceService service;
  std::stop_source stop;
  const absl::Status stopped = service.Client().Watch(
      [&](const WorkspaceEvent&) { return stop.request_stop(); }, {},
      {.stop = stop.get_token()});
  EXPECT_EQ(stopped.code(), StatusCode::kCancelled);
  EXPECT_EQ(
      ErrorReason(service.Client().Watch(
          [](const WorkspaceEvent&) { return true; }, {.resume_token = "x"})),
      "TOKEN_INVALID");
}

}  // namespace
}  // namespace mlops
