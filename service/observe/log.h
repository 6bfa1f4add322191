#ifndef MLOPS_SERVICE_OBSERVE_LOG_H_
#define MLOPS_SERVICE_OBSERVE_LOG_H_

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace spdlog {
class logger;
namespace details {
class thread_pool;
}
}  // namespace spdlog

namespace mlops::observe {

enum class CallLogLevel {
  kOff,
  // Calls that failed because of the server.
  kErrors,
  kAll,
};

// The server's log: one JSON object per line, to standard error or a file. The
// log's thread writes the lines from a bounded queue, at most 10 ms late. If
// the queue is nearly full, lines about calls are dropped, so that no call ever
// waits for the disk. The rest of the queue is reserved for other lines.
// Thread-safe.
class Log {
 public:
  struct Options {
    // "" means standard error. Otherwise a file of at most 10 MiB; one older
    // file is kept.
    std::string file;
    // Whether `file` may be a symbolic link, a device or a pipe.
    bool follow_links = true;
    CallLogLevel calls = CallLogLevel::kAll;
  };

  // Returns FAILED_PRECONDITION if the file cannot be opened. If the disk is
  // full, drops lines until the file can be opened.
  static absl::StatusOr<std::unique_ptr<Log>> Open(const Options& options);
  ~Log();

  // Whether Call() logs calls that end with `status`.
  bool Wants(const absl::Status& status) const;

  // Logs a call that has ended, if Wants(status). `project` may be "".
  void Call(absl::string_view method, absl::string_view project,
            const absl::Status& status, absl::Duration duration,
            absl::string_view peer);

  void Info(absl::string_view message);
  void Warning(absl::string_view message);

  // Logs a recurring problem. `what` names the problem and is one of a few
  // texts; `problem` gives the cause. The line includes its path, file and
  // errno, if present. Logs each `what` at most once in ten seconds; the next
  // line then states how many lines were left out.
  void Problem(absl::string_view what, const absl::Status& problem)
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  Log(std::shared_ptr<spdlog::details::thread_pool> queue,
      std::shared_ptr<spdlog::logger> logger, CallLogLevel calls);

  const std::shared_ptr<spdlog::logger> logger_;
  // Owns the writing thread. Its destructor waits until all lines are written.
  const std::shared_ptr<spdlog::details::thread_pool> queue_;
  const CallLogLevel calls_;

  // The rate limit for one kind of problem.
  struct Rate {
    std::chrono::steady_clock::time_point next =
        std::chrono::steady_clock::time_point::min();
    int64_t left_out = 0;
  };
  absl::Mutex mutex_;
  std::map<std::string, Rate, std::less<>> rates_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mlops::observe

#endif  // MLOPS_SERVICE_OBSERVE_LOG_H_
