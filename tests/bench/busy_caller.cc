// Calls Get as another client of a measured server does, until its standard
// input ends. Prints "ready" at the start, and at the end one JSON object with
// the number of calls by status code.
//
// Usage: busy_caller --address ADDRESS [--token TOKEN]
//                    (--depth N | --per-second N)
//
// With --depth, keeps N calls in flight, and starts no call in place of one
// that the server refuses with UNAVAILABLE. With --per-second, starts N calls
// a second, however long they take.
#include <poll.h>

#include <chrono>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "grpcpp/completion_queue.h"
#include "mlops/workspace/v1/workspace_service.grpc.pb.h"
#include "nlohmann/json.hpp"
#include "tests/bench/workload.h"

namespace mlops::bench {
namespace {

namespace pb = mlops::workspace::v1;

constexpr auto kTick = std::chrono::milliseconds(5);

bool StdinHasEnded() {
  pollfd input = {.fd = 0, .events = POLLIN};
  return ::poll(&input, 1, 0) > 0;
}

class Caller {
 public:
  Caller(const std::string& address, const std::string& token)
      : stub_(pb::WorkspaceService::NewStub(Connect(address, ""))) {
    if (!token.empty()) authorization_ = absl::StrCat("Bearer ", token);
  }

  void KeepInFlight(int depth) {
    for (int i = 0; i < depth; ++i) Start();
    while (!StdinHasEnded()) Reap(kTick, /*again=*/true);
  }

  void CallAtRate(int per_second) {
    const auto start = Clock::now();
    for (int64_t started = 0; !StdinHasEnded();) {
      const auto due = static_cast<int64_t>(SecondsSince(start) * per_second);
      for (; started < due; ++started) Start();
      Reap(kTick, /*again=*/false);
    }
  }

  // Waits for the calls in flight. Returns the number of calls by status code.
  std::map<std::string, int64_t> Finish() {
    while (in_flight_ > 0) Reap(kTick, /*again=*/false);
    return counts_;
  }

 private:
  struct Call {
    grpc::ClientContext context;
    pb::Workspace response;
    grpc::Status status;
    std::unique_ptr<grpc::ClientAsyncResponseReader<pb::Workspace>> reader;
  };

  void Start() {
    auto* const call = new Call;
    if (!authorization_.empty())
      call->context.AddMetadata("authorization", authorization_);
    pb::GetWorkspaceRequest request;
    request.set_project(ProjectAt(0).str());
    call->reader = stub_->AsyncGetWorkspace(&call->context, request, &queue_);
    call->reader->Finish(&call->response, &call->status, call);
    ++in_flight_;
  }

  // Handles calls that end within `time`. With `again`, starts a call in place
  // of each that was not refused.
  void Reap(std::chrono::milliseconds time, bool again) {
    const auto deadline = std::chrono::system_clock::now() + time;
    void* tag;
    bool ok;
    while (queue_.AsyncNext(&tag, &ok, deadline) ==
           grpc::CompletionQueue::GOT_EVENT) {
      const std::unique_ptr<Call> call(static_cast<Call*>(tag));
      --in_flight_;
      const auto code = call->status.error_code();
      ++counts_[absl::StrCat(code)];
      if (again && code != grpc::StatusCode::UNAVAILABLE) Start();
    }
  }

  const std::unique_ptr<pb::WorkspaceService::Stub> stub_;
  std::string authorization_;
  grpc::CompletionQueue queue_;
  int in_flight_ = 0;
  std::map<std::string, int64_t> counts_;
};

int Main(int argc, char** argv) {
  CLI::App app("Calls a server until standard input ends.", "busy_caller");
  std::string address, token;
  int depth = 0, per_second = 0;
  app.add_option("--address", address)->required();
  app.add_option("--token", token);
  app.add_option("--depth", depth);
  app.add_option("--per-second", per_second);
  CLI11_PARSE(app, argc, argv);
  Caller caller(address, token);
  std::cout << "ready" << std::endl;
  if (per_second > 0) {
    caller.CallAtRate(per_second);
  } else {
    caller.KeepInFlight(depth);
  }
  std::cout << nlohmann::json(caller.Finish()) << std::endl;
  return 0;
}

}  // namespace
}  // namespace mlops::bench

int main(int argc, char** argv) { return mlops::bench::Main(argc, argv); }
