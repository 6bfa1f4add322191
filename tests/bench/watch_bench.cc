// Updates records while many clients watch them, in short rounds that
// interleave the servers.
//
// Usage: watch_bench --target NAME,KIND,PID,WATCHERS,ADDRESS...
//                    [--connections N] [--rounds N] [--updates N]
//                    [--writers N] [--interval-us N] [--others] [--single]
//
// KIND is workspaced or etcd. Each target gets that many watches of
// everything, over N connections, and in each round N updates of different
// records, from so many threads: as fast as they go, or one per interval. A
// round ends when every watch has received every change. With --others,
// the watches wait for a workspace that is never updated. The values in etcd
// are as large as makes the events of both kinds equally long. With --single,
// the watches of workspaced ask for one event per message, not for batches.
//
// Prints one JSON object per target and round: the updates, the seconds that
// the calls took in total and their latencies in microseconds, the number of
// events that arrived with the bytes of one, the seconds until
// the last had arrived, and the CPU time of the server's process in the round.
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "etcd.grpc.pb.h"
#include "grpcpp/completion_queue.h"
#include "mlops/workspace/v1/workspace_service.grpc.pb.h"
#include "nlohmann/json.hpp"
#include "tests/bench/workload.h"

namespace mlops::bench {
namespace {

namespace pb = mlops::workspace::v1;

constexpr auto kPoll = std::chrono::milliseconds(1);
constexpr auto kPatience = std::chrono::seconds(60);

// What the watches of a server have received.
struct Received {
  // Watches that have begun.
  std::atomic<int64_t> ready = 0;
  std::atomic<int64_t> events = 0;
  // Bytes of the last event.
  std::atomic<int64_t> message_bytes = 0;
};

// A watch, whose messages the thread of a completion queue receives.
class Watch {
 public:
  virtual ~Watch() = default;
  // Handles the end of an operation.
  virtual void Proceed(bool ok) = 0;
};

class OurWatch final : public Watch {
 public:
  OurWatch(pb::WorkspaceService::Stub& stub,
           const pb::WatchWorkspacesRequest& request, Received* received,
           grpc::CompletionQueue* queue)
      : received_(received),
        reader_(stub.PrepareAsyncWatchWorkspaces(&context_, request, queue)) {
    reader_->StartCall(this);
  }

  void Proceed(bool ok) override {
    if (!ok) DieUnless(absl::AbortedError("a watch ended"));
    if (std::exchange(started_, true)) Count();
    reader_->Read(&message_, this);
  }

 private:
  void Count() {
    if (message_.batch().empty()) CountEach(message_);
    for (const auto& each : message_.batch()) CountEach(each);
  }

  void CountEach(const pb::WatchWorkspacesResponse& each) {
    if (each.change() == pb::CHANGE_SYNCED) {
      if (!std::exchange(synced_, true)) ++received_->ready;
      return;
    }
    received_->message_bytes = static_cast<int64_t>(each.ByteSizeLong());
    ++received_->events;
  }

  Received* const received_;
  grpc::ClientContext context_;
  const std::unique_ptr<grpc::ClientAsyncReader<pb::WatchWorkspacesResponse>>
      reader_;
  pb::WatchWorkspacesResponse message_;
  bool started_ = false;
  bool synced_ = false;
};

class EtcdWatch final : public Watch {
 public:
  EtcdWatch(etcdserverpb::Watch::Stub& stub, Received* received,
            grpc::CompletionQueue* queue)
      : received_(received), stream_(stub.PrepareAsyncWatch(&context_, queue)) {
    stream_->StartCall(this);
  }

  void Proceed(bool ok) override {
    if (!ok) DieUnless(absl::AbortedError("a watch ended"));
    switch (done_++) {
      case 0:
        return Create();
      case 1:
        break;
      default:
        Count();
    }
    stream_->Read(&message_, this);
  }

 private:
  void Create() {
    etcdserverpb::WatchRequest request;
    const std::string zero(1, '\0');
    request.mutable_create_request()->set_key(zero);
    request.mutable_create_request()->set_range_end(zero);
    stream_->Write(request, this);
  }

  void Count() {
    if (message_.canceled()) DieUnless(absl::AbortedError("a watch ended"));
    if (message_.created()) ++received_->ready;
    if (message_.events_size() == 0) return;
    received_->message_bytes = static_cast<int64_t>(message_.ByteSizeLong());
    received_->events += message_.events_size();
  }

  Received* const received_;
  grpc::ClientContext context_;
  const std::unique_ptr<grpc::ClientAsyncReaderWriter<
      etcdserverpb::WatchRequest, etcdserverpb::WatchResponse>>
      stream_;
  etcdserverpb::WatchResponse message_;
  // Operations that have ended.
  int64_t done_ = 0;
};

// A server, as its client sees it.
class Server {
 public:
  virtual ~Server() = default;
  // Opens a watch of everything, or of a record that is never updated.
  virtual std::unique_ptr<Watch> Open(
      const std::shared_ptr<grpc::Channel>& channel, bool others,
      Received* received, grpc::CompletionQueue* queue) = 0;
  virtual void Update(int64_t record, int64_t epoch) = 0;
  // Makes later messages longer, where that is possible.
  virtual void Lengthen(int64_t /*bytes*/) {}
};

class Workspaced final : public Server {
 public:
  Workspaced(const std::string& address, int records, bool batched)
      : batched_(batched),
        stub_(pb::WorkspaceService::NewStub(Connect(address))) {
    for (int i = 0; i < records; ++i) {
      grpc::ClientContext context;
      pb::EnsureWorkspaceRequest request;
      pb::EnsureWorkspaceResponse response;
      request.set_project(ProjectAt(i).str());
      DieUnless(stub_->EnsureWorkspace(&context, request, &response));
    }
  }

  std::unique_ptr<Watch> Open(const std::shared_ptr<grpc::Channel>& channel,
                              bool others, Received* received,
                              grpc::CompletionQueue* queue) override {
    pb::WatchWorkspacesRequest request;
    request.set_resume_token(TokenNow());
    request.set_batched(batched_);
    if (others) request.add_projects("another");
    auto& stub = stubs_[channel.get()];
    if (stub == nullptr) stub = pb::WorkspaceService::NewStub(channel);
    return std::make_unique<OurWatch>(*stub, request, received, queue);
  }

  void Update(int64_t record, int64_t epoch) override {
    grpc::ClientContext context;
    pb::UpdateWorkspaceRequest request;
    pb::Workspace response;
    request.mutable_workspace()->set_project(ProjectAt(record).str());
    *request.mutable_workspace()->mutable_metadata() =
        ToStruct(SmallMetadata(epoch));
    DieUnless(stub_->UpdateWorkspace(&context, request, &response));
  }

 private:
  std::string TokenNow() {
    grpc::ClientContext context;
    pb::ListWorkspacesRequest request;
    pb::ListWorkspacesResponse response;
    request.set_page_size(1);
    DieUnless(stub_->ListWorkspaces(&context, request, &response));
    return response.resume_token();
  }

  const bool batched_;
  const std::unique_ptr<pb::WorkspaceService::Stub> stub_;
  std::map<grpc::Channel*, std::unique_ptr<pb::WorkspaceService::Stub>> stubs_;
};

class Etcd final : public Server {
 public:
  explicit Etcd(const std::string& address)
      : stub_(etcdserverpb::KV::NewStub(Connect(address))) {}

  std::unique_ptr<Watch> Open(const std::shared_ptr<grpc::Channel>& channel,
                              bool /*others*/, Received* received,
                              grpc::CompletionQueue* queue) override {
    auto& stub = stubs_[channel.get()];
    if (stub == nullptr) stub = etcdserverpb::Watch::NewStub(channel);
    return std::make_unique<EtcdWatch>(*stub, received, queue);
  }

  void Update(int64_t record, int64_t epoch) override {
    grpc::ClientContext context;
    etcdserverpb::PutRequest request;
    etcdserverpb::PutResponse response;
    request.set_key(ProjectAt(record).str());
    std::string value = absl::StrCat(epoch);
    value.resize(std::max(value.size(), bytes_), '.');
    request.set_value(std::move(value));
    DieUnless(stub_->Put(&context, request, &response));
  }

  void Lengthen(int64_t bytes) override {
    bytes_ += static_cast<size_t>(std::max(bytes, int64_t{0}));
  }

 private:
  const std::unique_ptr<etcdserverpb::KV::Stub> stub_;
  std::map<grpc::Channel*, std::unique_ptr<etcdserverpb::Watch::Stub>> stubs_;
  size_t bytes_ = 64;
};

struct Settings {
  int connections = 10;
  int updates = 50;
  int writers = 1;
  int interval_us = 0;
  bool others = false;
  bool single = false;
};

// A server and its watches.
class Target {
 public:
  // Parses NAME,KIND,PID,WATCHERS,ADDRESS, and opens the watches.
  Target(const std::string& text, const Settings& settings)
      : settings_(settings) {
    const std::vector<std::string> parts =
        absl::StrSplit(text, absl::MaxSplits(',', 4));
    if (parts.size() != 5 || !absl::SimpleAtoi(parts[2], &pid_) ||
        !absl::SimpleAtoi(parts[3], &watchers_))
      DieUnless(absl::InvalidArgumentError(
          "a target must be NAME,KIND,PID,WATCHERS,ADDRESS"));
    name_ = parts[0];
    if (parts[1] == "etcd") {
      server_ = std::make_unique<Etcd>(parts[4]);
    } else {
      server_ = std::make_unique<Workspaced>(parts[4], settings.updates,
                                             !settings.single);
    }
    thread_ = std::thread([this] { Receive(); });
    std::vector<std::shared_ptr<grpc::Channel>> channels;
    for (int i = 0; i < std::min(settings.connections, watchers_); ++i)
      channels.push_back(Connect(parts[4]));
    for (size_t i = 0; i < static_cast<size_t>(watchers_); ++i) {
      watches_.push_back(server_->Open(channels[i % channels.size()],
                                       settings.others, &received_, &queue_));
    }
    Await(received_.ready, watchers_);
  }

  // Updates one record, and returns the bytes of the message about it.
  int64_t MessageBytes() {
    Update(0);
    return received_.message_bytes;
  }
  void Lengthen(int64_t bytes) { server_->Lengthen(bytes); }

  int watchers() const { return watchers_; }

  nlohmann::json Round(int number) {
    const double cpu_before = CpuSeconds(pid_);
    const int64_t events_before = received_.events;
    const Clock::time_point start = Clock::now();
    std::vector<double> latencies_us(static_cast<size_t>(settings_.updates));
    std::vector<std::thread> writers;
    for (int first = 0; first < settings_.writers; ++first) {
      writers.emplace_back([&, first] {
        for (int i = first; i < settings_.updates; i += settings_.writers) {
          std::this_thread::sleep_until(
              start + std::chrono::microseconds(settings_.interval_us) * i);
          const Clock::time_point begin = Clock::now();
          server_->Update(i, ++epoch_);
          latencies_us[static_cast<size_t>(i)] = 1e6 * SecondsSince(begin);
        }
      });
    }
    for (std::thread& writer : writers) writer.join();
    const double seconds =
        1e-6 * std::accumulate(latencies_us.begin(), latencies_us.end(), 0.0);
    const int64_t expected = Expected(settings_.updates);
    Await(received_.events, events_before + expected);
    const double all_seconds = SecondsSince(start);
    std::sort(latencies_us.begin(), latencies_us.end());
    return {{"target", name_},
            {"round", number},
            {"calls", settings_.updates},
            {"seconds", seconds},
            {"p50_us", latencies_us[latencies_us.size() / 2]},
            {"p99_us", latencies_us[latencies_us.size() * 99 / 100]},
            {"events", expected},
            {"message_bytes", received_.message_bytes.load()},
            {"all_seconds", all_seconds},
            {"server_cpu_seconds", CpuSeconds(pid_) - cpu_before}};
  }

 private:
  int64_t Expected(int64_t updates) const {
    return settings_.others ? 0 : updates * watchers_;
  }

  void Update(int64_t record) {
    const int64_t before = received_.events;
    server_->Update(record, ++epoch_);
    Await(received_.events, before + Expected(1));
  }

  static void Await(const std::atomic<int64_t>& count, int64_t wanted) {
    const Clock::time_point start = Clock::now();
    while (count < wanted) {
      if (Clock::now() - start > kPatience) {
        DieUnless(absl::DeadlineExceededError(
            absl::StrCat("only ", count.load(), " of ", wanted, " arrived")));
      }
      std::this_thread::sleep_for(kPoll);
    }
  }

  // Runs until the process ends.
  void Receive() {
    void* tag;
    bool ok;
    while (queue_.Next(&tag, &ok)) static_cast<Watch*>(tag)->Proceed(ok);
  }

  const Settings settings_;
  std::string name_;
  int pid_ = 0;
  int watchers_ = 0;
  std::unique_ptr<Server> server_;
  grpc::CompletionQueue queue_;
  Received received_;
  std::vector<std::unique_ptr<Watch>> watches_;
  std::atomic<int64_t> epoch_ = 0;
  std::thread thread_;
};

// Each watch may have a connection.
void RaiseFileLimit() {
  rlimit limit;
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

int Main(int argc, char** argv) {
  CLI::App app("Updates records that many clients watch.", "watch_bench");
  std::vector<std::string> texts;
  Settings settings;
  int rounds = 15;
  app.add_option("--target", texts)->required();
  app.add_option("--connections", settings.connections);
  app.add_option("--rounds", rounds);
  app.add_option("--updates", settings.updates);
  app.add_option("--writers", settings.writers);
  app.add_option("--interval-us", settings.interval_us);
  app.add_flag("--others", settings.others);
  app.add_flag("--single", settings.single);
  CLI11_PARSE(app, argc, argv);
  RaiseFileLimit();
  std::vector<std::unique_ptr<Target>> targets;
  for (const std::string& text : texts)
    targets.push_back(std::make_unique<Target>(text, settings));
  // The first target's messages are the measure of the others'.
  const int64_t bytes = targets.front()->MessageBytes();
  for (const auto& target : targets)
    if (target->watchers() > 0)
      target->Lengthen(bytes - target->MessageBytes());
  // Round -1 warms up.
  for (int round = -1; round < rounds; ++round) {
    for (size_t i = 0; i < targets.size(); ++i) {
      // Rotate the order, so that no server always goes first.
      auto& target = *targets[(i + round + 1) % targets.size()];
      const nlohmann::json row = target.Round(round);
      if (round >= 0) std::cout << row << std::endl;
    }
  }
  // The watches never end, so end the process with them.
  std::cout.flush();
  std::_Exit(0);
}

}  // namespace
}  // namespace mlops::bench

int main(int argc, char** argv) { return mlops::bench::Main(argc, argv); }
