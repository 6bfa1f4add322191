// Tests WatchWorkspaces over a real gRPC server in this process.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/wire_status.h"
#include "service/catalog/memory_catalog.h"
#include "service/rpc/workspace_service.h"
#include "tests/support/matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/workspaces.h"

namespace mlops::rpc {
namespace {

using absl::StatusCode;
using support::HasDetail;
using support::IsError;
using support::Project;
using testing::ElementsAre;
using testing::IsEmpty;

const auto kExpired = IsError(StatusCode::kOutOfRange, "RESUME_TOKEN_EXPIRED");
constexpr absl::Duration kNever = absl::Hours(1);

// One WatchWorkspaces call.
class Watch {
 public:
  Watch(pb::WorkspaceService::Stub& stub,
        const std::vector<std::string>& projects, const std::string& token,
        bool batched = false) {
    pb::WatchWorkspacesRequest request;
    request.set_batched(batched);
    for (const std::string& project : projects) request.add_projects(project);
    request.set_resume_token(token);
    reader_ = stub.WatchWorkspaces(&context_, request);
  }
  ~Watch() {
    context_.TryCancel();
    if (!finished_) End().IgnoreError();
  }

  // Reads one response. Returns false at the end of the stream.
  bool Read() {
    pb::WatchWorkspacesResponse next;
    if (!reader_->Read(&next)) return false;
    last = next;
    return true;
  }
  // Returns the next response as its change and project.
  std::string Next() {
    if (!Read()) return "end";
    return Text(last);
  }
  // Returns the next batch, without its SYNCED.
  std::vector<std::string> NextBatch() {
    std::vector<std::string> all;
    if (!Read()) return {"end"};
    EXPECT_EQ(last.change(), pb::CHANGE_UNSPECIFIED);
    EXPECT_EQ(last.resume_token(), "");
    EXPECT_FALSE(last.has_workspace());
    for (const auto& response : last.batch()) {
      if (response.change() != pb::CHANGE_SYNCED) all.push_back(Text(response));
    }
    return all;
  }
  // Returns the responses before the next SYNCED.
  std::vector<std::string> UntilSynced() {
    std::vector<std::string> all;
    for (std::string next = Next(); next != "SYNCED"; next = Next()) {
      all.push_back(next);
      if (next == "end") break;
    }
    return all;
  }
  absl::Status End() {
    finished_ = true;
    while (Read()) continue;
    return wire::FromGrpc(reader_->Finish());
  }
  void Cancel() { context_.TryCancel(); }

  pb::WatchWorkspacesResponse last;

 private:
  static std::string Text(const pb::WatchWorkspacesResponse& response) {
    std::string change = pb::Change_Name(response.change()).substr(7);
    return response.has_workspace()
               ? absl::StrCat(change, " ", response.workspace().project())
               : change;
  }

  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<pb::WatchWorkspacesResponse>> reader_;
  bool finished_ = false;
};

class Served {
 public:
  explicit Served(WatchHub::Options options = {.synced_interval = kNever},
                  size_t log_bytes = core::ChangeLog::kDefaultBytes)
      : changes(log_bytes), watches(&catalog, &changes, std::move(options)) {
    grpc::ServerBuilder builder;
    builder.RegisterService(&service);
    server = builder.BuildAndStart();
    stub = pb::WorkspaceService::NewStub(server->InProcessChannel({}));
  }
  ~Served() { server->Shutdown(); }

  void Create(absl::string_view name) {
    ASSERT_OK(catalog.Commit(core::CreateChange{support::NewWorkspace(name)}));
  }
  void Update(absl::string_view name, const std::string& note = "") {
    core::Workspace workspace = *catalog.Get(Project(name)).value();
    workspace.metadata["count"] = ++updates;
    workspace.metadata["note"] = note;
    ASSERT_OK(catalog.Commit(core::ReplaceChange{workspace, workspace.etag}));
  }
  void Delete(absl::string_view name) {
    ASSERT_OK(catalog.Commit(core::DeleteChange{Project(name)}));
  }
  std::unique_ptr<Watch> Start(const std::vector<std::string>& projects = {},
                               const std::string& token = "") {
    return std::make_unique<Watch>(*stub, projects, token);
  }
  // Starts a watch that knows everything, and returns it.
  std::unique_ptr<Watch> StartSynced(
      const std::vector<std::string>& projects = {}) {
    auto watch = Start(projects);
    watch->UntilSynced();
    return watch;
  }
  pb::ListWorkspacesResponse List(int page_size = 0,
                                  const std::string& page_token = "") {
    grpc::ClientContext context;
    pb::ListWorkspacesRequest request;
    request.set_page_size(page_size);
    request.set_page_token(page_token);
    pb::ListWorkspacesResponse response;
    EXPECT_TRUE(stub->ListWorkspaces(&context, request, &response).ok());
    return response;
  }
  void WaitForWatchers(size_t count) {
    while (watches.watchers() != count) absl::SleepFor(absl::Milliseconds(1));
  }

  int updates = 0;
  const support::TempDir temp;
  core::ChangeLog changes;
  catalog::MemoryCatalog catalog{base::SystemClock(), absl::Hours(72),
                                 &changes};
  core::Authority authority{&catalog, nullptr, "/base"};
  base::ThreadPool workers{2, 100};
  std::unique_ptr<observe::Log> log =
      observe::Log::Open({.file = temp.Path("log")}).value();
  Calls calls{&workers, &workers, log.get()};
  artifacts::Artifacts artifacts{&catalog,
                                 fs::OpenBaseDir(temp.path()).value()};
  ReceiveQuota receive_quota;
  ArtifactStreams streams{&artifacts, &calls, &workers, &receive_quota, 4};
  WatchHub watches;
  WorkspaceService service{{.authority = &authority,
                            .artifacts = &streams,
                            .watches = &watches,
                            .calls = &calls},
                           {.version = "1", .base_path = "/base"}};
  std::unique_ptr<grpc::Server> server;
  std::unique_ptr<pb::WorkspaceService::Stub> stub;
};

// --- What a watcher is told --------------------------------------------------

TEST(Watch, BeginsWithWhatExistsAndContinuesWithWhatChanges) {
  Served served;
  served.Create("b");
  served.Create("a");
  const auto watch = served.Start();
  EXPECT_THAT(watch->UntilSynced(), ElementsAre("CREATED a", "CREATED b"));
  served.Create("c");
  EXPECT_EQ(watch->Next(), "CREATED c");
  served.Update("a", "news");
  EXPECT_EQ(watch->Next(), "UPDATED a");
  EXPECT_EQ(
      watch->last.workspace().metadata().fields().at("note").string_value(),
      "news");
  EXPECT_EQ(watch->last.workspace().etag(),
            served.catalog.Get(Project("a")).value()->etag);
  const std::string uid = served.catalog.Get(Project("b")).value()->uid;
  served.Delete("b");
  EXPECT_EQ(watch->Next(), "DELETED b");
  EXPECT_EQ(watch->last.workspace().uid(), uid);
  EXPECT_TRUE(watch->last.workspace().has_delete_time());
}

TEST(Watch, AnEmptyBaseIsSyncedAtOnce) {
  Served served;
  EXPECT_THAT(served.Start()->UntilSynced(), IsEmpty());
}

TEST(Watch, ATokenLeadsToWhatFollowed) {
  Served served;
  served.Create("a");
  const auto watch = served.StartSynced();
  const std::string synced = watch->last.resume_token();
  served.Update("a");
  served.Create("b");
  watch->Next();
  const std::string after_a = watch->last.resume_token();
  EXPECT_THAT(served.Start({}, synced)->UntilSynced(),
              ElementsAre("UPDATED a", "CREATED b"));
  EXPECT_THAT(served.Start({}, after_a)->UntilSynced(),
              ElementsAre("CREATED b"));
  served.Delete("b");
  EXPECT_THAT(served.Start({}, after_a)->UntilSynced(),
              ElementsAre("DELETED b"));
}

TEST(Watch, AListThatWasInterruptedIsResumed) {
  Served served;
  for (const char* name : {"a", "b", "c"}) served.Create(name);
  const auto watch = served.Start();
  EXPECT_EQ(watch->Next(), "CREATED a");
  served.Update("a");
  EXPECT_THAT(served.Start({}, watch->last.resume_token())->UntilSynced(),
              ElementsAre("CREATED b", "CREATED c", "UPDATED a"));
}

TEST(Watch, ManyWorkspacesComeInPages) {
  Served served;
  for (int i = 0; i < 1500; ++i) served.Create(absl::StrCat("p", 1000 + i));
  const auto all = served.Start()->UntilSynced();
  ASSERT_EQ(all.size(), 1500u);
  EXPECT_EQ(all.front(), "CREATED p1000");
  EXPECT_EQ(all.back(), "CREATED p2499");
}

TEST(Watch, TheTokenOfAListClosesTheGap) {
  Served served;
  served.Create("a");
  served.Create("b");
  const auto page = served.List(/*page_size=*/1);
  ASSERT_NE(page.resume_token(), "");
  EXPECT_EQ(served.List(1, page.next_page_token()).resume_token(), "");
  served.Create("c");
  EXPECT_THAT(served.Start({}, page.resume_token())->UntilSynced(),
              ElementsAre("CREATED c"));
}

TEST(Watch, LargeRecordsArrive) {
  Served served;
  const std::string large(40'000, 'x');
  served.Create("a");
  served.Update("a", large);
  const auto watch = served.Start();
  EXPECT_THAT(watch->UntilSynced(), ElementsAre("CREATED a"));
  served.Update("a", large + "y");
  EXPECT_EQ(watch->Next(), "UPDATED a");
  EXPECT_EQ(
      watch->last.workspace().metadata().fields().at("note").string_value(),
      large + "y");
}

TEST(Watch, ShowsTheLease) {
  std::atomic<bool> held = false;
  Served served({.synced_interval = kNever,
                 .lease_of = [&](const core::Workspace& workspace)
                     -> std::optional<core::Lease> {
                   if (!held || workspace.project.str() != "a")
                     return std::nullopt;
                   return core::Lease{.holder = "trainer",
                                      .fence = 7,
                                      .acquire_time = support::TimeAt(0),
                                      .expire_time = support::TimeAt(60)};
                 }});
  served.Create("a");
  served.Create("b");
  const auto watch = served.StartSynced();
  held = true;
  served.catalog.Announce(Project("a"));
  EXPECT_EQ(watch->Next(), "UPDATED a");
  EXPECT_EQ(watch->last.workspace().lease().holder(), "trainer");
  EXPECT_EQ(watch->last.workspace().lease().fence(), 7);
  EXPECT_EQ(watch->last.workspace().uid(),
            served.catalog.Get(Project("a")).value()->uid);
  const auto late = served.Start();
  EXPECT_EQ(late->Next(), "CREATED a");
  EXPECT_EQ(late->last.workspace().lease().holder(), "trainer");
  EXPECT_EQ(late->Next(), "CREATED b");
  EXPECT_FALSE(late->last.workspace().has_lease());
  held = false;
  served.catalog.Announce(Project("a"));
  EXPECT_EQ(watch->Next(), "UPDATED a");
  EXPECT_FALSE(watch->last.workspace().has_lease());
}

// --- Filters -----------------------------------------------------------------

TEST(WatchedProjects, OnlyTheirChangesAreReported) {
  Served served;
  for (const char* name : {"a", "b", "c"}) served.Create(name);
  const auto watch = served.Start({"c", "a", "later", "a"});
  EXPECT_THAT(watch->UntilSynced(), ElementsAre("CREATED a", "CREATED c"));
  served.Update("b");
  served.Create("later");
  EXPECT_EQ(watch->Next(), "CREATED later");
  served.Delete("b");
  served.Delete("c");
  EXPECT_EQ(watch->Next(), "DELETED c");
}

TEST(WatchedProjects, ManyChangesOfOthersDoNotExpireAWatch) {
  Served served({.synced_interval = absl::Milliseconds(1)},
                /*log_bytes=*/20'000);
  served.Create("a");
  std::vector<std::string> many = {"a"};
  for (int i = 0; i < 100; ++i) many.push_back(absl::StrCat("absent", i));
  const auto watch = served.StartSynced({"a"});
  const auto watch_of_many = served.StartSynced(many);
  for (int i = 0; i < 300; ++i) {
    served.Create(absl::StrCat("p", i));
    // The watches pass over some of the changes now and then.
    if (i % 10 == 0) {
      EXPECT_EQ(watch->Next(), "SYNCED");
      EXPECT_EQ(watch_of_many->Next(), "SYNCED");
    }
  }
  EXPECT_THAT(served.changes.Resume(served.changes.PointAt(2)), kExpired);
  served.Update("a");
  for (Watch* one : {watch.get(), watch_of_many.get()}) {
    std::string next = "SYNCED";
    while (next == "SYNCED") next = one->Next();
    EXPECT_EQ(next, "UPDATED a");
  }
}

class CountingWatcher final : public WatchHub::Watcher {
 public:
  void Wake() override { ++wakes; }
  void End() override {}

  std::atomic<int> wakes = 0;
};

TEST(WatchedProjects, OnlyTheirWatchersWake) {
  Served served;
  const WatchHub::Projects rare = {Project("rare"), Project("other")};
  CountingWatcher of_all, of_rare;
  ASSERT_OK(served.watches.Add(&of_all, {}));
  ASSERT_OK(served.watches.Add(&of_rare, rare));
  const auto wait_for = [](const CountingWatcher& watcher, int wakes) {
    while (watcher.wakes <= wakes) absl::SleepFor(absl::Microseconds(100));
  };
  for (int i = 0; i < 200; ++i) {
    const int before = of_all.wakes;
    served.Create(absl::StrCat("p", i));
    wait_for(of_all, before);
  }
  // Besides the tick, it wakes whenever the log has doubled.
  EXPECT_LT(of_rare.wakes, of_all.wakes / 4);
  const int before = of_rare.wakes;
  served.Create("rare");
  wait_for(of_rare, before);
  served.watches.Remove(&of_rare, rare);
  const int at_end = of_rare.wakes;
  const int before_last = of_all.wakes;
  served.Update("rare");
  wait_for(of_all, before_last);
  EXPECT_EQ(of_rare.wakes, at_end);
  served.watches.Remove(&of_all, {});
}

TEST(WatchedProjects, FarAwayChangesAreFound) {
  Served served;
  served.Create("a");
  const std::string token = served.List().resume_token();
  for (int i = 0; i < 6'000; ++i) served.Create(absl::StrCat("p", i));
  served.Update("a");
  EXPECT_THAT(served.Start({"a"}, token)->UntilSynced(),
              ElementsAre("UPDATED a"));
  // A long list of projects is searched for in another way.
  std::vector<std::string> many = {"a"};
  for (int i = 0; i < 100; ++i) many.push_back(absl::StrCat("absent", i));
  EXPECT_THAT(served.Start(many, token)->UntilSynced(),
              ElementsAre("UPDATED a"));
}

TEST(WatchedProjects, BadOnesAreInvalid) {
  Served served;
  EXPECT_THAT(served.Start({"a", "../b"})->End(),
              IsError(StatusCode::kInvalidArgument, "FIELD_INVALID"));
  std::vector<std::string> many;
  for (int i = 0; i <= 1000; ++i) many.push_back(absl::StrCat("p", i));
  const absl::Status refused = served.Start(many)->End();
  EXPECT_THAT(refused, IsError(StatusCode::kInvalidArgument, "FIELD_INVALID"));
  EXPECT_THAT(refused, HasDetail("field", "projects"));
  many.pop_back();
  EXPECT_THAT(served.Start(many)->UntilSynced(), IsEmpty());
}

// --- Tokens ------------------------------------------------------------------

TEST(WatchTokens, DamagedAndForeignOnesAreRefused) {
  Served served;
  EXPECT_THAT(served.Start({}, "x")->End(),
              IsError(StatusCode::kInvalidArgument, "TOKEN_INVALID"));
  EXPECT_THAT(served.Start({}, Served().List().resume_token())->End(),
              kExpired);
}

TEST(WatchTokens, AForgottenPositionExpires) {
  Served served({.synced_interval = kNever}, /*log_bytes=*/10'000);
  const std::string token = served.List().resume_token();
  for (int i = 0; i < 100; ++i) served.Create(absl::StrCat("p", i));
  EXPECT_THAT(served.Start({}, token)->End(), kExpired);
  EXPECT_EQ(served.Start()->UntilSynced().size(), 100u);
}

// --- Idle, slow and gone watchers --------------------------------------------

TEST(IdleWatch, GetsSyncedAgainWithAnewToken) {
  Served served({.synced_interval = absl::Milliseconds(5)});
  served.Create("b");
  const auto watch = served.StartSynced({"a"});
  const std::string first = watch->last.resume_token();
  EXPECT_EQ(watch->Next(), "SYNCED");
  served.Update("b");
  while (watch->last.resume_token() == first)
    ASSERT_EQ(watch->Next(), "SYNCED");
  EXPECT_EQ(watch->last.resume_token(), served.List().resume_token());
}

TEST(IdleWatch, IsNotEndedForItsClientDoesNotSend) {
  // A response may arrive before the server knows that it is written, and until
  // then the server waits for the client. A watch without such a response
  // survives the first attempt.
  for (int attempt = 1;; ++attempt) {
    Served served;
    const auto watch = served.StartSynced();
    absl::SleepFor(absl::Milliseconds(20 * attempt));
    served.calls.live().EndThose(
        {.patience = -kNever, .why = core::ClientIsIdle()});
    served.Create("a");
    const std::string next = watch->Next();
    if (next == "CREATED a") break;
    ASSERT_LT(attempt, 10) << next;
  }
}

TEST(SlowWatch, IsEndedIfItsClientDoesNotRead) {
  Served served;
  served.Create("a");
  const auto reads = served.StartSynced();
  const auto slow = served.Start();
  served.WaitForWatchers(2);
  // Its first response is never read, so the server cannot write the next.
  for (int i = 0; i < 3; ++i) {
    served.Update("a");
    EXPECT_EQ(reads->Next(), "UPDATED a");
  }
  while (served.watches.watchers() > 1) {
    served.calls.live().EndThose(
        {.patience = absl::Milliseconds(200), .why = core::ClientIsIdle()});
    absl::SleepFor(absl::Milliseconds(10));
  }
  served.Update("a");
  EXPECT_EQ(reads->Next(), "UPDATED a");
}

TEST(SlowWatch, ExpiresWhileOthersGoOn) {
  Served served({.synced_interval = kNever}, /*log_bytes=*/10'000);
  const auto reads = served.StartSynced();
  const auto slow = served.StartSynced();
  for (int i = 0; i < 200; ++i) {
    served.Create(absl::StrCat("p", i));
    EXPECT_EQ(reads->Next(), absl::StrCat("CREATED p", i));
  }
  EXPECT_THAT(slow->End(), kExpired);
  served.Create("q");
  EXPECT_EQ(reads->Next(), "CREATED q");
}

TEST(SlowWatch, ManyUpdatesArriveAsTheLastState) {
  Served served({.synced_interval = kNever}, /*log_bytes=*/10'000);
  served.Create("a");
  const auto watch = served.StartSynced();
  for (int i = 0; i < 1000; ++i) served.Update("a", absl::StrCat(i));
  std::string note;
  int count = 0;
  for (; note != "999"; ++count) {
    ASSERT_EQ(watch->Next(), "UPDATED a");
    note =
        watch->last.workspace().metadata().fields().at("note").string_value();
  }
  EXPECT_LE(count, 1000);
}

TEST(CancelledWatch, LeavesNothingBehind) {
  Served served;
  const auto watch = served.StartSynced();
  served.WaitForWatchers(1);
  watch->Cancel();
  served.WaitForWatchers(0);
}

TEST(WatchLimit, NamesOfProjectsTakeMemory) {
  Served served;
  std::vector<std::string> names;
  for (int i = 0; i < 1'000; ++i)
    names.push_back(absl::StrCat(std::string(50, 'n'), i));
  std::vector<std::unique_ptr<Watch>> watches;
  absl::Status refused;
  while (watches.size() < 200 && refused.ok()) {
    auto watch = served.Start(names);
    if (watch->Next() == "SYNCED") {
      watches.push_back(std::move(watch));
    } else {
      refused = watch->End();
    }
  }
  EXPECT_THAT(refused, IsError(StatusCode::kUnavailable, "OVERLOADED"));
  EXPECT_LE(served.calls.status_bytes().taken(), size_t{64} << 20);
  // Others can still watch.
  EXPECT_THAT(served.Start()->UntilSynced(), IsEmpty());
  watches.clear();
  served.WaitForWatchers(0);
  EXPECT_THAT(served.Start(names)->UntilSynced(), IsEmpty());
}

TEST(WatchLimit, OneWatcherTooManyIsOverloaded) {
  Served served({.synced_interval = kNever, .max_watchers = 2});
  const auto first = served.StartSynced();
  const auto second = served.StartSynced();
  const absl::Status refused = served.Start()->End();
  EXPECT_THAT(refused, IsError(StatusCode::kUnavailable, "OVERLOADED"));
  EXPECT_TRUE(base::GetErrorInfo(refused)->retry_delay.has_value());
  EXPECT_THAT(
      refused.message(),
      testing::HasSubstr("at most 2 may be connected (--max-watchers)"));
  first->Cancel();
  served.WaitForWatchers(1);
  EXPECT_THAT(served.Start()->UntilSynced(), IsEmpty());
}

TEST(WatchShutdown, EndsWatchesAtOnceAndRefusesNewOnes) {
  Served served;
  const auto watch = served.StartSynced();
  served.watches.EndAll();
  EXPECT_THAT(watch->End(), IsError(StatusCode::kUnavailable, "SHUTTING_DOWN"));
  EXPECT_THAT(served.Start()->End(),
              IsError(StatusCode::kUnavailable, "SHUTTING_DOWN"));
}

TEST(OverQuota, IsShownInTheListAndInChanges) {
  std::atomic<bool> over = true;
  Served served({.synced_interval = kNever,
                 .is_over_quota = [&over](const core::Workspace&) {
                   return over.load();
                 }});
  served.Create("a");
  const auto watch = served.Start();
  EXPECT_EQ(watch->Next(), "CREATED a");
  EXPECT_TRUE(watch->last.over_quota());
  EXPECT_EQ(watch->Next(), "SYNCED");
  EXPECT_FALSE(watch->last.over_quota());
  over = false;
  served.catalog.Announce(Project("a"));
  EXPECT_EQ(watch->Next(), "UPDATED a");
  EXPECT_FALSE(watch->last.over_quota());
  over = true;
  served.Delete("a");
  EXPECT_EQ(watch->Next(), "DELETED a");
  EXPECT_FALSE(watch->last.over_quota());
}

// --- Batches -----------------------------------------------------------------

TEST(BatchedWatch, ListsInOneMessageAndReportsChangesInOrder) {
  Served served;
  for (const char* name : {"a", "b", "c"}) served.Create(name);
  Watch watch(*served.stub, {}, "", /*batched=*/true);
  EXPECT_THAT(watch.NextBatch(),
              ElementsAre("CREATED a", "CREATED b", "CREATED c"));
  std::vector<std::string> wanted, seen;
  for (int i = 0; i < 200; ++i) {
    const std::string name = absl::StrCat("new-", i);
    served.Create(name);
    wanted.push_back(absl::StrCat("CREATED ", name));
  }
  while (seen.size() < wanted.size()) {
    const std::vector<std::string> batch = watch.NextBatch();
    ASSERT_NE(batch, std::vector<std::string>{"end"});
    seen.insert(seen.end(), batch.begin(), batch.end());
  }
  EXPECT_EQ(seen, wanted);
}

TEST(BatchedWatch, ResumesWithinABatch) {
  Served served;
  for (const char* name : {"a", "b", "c"}) served.Create(name);
  Watch first(*served.stub, {}, "", /*batched=*/true);
  ASSERT_THAT(first.NextBatch(), testing::SizeIs(3));
  const std::string token = first.last.batch(1).resume_token();
  Watch second(*served.stub, {}, token, /*batched=*/true);
  EXPECT_THAT(second.NextBatch(), ElementsAre("CREATED c"));
}

TEST(BatchedWatch, MessagesAreBounded) {
  Served served;
  const std::string token = served.List().resume_token();
  const std::string note(20'000, 'x');
  for (int i = 0; i < 20; ++i) {
    served.Create(absl::StrCat("p-", i));
    served.Update(absl::StrCat("p-", i), note);
  }
  Watch watch(*served.stub, {}, token, /*batched=*/true);
  for (size_t seen = 0; seen < 20;) {
    ASSERT_TRUE(watch.Read());
    EXPECT_LE(watch.last.ByteSizeLong(), 64'000u + 2 * note.size());
    for (const auto& response : watch.last.batch())
      seen += response.change() == pb::CHANGE_UPDATED;
  }
}

// --- Sharing -----------------------------------------------------------------

TEST(SharedEncodings, AreBounded) {
  Served served({.synced_interval = kNever, .max_encoded_bytes = 100'000});
  served.Create("a");
  const auto watch = served.StartSynced();
  for (int i = 0; i < 100; ++i) {
    served.Update("a", std::string(20'000, 'x'));
    EXPECT_EQ(watch->Next(), "UPDATED a");
  }
  EXPECT_LE(served.watches.encoded_bytes(), 100'000u);
}

TEST(ManyWatches, SeeTheSameFinalState) {
  Served served;
  std::vector<std::unique_ptr<Watch>> watches;
  for (int i = 0; i < 20; ++i) watches.push_back(served.StartSynced());
  std::vector<std::thread> writers;
  for (int w = 0; w < 2; ++w) {
    writers.emplace_back([&, w] {
      for (int i = 0; i < 50; ++i) {
        const std::string name = absl::StrCat("w", w, "-", i % 5);
        if (served.catalog.Get(Project(name)).ok()) {
          served.Delete(name);
        } else {
          served.Create(name);
        }
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  served.Create("z-last");
  const auto expected = served.List();
  for (const auto& watch : watches) {
    std::map<std::string, std::string> uids;
    for (std::string next; next != "CREATED z-last";) {
      next = watch->Next();
      ASSERT_NE(next, "end");
      const pb::Workspace& workspace = watch->last.workspace();
      if (watch->last.change() == pb::CHANGE_DELETED) {
        uids.erase(workspace.project());
      } else {
        uids[workspace.project()] = workspace.uid();
      }
    }
    ASSERT_EQ(uids.size(), static_cast<size_t>(expected.workspaces_size()));
    for (const pb::Workspace& workspace : expected.workspaces())
      EXPECT_EQ(uids[workspace.project()], workspace.uid());
  }
}

}  // namespace
}  // namespace mlops::rpc
