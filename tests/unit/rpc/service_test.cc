// Tests the service over a real gRPC server in this process, with the reference
// catalog and a scanner that the tests control.
#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "proto/cpp/wire_status.h"
#include "service/catalog/memory_catalog.h"
#include "service/rpc/workspace_service.h"
#include "tests/support/matchers.h"
#include "tests/support/temp_dir.h"

namespace mlops::rpc {
namespace {

using absl::StatusCode;
using support::HasDetail;
using support::IsError;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr size_t kMaxQueued = 1;

// Reads the remaining statuses of a stream.
std::vector<pb::WorkspaceStatus> ReadAll(
    grpc::ClientReader<pb::StreamWorkspaceStatusesResponse>& reader) {
  std::vector<pb::WorkspaceStatus> statuses;
  for (pb::StreamWorkspaceStatusesResponse some; reader.Read(&some);) {
    statuses.insert(statuses.end(), some.statuses().begin(),
                    some.statuses().end());
  }
  return statuses;
}

class ServiceTest : public testing::Test {
 protected:
  explicit ServiceTest(int worker_count = 1, size_t max_queued = kMaxQueued)
      : workers(std::make_unique<base::ThreadPool>(worker_count, max_queued)) {
    grpc::ServerBuilder builder;
    builder.RegisterService(&service);
    server = builder.BuildAndStart();
    channel = server->InProcessChannel({});
    stub = pb::WorkspaceService::NewStub(channel);
  }
  ~ServiceTest() override { server->Shutdown(); }

  absl::Status Create(const std::string& project) {
    grpc::ClientContext context;
    pb::CreateWorkspaceRequest request;
    request.set_project(project);
    return wire::FromGrpc(stub->CreateWorkspace(&context, request, &workspace));
  }
  absl::Status Get(const std::string& project) {
    grpc::ClientContext context;
    pb::GetWorkspaceRequest request;
    request.set_project(project);
    return wire::FromGrpc(stub->GetWorkspace(&context, request, &workspace));
  }
  absl::Status Status(const std::string& project) {
    grpc::ClientContext context;
    pb::GetWorkspaceStatusRequest request;
    request.set_project(project);
    pb::WorkspaceStatus response;
    return wire::FromGrpc(
        stub->GetWorkspaceStatus(&context, request, &response));
  }
  // Returns the projects whose statuses the stream sent, and stores its final
  // status in `stream_end`.
  std::vector<std::string> Stream(
      const pb::StreamWorkspaceStatusesRequest& request = {}) {
    grpc::ClientContext context;
    const auto reader = stub->StreamWorkspaceStatuses(&context, request);
    std::vector<std::string> projects;
    for (const pb::WorkspaceStatus& status : ReadAll(*reader))
      projects.push_back(status.workspace().project());
    stream_end = wire::FromGrpc(reader->Finish());
    return projects;
  }
  absl::StatusOr<core::Usage> Scan(const core::Workspace& scanned,
                                   core::Cancelled cancelled) {
    if (during_scan) during_scan(scanned);
    while (scan_until_cancelled && !cancelled())
      absl::SleepFor(absl::Milliseconds(1));
    if (scan_until_cancelled && scans_cancelled++ == 0) scan_cancelled.Notify();
    if (!scan_result.ok()) return scan_result;
    return core::Usage{.scan_time = absl::Now()};
  }

  const support::TempDir temp;
  std::function<void(const core::Workspace&)> during_scan;
  absl::Status scan_result;
  bool scan_until_cancelled = false;
  std::atomic<int> scans_cancelled = 0;
  // Notified when a scan is cancelled.
  absl::Notification scan_cancelled;
  core::ChangeLog changes;
  catalog::MemoryCatalog catalog{base::SystemClock(), absl::Hours(72),
                                 &changes};
  core::Authority authority{
      &catalog,
      [this](const core::Workspace& w, bool, core::Cancelled cancelled) {
        return Scan(w, cancelled);
      },
      "/base"};
  std::unique_ptr<base::ThreadPool> workers;
  std::unique_ptr<observe::Log> log =
      observe::Log::Open({.file = temp.Path("log")}).value();
  Calls calls{workers.get(), workers.get(), log.get()};
  artifacts::Artifacts artifacts{&catalog,
                                 fs::OpenBaseDir(temp.path()).value()};
  ReceiveQuota receive_quota;
  ArtifactStreams streams{&artifacts, &calls, workers.get(), &receive_quota, 4};
  artifacts::Stage stage{fs::OpenBaseDir(temp.path()).value(),
                         std::make_shared<core::DiskHealth>()};
  archive::Archives archives{&authority, &stage,
                             fs::OpenBaseDir(temp.path()).value(), "/base"};
  TransferSlots slots{1};
  ArchiveStreams archive_streams{&archives, &calls, workers.get(),
                                 &receive_quota, &slots};
  WatchHub watches{&catalog, &changes, {}};
  WorkspaceService service{{.authority = &authority,
                            .artifacts = &streams,
                            .archives = &archive_streams,
                            .watches = &watches,
                            .calls = &calls},
                           {.version = "1.2.3",
                            .base_path = "/base",
                            .purge_delay = absl::Hours(1)}};
  std::unique_ptr<grpc::Server> server;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<pb::WorkspaceService::Stub> stub;
  pb::Workspace workspace;
  absl::Status stream_end;
};

// Calls a method of any kind by its name, with an empty request.
grpc::Status CallEmpty(const std::shared_ptr<grpc::Channel>& channel,
                       const std::string& method) {
  grpc::GenericStub stub(channel);
  grpc::CompletionQueue queue;
  grpc::ClientContext context;
  const auto call = stub.PrepareCall(&context, method, &queue);
  void* tag = nullptr;
  bool ok = false;
  call->StartCall(nullptr);
  queue.Next(&tag, &ok);
  const grpc::Slice no_bytes;
  call->WriteLast(grpc::ByteBuffer(&no_bytes, 1), grpc::WriteOptions(),
                  nullptr);
  queue.Next(&tag, &ok);
  for (grpc::ByteBuffer response; ok;) {
    call->Read(&response, nullptr);
    queue.Next(&tag, &ok);
    // A watch does not end by itself.
    if (absl::EndsWith(method, "/WatchWorkspaces")) context.TryCancel();
  }
  grpc::Status status;
  call->Finish(&status, nullptr);
  queue.Next(&tag, &ok);
  return status;
}

// --- Every method ------------------------------------------------------------

TEST(MethodTable, HasEveryMethodOfTheContract) {
  const auto* service = pb::Workspace::descriptor()->file()->FindServiceByName(
      "WorkspaceService");
  std::vector<std::string> in_contract, in_table;
  for (int i = 0; i < service->method_count(); ++i)
    in_contract.push_back(service->method(i)->name());
  for (const Method* method : kMethods) in_table.emplace_back(method->name);
  EXPECT_THAT(in_table, testing::UnorderedElementsAreArray(in_contract));
}

TEST_F(ServiceTest, EveryMethodOfTheContractIsThereAndCalledByItsNameInTheLog) {
  const auto* descriptor =
      pb::Workspace::descriptor()->file()->FindServiceByName(
          "WorkspaceService");
  ASSERT_GE(descriptor->method_count(), 10);
  for (int i = 0; i < descriptor->method_count(); ++i) {
    const std::string name = descriptor->method(i)->name();
    const grpc::Status status = CallEmpty(
        channel, absl::StrCat("/", descriptor->full_name(), "/", name));
    EXPECT_NE(status.error_code(), grpc::StatusCode::UNIMPLEMENTED) << name;
  }
  server->Shutdown();
  log.reset();
  const std::string lines = temp.ReadFile("log");
  for (int i = 0; i < descriptor->method_count(); ++i) {
    EXPECT_THAT(lines, testing::HasSubstr(absl::StrCat(
                           "\"", descriptor->method(i)->name(), "\"")));
  }
}

TEST_F(ServiceTest, ServerInfoSaysWhatTheServerIs) {
  ASSERT_OK(Create("fraud"));
  grpc::ClientContext context;
  pb::ServerInfo info;
  ASSERT_TRUE(stub->GetServerInfo(&context, {}, &info).ok());
  EXPECT_EQ(info.version(), "1.2.3");
  EXPECT_EQ(info.base_path(), "/base");
  EXPECT_EQ(info.workspace_count(), 1);
  EXPECT_EQ(info.max_page_size(), core::kMaxPageSize);
  EXPECT_EQ(info.max_metadata_bytes(), core::kMaxMetadataBytes);
  EXPECT_EQ(info.max_lease_ttl().seconds(), 24 * 3600);
  EXPECT_EQ(info.purge_delay().seconds(), 3600);
}

// --- Leases ------------------------------------------------------------------

TEST_F(ServiceTest, ALeaseIsShownWithItsWorkspaceEverywhere) {
  ASSERT_OK(Create("fraud"));
  pb::Lease lease;
  {
    grpc::ClientContext context;
    pb::AcquireLeaseRequest request;
    request.set_project("fraud");
    request.set_holder("a");
    ASSERT_TRUE(stub->AcquireLease(&context, request, &lease).ok());
  }
  EXPECT_EQ(lease.holder(), "a");
  ASSERT_OK(Get("fraud"));
  EXPECT_EQ(workspace.lease().SerializeAsString(), lease.SerializeAsString());
  {
    grpc::ClientContext context;
    pb::ListWorkspacesResponse page;
    ASSERT_TRUE(stub->ListWorkspaces(&context, {}, &page).ok());
    EXPECT_EQ(page.workspaces(0).lease().fence(), lease.fence());
  }
  {
    grpc::ClientContext context;
    pb::EnsureWorkspaceRequest request;
    request.set_project("fraud");
    pb::EnsureWorkspaceResponse found;
    ASSERT_TRUE(stub->EnsureWorkspace(&context, request, &found).ok());
    EXPECT_EQ(found.workspace().lease().fence(), lease.fence());
  }
  {
    grpc::ClientContext context;
    pb::UpdateWorkspaceRequest request;
    request.mutable_workspace()->set_project("fraud");
    request.mutable_workspace()->set_dvc_remote_path("/elsewhere");
    request.set_fence(lease.fence());
    ASSERT_TRUE(stub->UpdateWorkspace(&context, request, &workspace).ok());
    EXPECT_EQ(workspace.lease().fence(), lease.fence());
  }
  {
    grpc::ClientContext context;
    pb::GetWorkspaceStatusRequest request;
    request.set_project("fraud");
    pb::WorkspaceStatus status;
    ASSERT_TRUE(stub->GetWorkspaceStatus(&context, request, &status).ok());
    EXPECT_EQ(status.workspace().lease().fence(), lease.fence());
  }
  {
    grpc::ClientContext context;
    pb::ReleaseLeaseRequest request;
    request.set_project("fraud");
    request.set_holder("a");
    pb::ReleaseLeaseResponse response;
    ASSERT_TRUE(stub->ReleaseLease(&context, request, &response).ok());
  }
  ASSERT_OK(Get("fraud"));
  EXPECT_FALSE(workspace.has_lease());
}

// --- The call wrapper --------------------------------------------------------

TEST_F(ServiceTest, ErrorsCarryReasonAndProject) {
  EXPECT_THAT(Get("fraud"),
              IsError(StatusCode::kNotFound, "WORKSPACE_NOT_FOUND"));
  EXPECT_THAT(Get("../x"),
              IsError(StatusCode::kInvalidArgument, "FIELD_INVALID"));
  EXPECT_THAT(Get("../x"), HasDetail("project", "../x"));
  EXPECT_OK(Create("fraud"));
  EXPECT_THAT(Create("fraud"),
              IsError(StatusCode::kAlreadyExists, "WORKSPACE_EXISTS"));
  EXPECT_THAT(Create("fraud"), HasDetail("uid", workspace.uid()));
}

TEST_F(ServiceTest, OneCallTooManyIsOverloadedAndReadsGoOn) {
  ASSERT_OK(Create("fraud"));
  absl::Notification scanning, go_on;
  during_scan = [&](const core::Workspace&) {
    scanning.Notify();
    go_on.WaitForNotification();
  };
  std::thread busy([&] { EXPECT_OK(Status("fraud")); });
  scanning.WaitForNotification();
  // Now the queue is full.
  ASSERT_TRUE(workers->TrySchedule([] {}));
  const absl::Status refused = Create("churn");
  EXPECT_THAT(refused, IsError(StatusCode::kUnavailable, "OVERLOADED"));
  EXPECT_TRUE(base::GetErrorInfo(refused)->retry_delay.has_value());
  EXPECT_OK(Get("fraud"));
  EXPECT_EQ(calls.IdleTime(), absl::ZeroDuration());
  go_on.Notify();
  busy.join();
  EXPECT_GT(calls.IdleTime(), absl::ZeroDuration());
}

TEST_F(ServiceTest, ACallWhoseDeadlinePassedInTheQueueChangesNothing) {
  ASSERT_OK(Create("fraud"));
  absl::Notification scanning, go_on;
  during_scan = [&](const core::Workspace&) {
    if (scanning.HasBeenNotified()) return;
    scanning.Notify();
    go_on.WaitForNotification();
  };
  std::thread busy([&] { EXPECT_OK(Status("fraud")); });
  scanning.WaitForNotification();
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::milliseconds(50));
  pb::CreateWorkspaceRequest request;
  request.set_project("churn");
  EXPECT_EQ(stub->CreateWorkspace(&context, request, &workspace).error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
  // The server measures the deadline from when it received the call, which a
  // busy machine delays.
  absl::SleepFor(absl::Milliseconds(1000));
  go_on.Notify();
  busy.join();
  // The worker has processed the expired call before this one.
  ASSERT_OK(Create("last"));
  EXPECT_THAT(Get("churn"),
              IsError(StatusCode::kNotFound, "WORKSPACE_NOT_FOUND"));
}

TEST_F(ServiceTest, AClientThatLeavesEndsItsScan) {
  ASSERT_OK(Create("fraud"));
  scan_until_cancelled = true;
  grpc::ClientContext context;
  during_scan = [&](const core::Workspace&) { context.TryCancel(); };
  pb::GetWorkspaceStatusRequest request;
  request.set_project("fraud");
  pb::WorkspaceStatus response;
  EXPECT_EQ(stub->GetWorkspaceStatus(&context, request, &response).error_code(),
            grpc::StatusCode::CANCELLED);
  scan_cancelled.WaitForNotification();
}

// --- The stream of statuses --------------------------------------------------

TEST_F(ServiceTest, TheStreamHasEveryWorkspaceOnce) {
  std::vector<std::string> projects;
  // More than one page.
  for (int i = 0; i < 1100; ++i) {
    projects.push_back(absl::StrCat("p", 1000 + i));
    ASSERT_OK(catalog.Commit(core::CreateChange{
        {.project = core::ProjectName::Parse(projects.back()).value(),
         .uid = absl::StrCat(i)}}));
  }
  EXPECT_EQ(Stream(), projects);
  EXPECT_OK(stream_end);
}

TEST_F(ServiceTest, AStreamOfNothingEndsWell) {
  EXPECT_THAT(Stream(), IsEmpty());
  EXPECT_OK(stream_end);
}

TEST_F(ServiceTest, WhatIsDeletedMeanwhileIsNotInTheStream) {
  for (const char* name : {"a", "b", "c"}) ASSERT_OK(Create(name));
  during_scan = [&](const core::Workspace& scanned) {
    if (scanned.project.str() != "a") return;
    ASSERT_OK(catalog.Commit(
        core::DeleteChange{.project = core::ProjectName::Parse("b").value()}));
  };
  EXPECT_THAT(Stream(), ElementsAre("a", "c"));
}

TEST_F(ServiceTest, AStreamSharesAScanThatBeganAfterItsCall) {
  for (const char* name : {"a", "b"}) ASSERT_OK(Create(name));
  std::vector<std::string> scanned;
  during_scan = [&](const core::Workspace& workspace) {
    scanned.push_back(workspace.project.str());
    if (workspace.project.str() != "a") return;
    // Another caller has b counted while the stream, whose call began earlier,
    // still counts a.
    EXPECT_OK(authority.Status(core::ProjectName::Parse("b").value(), {},
                               [] { return false; }));
  };
  EXPECT_THAT(Stream(), ElementsAre("a", "b"));
  EXPECT_THAT(scanned, ElementsAre("a", "b"));
  // This call began later than the scan.
  EXPECT_OK(Status("b"));
  EXPECT_THAT(scanned, ElementsAre("a", "b", "b"));
}

TEST_F(ServiceTest, AWorkspaceThatCannotBeCountedDoesNotEndTheStream) {
  for (const char* name : {"a", "b"}) ASSERT_OK(Create(name));
  scan_result =
      base::MakeError(StatusCode::kInternal, "disk", {.reason = "IO_ERROR"});
  grpc::ClientContext context;
  const auto reader = stub->StreamWorkspaceStatuses(&context, {});
  std::vector<std::string> projects;
  for (const pb::WorkspaceStatus& status : ReadAll(*reader)) {
    projects.push_back(status.workspace().project());
    EXPECT_THAT(wire::FromProto(status.error()),
                IsError(StatusCode::kInternal, "IO_ERROR"));
  }
  EXPECT_THAT(projects, ElementsAre("a", "b"));
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(ServiceTest, AStreamThatMovesGoesOnWhileTheServerDrains) {
  for (const char* name : {"a", "b", "c"}) ASSERT_OK(Create(name));
  during_scan = [&](const core::Workspace&) { calls.Drain(); };
  EXPECT_THAT(Stream(), ElementsAre("a", "b", "c"));
  EXPECT_OK(stream_end);
  EXPECT_THAT(Stream(), IsEmpty());
  EXPECT_THAT(stream_end, IsError(StatusCode::kUnavailable, "SHUTTING_DOWN"));
}

TEST_F(ServiceTest, AStreamThatIsCutIsToldWhy) {
  for (const char* name : {"a", "b", "c"}) ASSERT_OK(Create(name));
  during_scan = [&](const core::Workspace&) {
    calls.live().EndThose({.patience = absl::ZeroDuration(),
                           .why = core::CutByShutdown(),
                           .moving = true});
  };
  EXPECT_THAT(Stream(), testing::SizeIs(testing::Le(1)));
  EXPECT_THAT(stream_end, IsError(StatusCode::kUnavailable, "SHUTTING_DOWN"));
}

class ManyWorkersTest : public ServiceTest {
 protected:
  ManyWorkersTest() : ServiceTest(8, 100) {}
};

TEST_F(ManyWorkersTest, AStreamHasEveryWorkspaceOnce) {
  std::vector<std::string> projects;
  for (int i = 0; i < 1100; ++i) {
    projects.push_back(absl::StrCat("p", i));
    ASSERT_OK(catalog.Commit(core::CreateChange{
        {.project = core::ProjectName::Parse(projects.back()).value(),
         .uid = absl::StrCat(i)}}));
  }
  EXPECT_THAT(Stream(), testing::UnorderedElementsAreArray(projects));
  EXPECT_OK(stream_end);
}

TEST_F(ManyWorkersTest, AWorkspaceThatTakesLongHoldsUpNoOther) {
  for (const char* name : {"a", "b", "c", "d"}) ASSERT_OK(Create(name));
  absl::Notification go_on;
  during_scan = [&](const core::Workspace& scanned) {
    if (scanned.project.str() == "a") go_on.WaitForNotification();
  };
  grpc::ClientContext context;
  const auto reader = stub->StreamWorkspaceStatuses(&context, {});
  std::vector<std::string> projects;
  for (pb::StreamWorkspaceStatusesResponse some; reader->Read(&some);) {
    for (const pb::WorkspaceStatus& status : some.statuses())
      projects.push_back(status.workspace().project());
    if (projects.size() == 3) go_on.Notify();
  }
  EXPECT_THAT(projects, testing::UnorderedElementsAre("a", "b", "c", "d"));
  EXPECT_EQ(projects.back(), "a");
}

TEST_F(ManyWorkersTest, OnlySomeAreCountedAheadOfAReaderWhoDoesNotRead) {
  constexpr int kWorkspaces = 600;
  const std::string long_text(60'000, 'x');
  for (int i = 0; i < kWorkspaces; ++i) {
    ASSERT_OK(catalog.Commit(core::CreateChange{
        {.project = core::ProjectName::Parse(absl::StrCat("p", i)).value(),
         .uid = absl::StrCat(i),
         .metadata = {{"text", long_text}}}}));
  }
  std::atomic<int> scans = 0;
  during_scan = [&](const core::Workspace&) { ++scans; };
  grpc::ClientContext context;
  const auto reader = stub->StreamWorkspaceStatuses(&context, {});
  pb::StreamWorkspaceStatusesResponse first;
  ASSERT_TRUE(reader->Read(&first));
  // Wait until the stream stalls.
  for (int before = -1; before != scans;) {
    before = scans;
    absl::SleepFor(absl::Milliseconds(100));
  }
  EXPECT_LT(scans, kWorkspaces / 2);
  // The stalled stream occupies no worker.
  EXPECT_OK(Status("p1"));
  EXPECT_EQ(
      static_cast<size_t>(first.statuses_size()) + ReadAll(*reader).size(),
      kWorkspaces);
}

TEST_F(ManyWorkersTest, AClientThatLeavesAStreamEndsItsScans) {
  for (const char* name : {"a", "b", "c"}) ASSERT_OK(Create(name));
  std::atomic<int> scanning = 0;
  during_scan = [&](const core::Workspace&) { ++scanning; };
  scan_until_cancelled = true;
  grpc::ClientContext context;
  const auto reader = stub->StreamWorkspaceStatuses(&context, {});
  while (scanning < 3) absl::SleepFor(absl::Milliseconds(1));
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  while (calls.IdleTime() == absl::ZeroDuration())
    absl::SleepFor(absl::Milliseconds(1));
}

TEST_F(ServiceTest, AStreamRefusesWhatItDoesNotUnderstand) {
  pb::StreamWorkspaceStatusesRequest request;
  request.set_filter("nonsense=a");
  EXPECT_THAT(Stream(request), IsEmpty());
  EXPECT_THAT(stream_end,
              IsError(StatusCode::kInvalidArgument, "FILTER_INVALID"));
  request.clear_filter();
  request.mutable_max_staleness()->set_seconds(-1);
  EXPECT_THAT(Stream(request), IsEmpty());
  EXPECT_THAT(stream_end,
              IsError(StatusCode::kInvalidArgument, "FIELD_INVALID"));
}

}  // namespace
}  // namespace mlops::rpc
