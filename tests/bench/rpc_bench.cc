// Loads servers with Get or Ensure of existing workspaces, or with List. Short
// interleaved rounds make sure that other load on the machine affects all
// servers alike.
//
// Usage: rpc_bench --target NAME,PID,ADDRESS...
//                  [--method get|ensure|list|filter] [--depths 1,8,64]
//                  [--rounds N] [--round-ms MS]
//                  [--ca FILE] [--token TOKEN --token-target NAME]
//
// Addresses "https://HOST:PORT" are encrypted; the server's certificate must
// come from the authority in FILE. TOKEN is sent to the target of that name.
//
// The method `list` requests all pages of 1,000 workspaces one after the other,
// with page tokens from the last server. The method `filter` requests the first
// page of a filter that matches exactly one workspace. Prints one JSON object
// per line and round: the number of calls, the seconds that they took, the CPU
// time of the server's process, and latencies in microseconds.

#include <algorithm>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "grpcpp/completion_queue.h"
#include "mlops/workspace/v1/workspace_service.grpc.pb.h"
#include "nlohmann/json.hpp"
#include "tests/bench/workload.h"

namespace mlops::bench {
namespace {

namespace pb = mlops::workspace::v1;
using Stub = pb::WorkspaceService::Stub;

constexpr int kProjects = 64;  // Workspaces that the calls use in turn.
constexpr int kPageSize = 1'000;

struct Target {
  std::string name;
  pid_t pid = 0;
  std::unique_ptr<Stub> stub;
  // The value of the header `authorization`, or "".
  std::string authorization;
};

// Requests of the methods that concern a single workspace.
template <typename T>
struct OfProject {
  using Request = T;
  static Request MakeRequest(int64_t number) {
    Request request;
    request.set_project(ProjectAt(number % kProjects).str());
    return request;
  }
};

struct Get : OfProject<pb::GetWorkspaceRequest> {
  using Response = pb::Workspace;
  static auto Start(Stub& stub, grpc::ClientContext* context,
                    const Request& request, grpc::CompletionQueue* queue) {
    return stub.AsyncGetWorkspace(context, request, queue);
  }
};

struct Ensure : OfProject<pb::EnsureWorkspaceRequest> {
  using Response = pb::EnsureWorkspaceResponse;
  static auto Start(Stub& stub, grpc::ClientContext* context,
                    const Request& request, grpc::CompletionQueue* queue) {
    return stub.AsyncEnsureWorkspace(context, request, queue);
  }
};

// The tokens of all pages of a list, which FetchPageTokens() sets.
std::vector<std::string>& PageTokens() {
  static auto& tokens = *new std::vector<std::string>;
  return tokens;
}

struct List {
  using Request = pb::ListWorkspacesRequest;
  using Response = pb::ListWorkspacesResponse;
  static Request MakeRequest(int64_t number) {
    Request request;
    request.set_page_size(kPageSize);
    request.set_page_token(
        PageTokens()[static_cast<size_t>(number) % PageTokens().size()]);
    return request;
  }
  static auto Start(Stub& stub, grpc::ClientContext* context,
                    const Request& request, grpc::CompletionQueue* queue) {
    return stub.AsyncListWorkspaces(context, request, queue);
  }
};

struct FilteredList : List {
  static Request MakeRequest(int64_t number) {
    Request request;
    request.set_page_size(kPageSize);
    request.set_filter(absl::StrCat("metadata.epoch = ", number % 1'000));
    return request;
  }
};

struct Round {
  double seconds = 0;
  std::vector<double> latencies_us;
};

// Keeps `depth` calls in flight for about `length`, from one thread.
template <typename Method>
class Load {
 public:
  Load(const Target& target, Clock::duration length)
      : target_(target), length_(length) {}

  Round Run(int depth) {
    const Clock::time_point start = Clock::now();
    std::vector<std::unique_ptr<Call>> calls(depth);
    for (auto& call : calls) Start(call);
    // The tag of a call is its slot in `calls`. Replace each finished call
    // until the time is over, and then wait for the rest.
    Round round;
    void* tag;
    bool ok;
    for (int in_flight = depth; in_flight > 0 && queue_.Next(&tag, &ok);) {
      auto& call = *static_cast<std::unique_ptr<Call>*>(tag);
      DieUnless(call->status);
      round.latencies_us.push_back(1e6 * SecondsSince(call->started));
      if (Clock::now() - start < length_) {
        Start(call);
      } else {
        --in_flight;
      }
    }
    round.seconds = SecondsSince(start);
    return round;
  }

 private:
  struct Call {
    grpc::ClientContext context;
    typename Method::Response response;
    grpc::Status status;
    std::unique_ptr<grpc::ClientAsyncResponseReader<typename Method::Response>>
        reader;
    Clock::time_point started = Clock::now();
  };

  void Start(std::unique_ptr<Call>& call) {
    call = std::make_unique<Call>();
    if (!target_.authorization.empty())
      call->context.AddMetadata("authorization", target_.authorization);
    call->reader = Method::Start(*target_.stub, &call->context,
                                 Method::MakeRequest(next_number_++), &queue_);
    call->reader->Finish(&call->response, &call->status, &call);
  }

  const Target& target_;
  const Clock::duration length_;
  grpc::CompletionQueue queue_;
  int64_t next_number_ = 0;
};

Round RunRound(const std::string& method, const Target& target, int depth,
               Clock::duration length) {
  if (method == "list") return Load<List>(target, length).Run(depth);
  if (method == "filter") return Load<FilteredList>(target, length).Run(depth);
  return method == "get" ? Load<Get>(target, length).Run(depth)
                         : Load<Ensure>(target, length).Run(depth);
}

double Percentile(std::vector<double>& values, double fraction) {
  const auto nth =
      values.begin() + static_cast<std::ptrdiff_t>(
                           fraction * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), nth, values.end());
  return *nth;
}

void Measure(const std::string& method, Target& target, int depth, int number,
             Clock::duration length) {
  const double cpu_before = CpuSeconds(target.pid);
  Round round = RunRound(method, target, depth, length);
  const double cpu = CpuSeconds(target.pid) - cpu_before;
  const nlohmann::json line = {
      {"method", method},
      {"target", target.name},
      {"depth", depth},
      {"round", number},
      {"calls", round.latencies_us.size()},
      {"seconds", round.seconds},
      {"server_cpu_seconds", cpu},
      {"p50_us", Percentile(round.latencies_us, 0.5)},
      {"p99_us", Percentile(round.latencies_us, 0.99)}};
  std::cout << line << std::endl;
}

// Parses NAME,PID,ADDRESS, where ADDRESS may contain commas, and connects.
Target ConnectTo(const std::string& text, const std::string& ca) {
  const std::vector<std::string> parts =
      absl::StrSplit(text, absl::MaxSplits(',', 2));
  int pid = 0;
  if (parts.size() != 3 || !absl::SimpleAtoi(parts[1], &pid)) {
    DieUnless(absl::InvalidArgumentError("a target must be NAME,PID,ADDRESS"));
  }
  return {.name = parts[0],
          .pid = pid,
          .stub = pb::WorkspaceService::NewStub(Connect(parts[2], ca))};
}

// Creates the workspaces that the calls use.
void MakeWorkspaces(const Target& target) {
  for (int i = 0; i < kProjects; ++i) {
    grpc::ClientContext context;
    if (!target.authorization.empty())
      context.AddMetadata("authorization", target.authorization);
    pb::EnsureWorkspaceRequest request;
    pb::EnsureWorkspaceResponse response;
    request.set_project(ProjectAt(i).str());
    *request.mutable_workspace()->mutable_metadata() =
        ToStruct(SmallMetadata(i));
    DieUnless(target.stub->EnsureWorkspace(&context, request, &response));
  }
}

// Fetches the token of each page of the server's list. The first token is "".
void FetchPageTokens(Stub& stub) {
  pb::ListWorkspacesResponse page;
  do {
    PageTokens().push_back(page.next_page_token());
    grpc::ClientContext context;
    DieUnless(stub.ListWorkspaces(
        &context, List::MakeRequest(PageTokens().size() - 1), &page));
  } while (!page.next_page_token().empty());
}

int Main(int argc, char** argv) {
  CLI::App app("Loads servers with calls in interleaved rounds.", "rpc_bench");
  std::vector<std::string> names;
  std::string method = "get";
  std::vector<int> depths = {1, 8, 64};
  int rounds = 15, round_ms = 200;
  bool prepare = false;
  std::string ca, token, token_target;
  app.add_option("--target", names)->required();
  app.add_option("--method", method)
      ->check(CLI::IsMember({"get", "ensure", "list", "filter"}));
  app.add_option("--depths", depths)->delimiter(',');
  app.add_option("--rounds", rounds);
  app.add_option("--round-ms", round_ms);
  app.add_flag("--prepare", prepare, "Only create the workspaces");
  app.add_option("--ca", ca);
  app.add_option("--token", token);
  app.add_option("--token-target", token_target);
  CLI11_PARSE(app, argc, argv);
  std::vector<Target> targets;
  for (const std::string& name : names) targets.push_back(ConnectTo(name, ca));
  const bool of_projects = method == "get" || method == "ensure";
  for (Target& target : targets) {
    if (target.name == token_target)
      target.authorization = absl::StrCat("Bearer ", token);
    if (of_projects) MakeWorkspaces(target);
  }
  if (prepare) return 0;
  if (method == "list") FetchPageTokens(*targets.back().stub);
  const auto length = std::chrono::milliseconds(round_ms);
  for (int depth : depths) {
    // Warm up.
    for (Target& target : targets) RunRound(method, target, depth, length);
    for (int round = 0; round < rounds; ++round) {
      for (size_t i = 0; i < targets.size(); ++i) {
        // Rotate the order, so that no server always goes first or always
        // follows the same one.
        Measure(method, targets[(i + round) % targets.size()], depth, round,
                length);
      }
    }
  }
  return 0;
}

}  // namespace
}  // namespace mlops::bench

int main(int argc, char** argv) { return mlops::bench::Main(argc, argv); }
