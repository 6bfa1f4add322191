// workspaced: the server that owns the project workspaces below one
// base directory.
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>
#include <thread>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/notification.h"
#include "grpc/grpc.h"
#include "grpc/support/log.h"
#include "service/core/workspace_yaml.h"
#include "service/server/config.h"
#include "service/server/server.h"
#include "service/server/version.h"

namespace {

// The server itself needs these for a few connections and files;
// clients need more.
constexpr rlim_t kNeededDescriptors = 64;

// Exit codes that tell clients which start a server what to do:
// connect to the server that was faster, or start a read-only one.
constexpr int kServedAlready = 3;
constexpr int kCannotBeWritten = 4;

int ExitCode(const absl::Status& failure) {
  if (absl::IsAlreadyExists(failure)) return kServedAlready;
  return absl::IsPermissionDenied(failure) ? kCannotBeWritten : 1;
}

// Whether the process was started with `signal` ignored, as nohup(1) does
// with SIGHUP.
bool IsIgnored(int signal) {
  struct sigaction action;
  return sigaction(signal, nullptr, &action) == 0 &&
         action.sa_handler == SIG_IGN;
}

// Blocks the signals that mean "stop" in every thread, so that none is killed
// in the middle of a call. One thread waits for them.
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

// Raises the descriptor limit to the maximum, because gRPC 1.51 never accepts
// again after it once ran out of descriptors. Returns false, and prints why,
// if the maximum is too low to start.
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

// Makes glibc retain freed memory. By default it returns the memory
// of each artifact chunk to the system, which clears it for the next one;
// that took half of the CPU time of an upload.
void KeepFreedMemory() {
#ifdef __GLIBC__
  // For each arena.
  constexpr int kKeptBytes = 8 << 20;
  mallopt(M_TRIM_THRESHOLD, kKeptBytes);
  mallopt(M_MMAP_THRESHOLD, kKeptBytes);
#endif
}

// Returns freed memory to the system if there is much of it,
// for example after an attack or a busy hour. Keeps small amounts,
// for the reason in KeepFreedMemory(). Called every few seconds.
void ReturnFreedMemory() {
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 33)
  constexpr size_t kMuch = size_t{64} << 20;
  // What the last trim could not return, because memory in use lies between.
  static size_t kept = 0;
  size_t pages = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> pages >> resident;
  resident *= static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const auto freed = [](size_t resident) {
    const struct mallinfo2 info = mallinfo2();
    const size_t used = info.uordblks + info.hblkhd;
    return resident > used ? resident - used : 0;
  };
  if (freed(resident) < kept + kMuch) return;
  malloc_trim(0);
  std::ifstream("/proc/self/statm") >> pages >> resident;
  kept = freed(resident * static_cast<size_t>(sysconf(_SC_PAGESIZE)));
#endif
}

// Whether gRPC's own log lines are wanted. They are not JSON,
// so they are written only if GRPC_VERBOSITY asks for more than errors. "error"
// does not count: our Python client sets it, and its server inherits it.
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
  for (int i = 1; !stop.WaitForNotificationWithTimeout(absl::Milliseconds(200));
       ++i) {
    server.EndIdleCalls();
    if (i % 25 == 0) ReturnFreedMemory();
    if (server.ShouldLeave()) pthread_kill(waiter.native_handle(), SIGTERM);
  }
  waiter.join();
}

// Decodes a workspace.yaml for a client: reads the text from standard input and
// writes JSON to standard output. Returns the exit code.
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
  const sigset_t signals = BlockStopSignals();
  if (!RaiseDescriptorLimit()) return 1;
  KeepFreedMemory();
  // Never undone; see the end of main().
  grpc_init();
  auto server =
      mlops::server::Server::Start(std::get<mlops::server::Config>(parsed));
  if (!server.ok()) {
    std::cerr << "workspaced: " << server.status().message() << "\n";
    return ExitCode(server.status());
  }
  std::cout << "workspaced " << mlops::server::kVersion << " serves "
            << (*server)->base_path() << " on "
            << absl::StrJoin((*server)->addresses(), " and ") << std::endl;
  RunUntilStopped(**server, signals);
  server->reset();
  // Skip gRPC's own shutdown: after a large write it waits up to 10 s
  // for a thread that has nothing left to poll.
  std::_Exit(0);
}
