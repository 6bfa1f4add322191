// Tests the limits on the memory that clients can make the service use,
// over a real gRPC server in this process.
#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
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

class LimitsTest : public testing::Test {
 protected:
  LimitsTest() {
    for (int i = 0; i < 200; ++i) {
      EXPECT_OK(catalog.Commit(core::CreateChange{
          {.project = core::ProjectName::Parse(Name(i)).value(),
           .uid = absl::StrCat(i),
           .metadata = {{"text", std::string(60'000, 'x')}}}}));
    }
    grpc::ServerBuilder builder;
    builder.RegisterService(&service);
    server = builder.BuildAndStart();
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(64 << 20);
    channel = server->InProcessChannel(arguments);
    stub = pb::WorkspaceService::NewStub(channel);
  }
  ~LimitsTest() override { server->Shutdown(std::chrono::system_clock::now()); }

  static std::string Name(int i) { return absl::StrCat("p", 1000 + i); }

  // Calls a unary method with the request `bytes`.
  absl::Status Send(const std::string& method, const std::string& bytes) {
    grpc::GenericStub generic(channel);
    grpc::CompletionQueue queue;
    grpc::ClientContext context;
    const grpc::Slice slice(bytes);
    const auto call = generic.PrepareUnaryCall(
        &context, absl::StrCat("/mlops.workspace.v1.WorkspaceService/", method),
        grpc::ByteBuffer(&slice, 1), &queue);
    call->StartCall();
    grpc::ByteBuffer response;
    grpc::Status status;
    call->Finish(&response, &status, nullptr);
    void* tag = nullptr;
    bool ok = false;
    queue.Next(&tag, &ok);
    return wire::FromGrpc(status);
  }

  const support::TempDir temp;
  core::ChangeLog changes;
  catalog::MemoryCatalog catalog;
  core::Authority authority{&catalog,
                            [](const core::Workspace&, bool, core::Cancelled) {
                              return core::Usage{.scan_time = absl::Now()};
                            },
                            "/base"};
  base::ThreadPool workers{4, 100};
  std::unique_ptr<observe::Log> log =
      observe::Log::Open({.file = temp.Path("log")}).value();
  Calls calls{&workers, &workers, log.get()};
  artifacts::Artifacts artifacts{&catalog,
                                 fs::OpenBaseDir(temp.path()).value()};
  ReceiveQuota receive_quota;
  ArtifactStreams streams{&artifacts, &calls, &workers, &receive_quota, 2};
  artifacts::Stage stage{fs::OpenBaseDir(temp.path()).value(),
                         std::make_shared<core::DiskHealth>()};
  archive::Archives archives{&authority, &stage,
                             fs::OpenBaseDir(temp.path()).value(), "/base"};
  TransferSlots slots{1};
  ArchiveStreams archive_streams{&archives, &calls, &workers, &receive_quota,
                                 &slots};
  WatchHub watches{&catalog, &changes, {}};
  WorkspaceService service{{.authority = &authority,
                            .artifacts = &streams,
                            .archives = &archive_streams,
                            .watches = &watches,
                            .calls = &calls},
                           {.version = "1", .base_path = "/base"}};
  std::unique_ptr<grpc::Server> server;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<pb::WorkspaceService::Stub> stub;
};

const auto kOverloaded = IsError(StatusCode::kUnavailable, "OVERLOADED");
const IdleRule kEveryIdle = {.patience = absl::ZeroDuration(),
                             .why = core::ClientIsIdle()};

// --- Requests ----------------------------------------------------------------

TEST_F(LimitsTest, ARequestThatIsTooLargeIsToldSoBeforeItIsDecoded) {
  const auto* service_descriptor =
      pb::Workspace::descriptor()->file()->FindServiceByName(
          "WorkspaceService");
  // Also not a valid message.
  const std::string large(kMaxRequestBytes + 1, '\xff');
  for (int i = 0; i < service_descriptor->method_count(); ++i) {
    const auto* method = service_descriptor->method(i);
    if (method->client_streaming()) continue;
    EXPECT_THAT(Send(method->name(), large),
                IsError(StatusCode::kInvalidArgument, "FIELD_INVALID"))
        << method->name();
    EXPECT_THAT(Send(method->name(), large),
                HasDetail("problem", testing::HasSubstr("bytes long")))
        << method->name();
  }
}

TEST_F(LimitsTest, WhatIsNoMessageIsToldSo) {
  const auto* service_descriptor =
      pb::Workspace::descriptor()->file()->FindServiceByName(
          "WorkspaceService");
  for (int i = 0; i < service_descriptor->method_count(); ++i) {
    const auto* method = service_descriptor->method(i);
    if (method->client_streaming()) continue;
    EXPECT_THAT(Send(method->name(), "\xff"),
                IsError(StatusCode::kInvalidArgument, "FIELD_INVALID"))
        << method->name();
  }
}

// --- Pages -------------------------------------------------------------------

TEST_F(LimitsTest, PagesEndAtTheirBytesAndTheWalkHasAll) {
  pb::ListWorkspacesRequest request;
  request.set_page_size(1000);
  std::vector<std::string> seen;
  do {
    grpc::ClientContext context;
    pb::ListWorkspacesResponse page;
    ASSERT_TRUE(stub->ListWorkspaces(&context, request, &page).ok());
    EXPECT_LE(page.ByteSizeLong(), kMaxPageBytes + 1000);
    EXPECT_EQ(page.total_size(), 200);
    for (const auto& workspace : page.workspaces())
      seen.push_back(workspace.project());
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  ASSERT_EQ(seen.size(), 200);
  for (int i = 0; i < 200; ++i) EXPECT_EQ(seen[i], Name(i));
}

// --- Idle clients ------------------------------------------------------------

TEST_F(LimitsTest, StreamsWithoutAMessageTakeNoSlot) {
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReaderWriter<
      pb::WriteArtifactRequest, pb::WriteArtifactResponse>>>
      writers;
  for (int i = 0; i < 10; ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    writers.push_back(stub->WriteArtifact(contexts.back().get()));
  }
  grpc::ClientContext context;
  pb::ReadArtifactRequest request;
  request.set_project("none");
  request.set_path("models/x");
  const auto reader = stub->ReadArtifact(&context, request);
  EXPECT_THAT(wire::FromGrpc(reader->Finish()),
              IsError(StatusCode::kNotFound, "WORKSPACE_NOT_FOUND"));
  streams.live().EndThose(kEveryIdle);
  for (const auto& writer : writers)
    EXPECT_THAT(wire::FromGrpc(writer->Finish()), kOverloaded);
}

TEST_F(LimitsTest, RefusedStreamsTakeNoSlot) {
  StreamSlots::Slot first(&streams.slots());
  EXPECT_OK(first.Take());
  {
    StreamSlots::Slot second(&streams.slots());
    EXPECT_OK(second.Take());
    for (int i = 0; i < 10; ++i) {
      StreamSlots::Slot third(&streams.slots());
      EXPECT_THAT(third.Take(), kOverloaded);
    }
  }
  StreamSlots::Slot fourth(&streams.slots());
  EXPECT_OK(fourth.Take());
}

TEST_F(LimitsTest, StreamsOfStatusesThatNobodyReadsShareABudgetAndAreEnded) {
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<
      std::unique_ptr<grpc::ClientReader<pb::StreamWorkspaceStatusesResponse>>>
      readers;
  while (!calls.status_bytes().RefusedWithin(std::chrono::hours(1))) {
    ASSERT_LT(readers.size(), 2000);
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    readers.push_back(stub->StreamWorkspaceStatuses(contexts.back().get(), {}));
    absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_LE(calls.status_bytes().taken(), size_t{64} << 20);
  while (calls.status_bytes().taken() > 0) {
    calls.live().EndThose(kEveryIdle);
    absl::SleepFor(absl::Milliseconds(5));
  }
  EXPECT_GT(calls.IdleTime(), absl::ZeroDuration());
}

// --- Transfers ---------------------------------------------------------------

TEST(TransferSlots, CountWhatTransfersDo) {
  TransferSlots slots(1);
  {
    TransferSlots::Slot first(&slots, TransferKind::kExport);
    EXPECT_OK(first.Take());
    first.AddBytes(10);
    TransferSlots::Slot second(&slots, TransferKind::kClone);
    EXPECT_THAT(second.Take(), kOverloaded);
    EXPECT_EQ(slots.counts(TransferKind::kExport).running, 1);
    EXPECT_EQ(slots.counts(TransferKind::kClone).running, 0);
    first.Succeed();
  }
  {
    TransferSlots::Slot third(&slots, TransferKind::kExport);
    EXPECT_OK(third.Take());
    third.AddBytes(5);
  }
  const auto exports = slots.counts(TransferKind::kExport);
  EXPECT_EQ(exports.running, 0);
  EXPECT_EQ(exports.succeeded, 1u);
  EXPECT_EQ(exports.failed, 1u);
  EXPECT_EQ(exports.size_bytes, 15u);
  EXPECT_EQ(slots.counts(TransferKind::kClone).refused, 1u);
  EXPECT_EQ(slots.running(), 0);
}

}  // namespace
}  // namespace mlops::rpc
