// workspaced: the server that owns the project workspaces below one base
// directory.
#include <pthread.h>
#include <sys/resource.h>

#include <csignal>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "grpc/grpc.h"
#include "grpc/support/log.h"
#include "service/core/workspace_yaml.h"
#include "service/server/commands.h"
#include "service/server/server.h"
#include "service/server/service_manager.h"
#include "service/server/version.h"

// Read by jemalloc, with which this program is linked; see jemalloc(3). A
// background thread returns unused pages to the system gradually. glibc's
// allocator has two modes, both worse. It either returns and clears the pages
// of each artifact chunk, which took half of the CPU time of an upload, or
// keeps them until malloc_trim(3), which stops every thread for up to a second
// after an attack.
extern "C" {
extern const char* malloc_conf;
const char* malloc_conf =
    "background_thread:true,narenas:4,dirty_decay_ms:20,muzzy_decay_ms:0";
}

namespace {

using mlops::server::Config;
using mlops::server::Server;
using mlops::server::ServiceManager;

// The server itself needs these for a few connections and files. Clients need
// more.
constexpr rlim_t kNeededDescriptors = 64;

// Exit codes for clients that start a server. They tell the client to connect
// to the server that was faster, or to start a read-only one.
constexpr int kServedAlready = 3;
constexpr int kCannotBeWritten = 4;

int ExitCode(const absl::Status& failure) {
  if (absl::IsCancelled(failure)) return 0;
  if (absl::IsAlreadyExists(failure)) return kServedAlready;
  return absl::IsPermissionDenied(failure) ? kCannotBeWritten : 1;
}

// Whether the process was started with `signal` ignored, as nohup(1) does for
// SIGHUP.
bool IsIgnored(int signal) {
  struct sigaction action;
  return sigaction(signal, nullptr, &action) == 0 &&
         action.sa_handler == SIG_IGN;
}

// Blocks the signals that mean "stop" in every thread, so that they interrupt
// no call. One thread waits for them.
sigset_t BlockStopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  if (!IsIgnored(SIGHUP)) sigaddset(&signals, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  return signals;
}

// Raises the descriptor limit to its maximum, because gRPC 1.51 stops accepting
// for good once it runs out of descriptors. If the maximum is too low to start,
// prints why and returns false.
bool RaiseDescriptorLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return true;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_max >= kNeededDescriptors) return true;
  std::cerr << "workspaced: this process may open " << limit.rlim_max
            << " files only (RLIMIT_NOFILE), but needs " << kNeededDescriptors
            << ": raise the limit, for example with `ulimit -n 1024`\n";
  return false;
}

// Whether to write gRPC's own log lines. They are not JSON, so only if
// GRPC_VERBOSITY asks for more than errors. "error" does not count, because our
// Python client sets it and its server inherits it.
bool IsAskedForGrpcLog() {
  const char* verbosity = std::getenv("GRPC_VERBOSITY");
  return verbosity != nullptr && !absl::EqualsIgnoreCase(verbosity, "error") &&
         !absl::EqualsIgnoreCase(verbosity, "none");
}

std::string Status(const Server& server) {
  return absl::StrCat("serves ", server.base_path(), " on ",
                      absl::StrJoin(server.addresses(), " and "));
}

// Waits while another server holds the base; see Server::KeepWaiting. Reports
// each new status. Ignores SIGHUP unless it means "stop".
class Waiter {
 public:
  Waiter(const Config& config, const sigset_t& signals,
         ServiceManager& service_manager)
      : reloads_(ReloadsOnHangup(config)),
        signals_(signals),
        service_manager_(service_manager) {}

  bool KeepWaiting(const std::string& status) {
    if (status != status_) {
      std::cout << "workspaced " << mlops::server::kVersion << " " << status
                << std::endl;
      service_manager_.StandingBy(status);
      status_ = status;
    }
    service_manager_.PingIfDue();
    constexpr timespec kTick = {.tv_nsec = 100'000'000};
    const int signal = sigtimedwait(&signals_, nullptr, &kTick);
    return signal < 0 || (signal == SIGHUP && reloads_);
  }

 private:
  const bool reloads_;
  const sigset_t& signals_;
  ServiceManager& service_manager_;
  std::string status_;
};

// Returns when the process must stop. Calls `reload` on SIGHUP, unless that
// means "stop".
void RunUntilStopped(Server& server, const sigset_t& signals,
                     ServiceManager& service_manager,
                     const std::function<void()>& reload) {
  constexpr timespec kTick = {.tv_nsec = 200'000'000};
  while (!server.ShouldLeave()) {
    server.EndIdleCalls();
    service_manager.PingIfDue();
    const int signal = sigtimedwait(&signals, nullptr, &kTick);
    if (signal == SIGHUP && reload != nullptr) {
      reload();
    } else if (signal > 0) {
      return;
    }
  }
}

// Decodes a workspace.yaml for a client: reads the text from standard input,
// and writes JSON to standard output. Returns the exit code.
int DecodeRecord(const std::string& root_path) {
  std::string text;
  char buffer[65536];
  while (std::cin.read(buffer, sizeof(buffer)) || std::cin.gcount() > 0) {
    text.append(buffer, static_cast<size_t>(std::cin.gcount()));
    if (text.size() > size_t{mlops::core::kMaxRecordBytes}) break;
  }
  std::cout << mlops::core::RecordAsJson(text, root_path) << std::endl;
  return std::cout ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && absl::string_view(argv[1]) == "--decode-record")
    return DecodeRecord(argv[2]);
  const auto parsed = mlops::server::ParseCommandLine(argc, argv);
  if (const int* exit_code = std::get_if<int>(&parsed)) return *exit_code;
  if (!IsAskedForGrpcLog()) gpr_set_log_function([](gpr_log_func_args*) {});
  // Block the signals before the server starts threads, which inherit the mask.
  const sigset_t signals = BlockStopSignals();
  if (!RaiseDescriptorLimit()) return 1;
  // Never undone, as explained at the end of main().
  grpc_init();
  const Config& config = std::get<Config>(parsed);
  ServiceManager service_manager;
  Waiter waiter(config, signals, service_manager);
  auto server = Server::Start(config, [&](const std::string& status) {
    return waiter.KeepWaiting(status);
  });
  if (!server.ok()) {
    const int exit_code = ExitCode(server.status());
    if (exit_code != 0)
      std::cerr << "workspaced: " << server.status().message() << "\n";
    // Skip destructors, for the same reason as at the end of main().
    std::_Exit(exit_code);
  }
  std::cout << "workspaced " << mlops::server::kVersion << " "
            << Status(**server) << std::endl;
  service_manager.Ready(Status(**server));
  const auto reload = [&] {
    service_manager.Reloading();
    (*server)->Reload(mlops::server::ReadConfigAgain(argc, argv));
    service_manager.Ready(Status(**server));
  };
  RunUntilStopped(
      **server, signals, service_manager,
      ReloadsOnHangup(config) ? std::function<void()>(reload) : nullptr);
  service_manager.Stopping();
  server->reset();
  // Skip gRPC's own shutdown. After a large write, it waits up to 10 s for a
  // thread that has nothing left to poll.
  std::_Exit(0);
}
