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
  kErrors,  // Calls that failed by the server's fault.
  kAll,
};

// The server's log: one JSON object a line, on standard error or in a file.
// Lines are written by a thread of the log's own from a bounded queue, a
// hundredth of a second late at most. When it is nearly full, lines about calls
// are dropped, so that no call ever waits for the disk; the rest of the queue
// is kept for everything else. Thread-safe.
class Log {
 public:
  struct Options {
    // "" means standard error; else a file of at most 10 MiB, with one older
    // one kept.
    std::string file;
    // Whether `file` may be a symbolic link, a device or a pipe.
    bool follow_links = true;
    CallLogLevel calls = CallLogLevel::kAll;
  };

  // FAILED_PRECONDITION if the file cannot be opened. On a full disk, lines are
  // dropped until it can.
  static absl::StatusOr<std::unique_ptr<Log>> Open(const Options& options);
  ~Log();

  // Whether Call() would write anything about a call that ended so.
  bool Wants(const absl::Status& status) const;

  // One call that ended, if it is wanted. `project` may be "".
  void Call(absl::string_view method, absl::string_view project,
            const absl::Status& status, absl::Duration duration,
            absl::string_view peer);

  void Info(absl::string_view message);
  void Warning(absl::string_view message);

  // A problem that may come again and again: `what` is wrong, one of a few
  // texts, and `problem` says why. Written with the errno, if there is one, and
  // at most once in ten seconds for each `what`; the next line says how many
  // were left out.
  void Problem(absl::string_view what, const absl::Status& problem)
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  Log(std::shared_ptr<spdlog::details::thread_pool> queue,
      std::shared_ptr<spdlog::logger> logger, CallLogLevel calls);

  const std::shared_ptr<spdlog::logger> logger_;
  // With the thread; destroyed when all lines are written.
  const std::shared_ptr<spdlog::details::thread_pool> queue_;
  const CallLogLevel calls_;

  // Of the problems of one kind.
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
