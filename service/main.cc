// workspaced: the authority over the project workspaces below one base directory.
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
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

// Exit code by which clients that start a server know that another one was faster.
constexpr int kServedAlready = 3;

// Signals that mean "stop". Blocked in every thread, so that none of them is killed in the middle of a call, and waited
// for by one.
sigset_t BlockStopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  return signals;
}

// gRPC 1.51 never accepts again after it once ran out of descriptors: take as many as we may.
void RaiseDescriptorLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
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

// Gives freed memory back once there is much of it: what an attack, or an hour of much work, has left behind. Not more,
// for the sake of KeepFreedMemory(). To be called now and then.
void ReturnFreedMemory() {
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 33)
  constexpr size_t kMuch = size_t{64} << 20;
  static size_t kept = 0;  // What could not be given back the last time, since something in use stands between.
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
  for (int i = 1; !stop.WaitForNotificationWithTimeout(absl::Milliseconds(500)); ++i) {
    server.CheckHealth();
    if (i % 10 == 0) ReturnFreedMemory();
    if (server.IsIdle()) pthread_kill(waiter.native_handle(), SIGTERM);
  }
  waiter.join();
}

}  // namespace

int main(int argc, char** argv) {
  const auto parsed = mlops::server::ParseCommandLine(argc, argv);
  if (const int* exit_code = std::get_if<int>(&parsed)) return *exit_code;
  if (!IsAskedForGrpcLog()) gpr_set_log_function([](gpr_log_func_args*) {});
  const sigset_t signals = BlockStopSignals();
  RaiseDescriptorLimit();
  KeepFreedMemory();
  grpc_init();  // Never undone: see the end.
  auto server = mlops::server::Server::Start(std::get<mlops::server::Config>(parsed));
  if (!server.ok()) {
    std::cerr << "workspaced: " << server.status().message() << "\n";
    return absl::IsAlreadyExists(server.status()) ? kServedAlready : 1;
  }
  std::cout << "workspaced " << mlops::server::kVersion << " serves " << (*server)->base_path() << " on "
            << absl::StrJoin((*server)->addresses(), " and ") << std::endl;
  RunUntilStopped(**server, signals);
  server->reset();
  // Not by gRPC's own shutdown, which after a large write waits up to 10 s for a thread that polls for nothing any
  // more.
  std::_Exit(0);
}
