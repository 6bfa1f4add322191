// The process_* metrics; see
// prometheus.io/docs/instrumenting/writing_clientlibs, "Process metrics".
#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "service/observe/metrics.h"

namespace mlops::observe {
namespace {

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

// Fields of /proc/self/stat. They count from 0 at the state, which follows the
// command's name and is field 3 in proc(5).
enum StatField {
  kUserTicks = 11,
  kSystemTicks = 12,
  kThreads = 17,
  kStartTicks = 19,
  kVirtualBytes = 20,
  kResidentPages = 21,
};

double ProcessStat(StatField field) {
  std::ifstream file("/proc/self/stat");
  const std::string text(std::istreambuf_iterator<char>(file), {});
  // The command's name may contain anything, even ')', so search from the end.
  const size_t name_end = text.rfind(") ");
  if (name_end == std::string::npos) return kUnknown;
  const std::vector<absl::string_view> fields =
      absl::StrSplit(absl::string_view(text).substr(name_end + 2), ' ');
  double value;
  return static_cast<size_t>(field) < fields.size() &&
                 absl::SimpleAtod(fields[field], &value)
             ? value
             : kUnknown;
}

double TicksPerSecond() { return static_cast<double>(::sysconf(_SC_CLK_TCK)); }

// Returns when the machine started, in seconds since the epoch.
double BootTime() {
  std::ifstream file("/proc/stat");
  for (std::string key, rest; file >> key && std::getline(file, rest);) {
    double seconds;
    if (key == "btime" && absl::SimpleAtod(rest, &seconds)) return seconds;
  }
  return kUnknown;
}

double OpenDescriptors() {
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir("/proc/self/fd"),
                                                ::closedir);
  if (dir == nullptr) return kUnknown;
  // Do not count ".", ".." and the descriptor of `dir`.
  double count = -3;
  while (::readdir(dir.get()) != nullptr) ++count;
  return count;
}

double MaxDescriptors() {
  rlimit limit;
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return kUnknown;
  return static_cast<double>(limit.rlim_cur);
}

}  // namespace

void AddProcessMetrics(Metrics& metrics) {
  metrics.AddCounter(
      {"process_cpu_seconds_total", "User and system CPU time in seconds."}, {},
      [] {
        return (ProcessStat(kUserTicks) + ProcessStat(kSystemTicks)) /
               TicksPerSecond();
      });
  metrics.AddGauge(
      {"process_resident_memory_bytes", "Resident memory in bytes."}, {}, [] {
        return ProcessStat(kResidentPages) *
               static_cast<double>(::sysconf(_SC_PAGESIZE));
      });
  metrics.AddGauge({"process_virtual_memory_bytes", "Virtual memory in bytes."},
                   {}, [] { return ProcessStat(kVirtualBytes); });
  metrics.AddGauge({"process_threads", "Threads of the process."}, {},
                   [] { return ProcessStat(kThreads); });
  metrics.AddGauge({"process_open_fds", "Open file descriptors."}, {},
                   OpenDescriptors);
  metrics.AddGauge(
      {"process_max_fds", "Maximum number of open file descriptors."}, {},
      MaxDescriptors);
  metrics.AddGauge(
      {"process_start_time_seconds",
       "Start of the process, in seconds since the epoch."},
      {},
      // Computed once, because it does not change.
      [start = BootTime() + ProcessStat(kStartTicks) / TicksPerSecond()] {
        return start;
      });
}

}  // namespace mlops::observe
