// workspaced: the authority over the project workspaces below one base
// directory.
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

// For itself, a few connections and a few files; a server with clients needs
// more.
constexpr rlim_t kNeededDescriptors = 64;

// Exit codes by which clients that start a server know what to do: look for the
// one that was faster, or start one that only reads.
constexpr int kServedAlready = 3;
constexpr int kCannotBeWritten = 4;

int ExitCode(const absl::Status& failure) {
  if (absl::IsAlreadyExists(failure)) return kServedAlready;
  return absl::IsPermissionDenied(failure) ? kCannotBeWritten : 1;
}

// Whether the process was started with `signal` ignored, as nohup(1) does with
// SIGHUP.
bool IsIgnored(int signal) {
  struct sigaction action;
  return sigaction(signal, nullptr, &action) == 0 &&
         action.sa_handler == SIG_IGN;
}

// Signals that mean "stop". Blocked in every thread, so that none of them is
// killed in the middle of a call, and waited for by one.
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

// gRPC 1.51 never accepts again after it once ran out of descriptors: take as
// many as we may. Returns false, having said so, if that is too few to begin
// with.
bool RaiseDescriptorLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return true;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_max >= kNeededDescriptors) return true;
  std::cerr << "workspaced: this process may open " << limit.rlim_max
            << " files only (RLIMIT_NOFILE), and needs " << kNeededDescriptors
            << ": raise the limit, as by `ulimit -n 1024`\n";
  return false;
}

// Chunks of artifacts come and go all the time: glibc, as it comes, gives their
// memory back to the system each time, which then has to clear it anew. That
// took half of the CPU time of an upload.
void KeepFreedMemory() {
#ifdef __GLIBC__
  constexpr int kKeptBytes = 8 << 20;  // In each of its arenas.
  mallopt(M_TRIM_THRESHOLD, kKeptBytes);
  mallopt(M_MMAP_THRESHOLD, kKeptBytes);
#endif
}

// Gives freed memory back once there is much of it: what an attack, or an hour
// of much work, has left behind. Not more, for the sake of KeepFreedMemory().
// To be called now and then.
void ReturnFreedMemory() {
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 33)
  constexpr size_t kMuch = size_t{64} << 20;
  // What could not be given back the last time, since something in use stands
  // between.
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

// What gRPC has to say about itself stays out of a log of JSON lines, unless
// somebody asks for more than errors: that alone is what our Python client
// sets, and its server inherits.
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

// Answers a client that has to read a workspace.yaml by itself: the text comes
// on standard input, JSON goes out.
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
  grpc_init();  // Never undone: see the end.
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
  // Not by gRPC's own shutdown, which after a large write waits up to 10 s for
  // a thread that polls for nothing any more.
  std::_Exit(0);
}
