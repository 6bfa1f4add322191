#include "mlops/lease.h"

#include <pwd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/id.h"
#include "proto/cpp/base/status_macros.h"

namespace mlops {
namespace {

constexpr size_t kMaxNameBytes = 40;
constexpr size_t kRandomDigits = 8;
// Maximum pause between two attempts to renew a lease, or to acquire one on a
// server that cannot be watched.
constexpr absl::Duration kPause = absl::Seconds(1);

// Returns the time of a clock that also runs while the machine is suspended.
absl::Duration Now() {
  timespec time = {};
  ::clock_gettime(CLOCK_BOOTTIME, &time);
  return absl::DurationFromTimespec(time);
}

std::string UserName() {
  passwd entry = {};
  passwd* found = nullptr;
  char buffer[4096];
  if (::getpwuid_r(::getuid(), &entry, buffer, sizeof(buffer), &found) == 0 &&
      found != nullptr)
    return std::string(found->pw_name).substr(0, kMaxNameBytes);
  return absl::StrCat(::getuid());
}

std::string NewHolder() {
  char host[256] = "";
  (void)::gethostname(host, sizeof(host) - 1);
  return absl::StrCat(
      UserName(), "@", std::string(host).substr(0, kMaxNameBytes), ":",
      ::getpid(), ":", base::RandomId().substr(0, kRandomDigits));
}

// Whether a renewal may succeed after one failed with `status`.
bool MayPass(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) ||
         absl::IsResourceExhausted(status);
}

struct Acquired {
  LeaseInfo info;
  // When the client sent the request.
  absl::Duration sent;
};

// Returns once the lease on `project` may be free, but at the latest after
// `limit`. The server reports the end of a lease. Returns an error if the
// workspace cannot be watched, because the server is old or has too many
// watchers.
absl::Status WatchUntilFree(const WorkspaceClient& client,
                            const std::string& project, absl::Duration limit,
                            const CallOptions& call) {
  CallOptions bounded = call;
  bounded.timeout = limit;
  const absl::Status end = client.Watch(
      [&project](const WorkspaceEvent& event) {
        return event.workspace.project != project ||
               event.workspace.lease.has_value();
      },
      {.projects = {project}}, bounded);
  return absl::IsDeadlineExceeded(end) ? absl::OkStatus() : end;
}

absl::StatusOr<Acquired> AcquireWaiting(const WorkspaceClient& client,
                                        const std::string& project,
                                        const LeaseOptions& options,
                                        const CallOptions& call) {
  const absl::Duration give_up = Now() + options.wait;
  bool can_watch = true;
  while (true) {
    const absl::Duration sent = Now();
    auto info = client.AcquireLease(project, options.holder,
                                    {.ttl = options.ttl}, call);
    if (info.ok()) return Acquired{.info = *std::move(info), .sent = sent};
    const absl::Duration rest = give_up - Now();
    if (ErrorReason(info.status()) != "LEASE_HELD" ||
        rest <= absl::ZeroDuration())
      return info.status();
    // The watch below would report a stop as a timeout or an error.
    if (call.stop.stop_requested())
      return absl::CancelledError("a stop was requested");
    // Prefer the watch, because it ends as soon as the lease does.
    if (can_watch) {
      const absl::Status watched = WatchUntilFree(client, project, rest, call);
      if (watched.ok() || absl::IsCancelled(watched)) continue;
      can_watch = false;
    }
    // Do not wait until the lease expires, because its holder may release it
    // earlier.
    absl::SleepFor(std::min(
        {rest, kPause, ErrorRetryDelay(info.status()).value_or(kPause)}));
  }
}

}  // namespace

class Lease::State {
 public:
  State(const WorkspaceClient& client, std::string project,
        const LeaseOptions& options, int64_t fence, absl::Duration deadline)
      : client_(client),
        project_(std::move(project)),
        holder_(options.holder),
        ttl_(options.ttl),
        fence_(fence),
        deadline_(deadline),
        thread_([this] { Renew(); }) {}

  ~State() {
    Stop();
    thread_.join();
  }

  const std::string& project() const { return project_; }
  const std::string& holder() const { return holder_; }
  int64_t fence() const { return fence_; }

  absl::Status Check() const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    if (!lost_.ok()) return lost_;
    if (released_)
      return absl::FailedPreconditionError("The lease was released");
    if (Now() < deadline_) return absl::OkStatus();
    return Lost("could not be renewed in time and may have expired");
  }

  absl::Status Release() ABSL_LOCKS_EXCLUDED(mutex_, renewing_) {
    if (absl::Status held = Check(); !held.ok()) return held;
    Stop();
    // Wait for a renewal in flight: if it overtook the release, it would
    // acquire another lease.
    absl::MutexLock renewing(&renewing_);
    {
      absl::MutexLock lock(&mutex_);
      if (!lost_.ok()) return lost_;
      released_ = true;
    }
    return client_.ReleaseLease(project_, holder_);
  }

 private:
  void Stop() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
  }

  absl::Status Lost(absl::string_view problem) const {
    return base::MakeError(
        absl::StatusCode::kFailedPrecondition,
        absl::StrCat("The lease of ", holder_, " on workspace ", project_, " ",
                     problem),
        {.reason = "LEASE_LOST",
         .metadata = {{"project", project_},
                      {"fence", absl::StrCat(fence_)},
                      {"current_fence", "0"}}});
  }

  // Waits for `pause`. Returns false if the lease must not be renewed any more.
  bool Wait(absl::Duration pause) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    mutex_.AwaitWithTimeout(absl::Condition(&stopped_), pause);
    return !stopped_;
  }

  // Runs on its own thread.
  void Renew() ABSL_LOCKS_EXCLUDED(mutex_, renewing_) {
    absl::Duration pause = ttl_ / 3;
    while (Wait(pause)) {
      absl::MutexLock renewing(&renewing_);
      // Release() may have finished while this thread waited for the lock.
      if (!Wait(absl::ZeroDuration())) return;
      const absl::Duration sent = Now();
      const auto renewed =
          client_.AcquireLease(project_, holder_, {.ttl = ttl_});
      // After a failure, retry often enough to succeed before the lease
      // expires.
      pause = renewed.ok() ? ttl_ / 3 : std::min(kPause, ttl_ / 10);
      if (!NoteRenewal(renewed, sent)) return;
    }
  }

  // Returns false if the lease is lost.
  bool NoteRenewal(const absl::StatusOr<LeaseInfo>& renewed,
                   absl::Duration sent) ABSL_LOCKS_EXCLUDED(mutex_) {
    // Another fence means that the lease had expired and that the call has
    // acquired a new one.
    const bool another = renewed.ok() && renewed->fence != fence_;
    // Nobody uses the new lease, so release it.
    if (another) client_.ReleaseLease(project_, holder_).IgnoreError();
    absl::MutexLock lock(&mutex_);
    if (another) {
      lost_ = Lost("had expired before it was renewed");
    } else if (renewed.ok()) {
      // Count from the request, not from the response: the server's clock
      // started in between.
      deadline_ = sent + ttl_;
    } else if (!MayPass(renewed.status())) {
      lost_ = Lost(absl::StrCat("was lost: ", renewed.status().message()));
    } else if (Now() >= deadline_) {
      lost_ = Lost(
          absl::StrCat("could not be renewed: ", renewed.status().message()));
    }
    return lost_.ok();
  }

  const WorkspaceClient client_;
  const std::string project_;
  const std::string holder_;
  const absl::Duration ttl_;
  const int64_t fence_;
  // Held during a renewal. Acquired before mutex_.
  absl::Mutex renewing_;
  mutable absl::Mutex mutex_;
  // When the lease may expire unless it is renewed.
  absl::Duration deadline_ ABSL_GUARDED_BY(mutex_);
  absl::Status lost_ ABSL_GUARDED_BY(mutex_);
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  bool released_ ABSL_GUARDED_BY(mutex_) = false;
  // Declared last, because the thread uses all other members.
  std::thread thread_;
};

absl::StatusOr<Lease> Lease::Acquire(const WorkspaceClient& client,
                                     std::string_view project,
                                     const LeaseOptions& options,
                                     const CallOptions& call) {
  LeaseOptions named = options;
  if (named.holder.empty()) named.holder = NewHolder();
  std::string name(project);
  ASSIGN_OR_RETURN(const Acquired acquired,
                   AcquireWaiting(client, name, named, call));
  return Lease(std::make_unique<State>(client, std::move(name), named,
                                       acquired.info.fence,
                                       acquired.sent + named.ttl));
}

Lease::Lease(std::unique_ptr<State> state) : state_(std::move(state)) {}
Lease::Lease(Lease&&) noexcept = default;
Lease& Lease::operator=(Lease&& other) noexcept {
  if (state_ != nullptr && this != &other) state_->Release().IgnoreError();
  state_ = std::move(other.state_);
  return *this;
}
Lease::~Lease() {
  if (state_ != nullptr) state_->Release().IgnoreError();
}

const std::string& Lease::project() const { return state_->project(); }
const std::string& Lease::holder() const { return state_->holder(); }
int64_t Lease::fence() const { return state_->fence(); }

CallOptions Lease::Options(CallOptions call) const {
  call.fence = state_->fence();
  return call;
}

absl::Status Lease::Check() const { return state_->Check(); }
absl::Status Lease::Release() { return state_->Release(); }

}  // namespace mlops
