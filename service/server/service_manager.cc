#include "service/server/service_manager.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace mlops::server {
namespace {

// TimeoutStartSec= of our unit.
constexpr absl::Duration kMaxStart = absl::Minutes(15);

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// Returns the time of the clock that systemd uses.
absl::Duration Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return absl::DurationFromTimespec(now);
}

// Connects to the datagram socket `address`, which is a path, or "@" followed
// by an abstract name. Returns an invalid descriptor if nobody listens there.
base::UniqueFd Connect(const std::string& address) {
  sockaddr_un name = {.sun_family = AF_UNIX};
  if (address.empty() || address.size() >= sizeof(name.sun_path)) return {};
  std::memcpy(name.sun_path, address.data(), address.size());
  // An abstract name begins with a NUL.
  if (address[0] == '@') name.sun_path[0] = '\0';
  base::UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  // Bound the time, because a service manager that hangs must not block the
  // server.
  const timeval second = {.tv_sec = 1};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &second, sizeof(second));
  const auto size =
      static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address.size());
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&name), size) != 0)
    return {};
  return fd;
}

// Returns half of the interval in which systemd expects a ping, or infinity if
// it expects none from this process.
absl::Duration PingInterval() {
  int64_t microseconds = 0, pid = 0;
  const std::string watched = Variable("WATCHDOG_PID");
  if (!absl::SimpleAtoi(Variable("WATCHDOG_USEC"), &microseconds) ||
      microseconds <= 0 ||
      (!watched.empty() &&
       (!absl::SimpleAtoi(watched, &pid) || pid != ::getpid()))) {
    return absl::InfiniteDuration();
  }
  return absl::Microseconds(microseconds) / 2;
}

}  // namespace

ServiceManager::ServiceManager()
    : socket_(Connect(Variable("NOTIFY_SOCKET"))),
      ping_interval_(PingInterval()) {}

void ServiceManager::Ready(absl::string_view status) {
  SendReady(status, 2 * ping_interval_);
}

void ServiceManager::StandingBy(absl::string_view status) {
  SendReady(status, kMaxStart);
}

void ServiceManager::SendReady(absl::string_view status,
                               absl::Duration patience) {
  std::string text = absl::StrCat("READY=1\nSTATUS=", status);
  // The first ping starts the watchdog's new interval.
  if (ping_interval_ != absl::InfiniteDuration()) {
    absl::StrAppend(&text, "\nWATCHDOG=1\nWATCHDOG_USEC=",
                    absl::ToInt64Microseconds(patience));
  }
  Send(text);
}

void ServiceManager::Reloading() {
  Send(absl::StrCat("RELOADING=1\nMONOTONIC_USEC=",
                    absl::ToInt64Microseconds(Now())));
}

void ServiceManager::Stopping() { Send("STOPPING=1"); }

void ServiceManager::PingIfDue() {
  if (ping_interval_ == absl::InfiniteDuration() || Now() < next_ping_) return;
  next_ping_ = Now() + ping_interval_;
  Send("WATCHDOG=1");
}

void ServiceManager::Send(absl::string_view text) {
  if (socket_.get() < 0) return;
  ::send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL);
}

}  // namespace mlops::server
