// workspaced: the authority over the project workspaces below one base directory.
#include <pthread.h>
#include <sys/resource.h>

#include <csignal>
#include <cstdlib>
#include <iostream>
#include <thread>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/notification.h"
#include "grpc/grpc.h"
#include "grpc/support/log.h"
#include "service/server/config.h"
#include "service/server/server.h"
#include "service/server/version.h"

namespace {

// For itself, a few connections and a few files; a server with clients needs more.
constexpr rlim_t kNeededDescriptors = 64;

// Exit codes by which clients that start a server know what to do: look for the one that was faster, or start one that
// only reads.
constexpr int kServedAlready = 3;
constexpr int kCannotBeWritten = 4;

int ExitCode(const absl::Status& failure) {
  if (absl::IsAlreadyExists(failure)) return kServedAlready;
  return absl::IsPermissionDenied(failure) ? kCannotBeWritten : 1;
}

// Whether the process was started with `signal` ignored, as nohup(1) does with SIGHUP.
bool IsIgnored(int signal) {
  struct sigaction action;
  return sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

// Signals that mean "stop". Blocked in every thread, so that none of them is killed in the middle of a call, and waited
// for by one.
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

// gRPC 1.51 never accepts again after it once ran out of descriptors: take as many as we may. Returns false, having
// said so, if that is too few to begin with.
bool RaiseDescriptorLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return true;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_max >= kNeededDescriptors) return true;
  std::cerr << "workspaced: this process may open " << limit.rlim_max << " files only (RLIMIT_NOFILE), and needs "
            << kNeededDescriptors << ": raise the limit, as by `ulimit -n 1024`\n";
  return false;
}

// Chunks of artifacts come and go all the time: glibc, as it comes, gives their memory back to the system each time,
// which then has to clear it anew. That took half of the CPU time of an upload.
void KeepFreedMemory() {
#ifdef __GLIBC__
  constexpr int kKeptBytes = 8 << 20;  // In each of its arenas.
  mallopt(M_TRIM_THRESHOLD, kKeptBytes);
  mallopt(M_MMAP_THRESHOLD, kKeptBytes);
#endif
}

// What gRPC has to say about itself stays out of a log of JSON lines, unless somebody asks for more than errors: that
// alone is what our Python client sets, and its server inherits.
bool IsAskedForGrpcLog() {
  const char* verbosity = std::getenv("GRPC_VERBOSITY");
  return verbosity != nullptr && !absl::EqualsIgnoreCase(verbosity, "error") &&
         !absl::EqualsIgnoreCase(verbosity, "none");
}

void RunUntilStopped(mlops::server::Server& server, const sigset_t& signals) {
  absl::Notification stop;
  std::thread waiter([&] {
    int signal;
    sigwait(&signals, &signal);
    stop.Notify();
  });
  while (!stop.WaitForNotificationWithTimeout(absl::Milliseconds(200))) {
    if (server.ShouldLeave()) pthread_kill(waiter.native_handle(), SIGTERM);
  }
  waiter.join();
}

}  // namespace

int main(int argc, char** argv) {
  const auto parsed = mlops::server::ParseCommandLine(argc, argv);
  if (const int* exit_code = std::get_if<int>(&parsed)) return *exit_code;
  if (!IsAskedForGrpcLog()) gpr_set_log_function([](gpr_log_func_args*) {});
  const sigset_t signals = BlockStopSignals();
  if (!RaiseDescriptorLimit()) return 1;
  KeepFreedMemory();
  grpc_init();  // Never undone: see the end.
  auto server = mlops::server::Server::Start(std::get<mlops::server::Config>(parsed));
  if (!server.ok()) {
    std::cerr << "workspaced: " << server.status().message() << "\n";
    return ExitCode(server.status());
  }
  std::cout << "workspaced " << mlops::server::kVersion << " serves " << (*server)->base_path() << " on "
            << absl::StrJoin((*server)->addresses(), " and ") << std::endl;
  RunUntilStopped(**server, signals);
  server->reset();
  // Not by gRPC's own shutdown, which after a large write waits up to 10 s for a thread that polls for nothing any
  // more.
  std::_Exit(0);
}
