// Measures durable Create and Update in three ways, in short interleaved
// rounds: the bare system calls, the Authority with a FileCatalog in this
// process, and a server.
//
// Usage: commit_bench --dir DIR [--server ADDRESS] [--threads 1,16]
//                     [--rounds N] [--round-ms MS]
//
// DIR must be on the file system of the server's base. The program fills it and
// does not clean up. Prints one JSON object per line and round.
#include <atomic>
#include <filesystem>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "mlops/workspace/v1/workspace_service.grpc.pb.h"
#include "nlohmann/json.hpp"
#include "service/catalog/file_catalog.h"
#include "service/core/authority.h"
#include "service/core/workspace_yaml.h"
#include "tests/bench/bare_calls.h"
#include "tests/bench/workload.h"

namespace mlops::bench {
namespace {

namespace pb = mlops::workspace::v1;

// One way of making changes durable. Thread-safe as long as concurrent calls
// use different workspace numbers.
class Way {
 public:
  virtual ~Way() = default;
  virtual void Create(int64_t number) = 0;
  virtual void Update(int64_t number, int64_t epoch) = 0;
};

class BareWay final : public Way {
 public:
  explicit BareWay(const std::string& dir)
      : calls_(dir), record_(core::EncodeWorkspace(WorkspaceAt(0, dir))) {}

  void Create(int64_t number) override {
    calls_.Create(ProjectAt(number).str(), record_);
  }
  void Update(int64_t number, int64_t) override {
    calls_.Update(ProjectAt(number).str(), record_);
  }

 private:
  BareCalls calls_;
  const std::string record_;
};

class InProcessWay final : public Way {
 public:
  explicit InProcessWay(const std::string& dir) {
    std::filesystem::create_directories(dir);
    auto base = fs::OpenBaseDir(dir);
    DieUnless(base.status());
    auto catalog = catalog::FileCatalog::Open(*std::move(base), dir, {});
    DieUnless(catalog.status());
    catalog_ = *std::move(catalog);
    authority_ =
        std::make_unique<core::Authority>(catalog_.get(), nullptr, dir);
  }

  void Create(int64_t number) override {
    DieUnless(authority_
                  ->Create({.project = ProjectAt(number),
                            .metadata = SmallMetadata(number)})
                  .status());
  }

  void Update(int64_t number, int64_t epoch) override {
    DieUnless(authority_
                  ->Update({.project = ProjectAt(number),
                            .spec = {.metadata = {{"epoch", epoch}}}})
                  .status());
  }

 private:
  std::unique_ptr<catalog::FileCatalog> catalog_;
  std::unique_ptr<core::Authority> authority_;
};

class ServerWay final : public Way {
 public:
  explicit ServerWay(const std::string& address)
      : stub_(pb::WorkspaceService::NewStub(Connect(address))) {}

  void Create(int64_t number) override {
    pb::CreateWorkspaceRequest request;
    request.set_project(ProjectAt(number).str());
    *request.mutable_workspace()->mutable_metadata() =
        ToStruct(SmallMetadata(number));
    grpc::ClientContext context;
    pb::Workspace response;
    DieUnless(stub_->CreateWorkspace(&context, request, &response));
  }

  void Update(int64_t number, int64_t epoch) override {
    pb::UpdateWorkspaceRequest request;
    request.mutable_workspace()->set_project(ProjectAt(number).str());
    *request.mutable_workspace()->mutable_metadata() =
        ToStruct({{"epoch", epoch}});
    grpc::ClientContext context;
    pb::Workspace response;
    DieUnless(stub_->UpdateWorkspace(&context, request, &response));
  }

 private:
  const std::unique_ptr<pb::WorkspaceService::Stub> stub_;
};

struct NamedWay {
  std::string name;
  std::unique_ptr<Way> way;
  int64_t created = 0;
};

struct Round {
  int64_t calls = 0;
  double seconds = 0;
};

// Calls `work(thread, i)` repeatedly from each thread for about `length`, with
// an `i` that starts at 0 in each thread.
Round Run(int threads, Clock::duration length,
          const std::function<void(int, int64_t)>& work) {
  const Clock::time_point start = Clock::now();
  std::atomic<int64_t> calls = 0;
  std::vector<std::thread> runners;
  for (int thread = 0; thread < threads; ++thread) {
    runners.emplace_back([&, thread] {
      int64_t i = 0;
      for (; Clock::now() - start < length; ++i) work(thread, i);
      calls += i;
    });
  }
  for (std::thread& runner : runners) runner.join();
  return {.calls = calls, .seconds = SecondsSince(start)};
}

Round RunCreates(NamedWay& way, int threads, Clock::duration length) {
  std::atomic<int64_t> next = way.created;
  const Round round =
      Run(threads, length, [&](int, int64_t) { way.way->Create(next++); });
  way.created = next;
  return round;
}

// Updates one workspace per thread. Never repeats an epoch of an earlier round,
// because an update that changes nothing is not written.
Round RunUpdates(NamedWay& way, int round, int threads,
                 Clock::duration length) {
  return Run(threads, length, [&](int thread, int64_t i) {
    way.way->Update(thread, 1'000'000 * (round + 1) + i);
  });
}

void Print(const std::string& what, const NamedWay& way, int threads,
           int number, const Round& round) {
  std::cout << nlohmann::json{{"method", what},
                              {"target", way.name},
                              {"threads", threads},
                              {"round", number},
                              {"calls", round.calls},
                              {"seconds", round.seconds}}
            << std::endl;
}

int Main(int argc, char** argv) {
  CLI::App app("Measures durable changes in three ways.", "commit_bench");
  std::string dir, server;
  std::vector<int> thread_counts = {1, 16};
  int rounds = 15, round_ms = 200;
  app.add_option("--dir", dir)->required();
  app.add_option("--server", server);
  app.add_option("--threads", thread_counts)->delimiter(',');
  app.add_option("--rounds", rounds);
  app.add_option("--round-ms", round_ms);
  CLI11_PARSE(app, argc, argv);
  // The server disables deadlock detection, too.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  std::vector<NamedWay> ways;
  ways.push_back(
      {"bare", std::make_unique<BareWay>(absl::StrCat(dir, "/bare"))});
  ways.push_back({"in process", std::make_unique<InProcessWay>(
                                    absl::StrCat(dir, "/in_process"))});
  if (!server.empty())
    ways.push_back({"server", std::make_unique<ServerWay>(server)});
  const auto length = std::chrono::milliseconds(round_ms);
  int update_round = 0;
  for (int threads : thread_counts) {
    // Warm up, and create a workspace for each thread to update.
    for (NamedWay& way : ways) {
      while (way.created < threads) RunCreates(way, threads, length);
    }
    for (int round = 0; round < rounds; ++round) {
      for (size_t i = 0; i < ways.size(); ++i) {
        NamedWay& way = ways[(i + round) % ways.size()];
        Print("create", way, threads, round, RunCreates(way, threads, length));
      }
      for (size_t i = 0; i < ways.size(); ++i) {
        NamedWay& way = ways[(i + round) % ways.size()];
        Print("update", way, threads, round,
              RunUpdates(way, update_round++, threads, length));
      }
    }
  }
  return 0;
}

}  // namespace
}  // namespace mlops::bench

int main(int argc, char** argv) { return mlops::bench::Main(argc, argv); }
