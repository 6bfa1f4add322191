#ifndef MLOPS_SERVICE_SERVER_MAINTAINER_H_
#define MLOPS_SERVICE_SERVER_MAINTAINER_H_

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "service/base/clock.h"

namespace mlops::server {

// Runs periodic chores on its own thread, one after the other.
class Maintainer {
 public:
  static constexpr absl::Duration kTick = absl::Milliseconds(200);

  struct Chore {
    // Text that the log puts before the error's message if `run` fails; for
    // example "cannot empty the trash".
    std::string failure;
    // Should usually take only a small part of a tick, because it delays the
    // other chores.
    std::function<absl::Status()> run;
    // Time from the start of one run to the start of the next, rounded to
    // ticks.
    absl::Duration interval = kTick;
    // Maximum share of the time that `run` may take. After a long run, the next
    // one starts later.
    double max_share = 1;
  };

  struct Options {
    // Receives each failure of a chore, on the maintainer's thread.
    std::function<void(absl::string_view failure, const absl::Status& why)>
        report;
    // Time from the end of one round to the start of the next, and before the
    // first round.
    absl::Duration tick = kTick;
    base::SteadyClock clock = base::SystemSteadyClock();
  };

  // Starts the thread. Each round runs the chores that are due, in this order.
  // The first round runs all of them.
  Maintainer(std::vector<Chore> chores, Options options);
  // Waits for the running chore and stops the thread.
  ~Maintainer();

 private:
  struct Entry {
    Chore chore;
    // On Options::clock.
    absl::Duration next_run = -absl::InfiniteDuration();
  };

  void Run();
  // Runs the chore of `entry` if it is due in the round that began at `now`.
  void RunIfDue(absl::Duration now, Entry& entry) const;
  // Waits for a tick. Returns true early if the thread must stop.
  bool StopWithinTick() ABSL_LOCKS_EXCLUDED(mutex_);

  const Options options_;
  // Accessed only by the maintainer's thread.
  std::vector<Entry> entries_;
  absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace mlops::server

#endif  // MLOPS_SERVICE_SERVER_MAINTAINER_H_
