#include "service/server/service_manager.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace mlops::server {
namespace {

using testing::MatchesRegex;

// Listens as systemd does, on an abstract socket or on one with a path.
class ServiceManagerTest : public testing::TestWithParam<const char*> {
 protected:
  ServiceManagerTest() : address_(absl::StrCat(GetParam(), ::getpid())) {
    sockaddr_un name = {.sun_family = AF_UNIX};
    std::memcpy(name.sun_path, address_.data(), address_.size());
    if (address_[0] == '@') name.sun_path[0] = '\0';
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) +
                                             address_.size());
    EXPECT_EQ(::bind(socket_.get(), reinterpret_cast<sockaddr*>(&name), size),
              0);
    ::setenv("NOTIFY_SOCKET", address_.c_str(), 1);
  }
  ~ServiceManagerTest() override {
    if (address_[0] != '@') ::unlink(address_.c_str());
    for (const char* name : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})
      ::unsetenv(name);
  }

  // Returns the next message, or "" if there is none.
  std::string Receive() {
    char text[256];
    const ssize_t size =
        ::recv(socket_.get(), text, sizeof(text), MSG_DONTWAIT);
    return size > 0 ? std::string(text, static_cast<size_t>(size)) : "";
  }

  static void Watch(absl::Duration interval, pid_t pid) {
    ::setenv("WATCHDOG_USEC",
             absl::StrCat(absl::ToInt64Microseconds(interval)).c_str(), 1);
    ::setenv("WATCHDOG_PID", absl::StrCat(pid).c_str(), 1);
  }

 private:
  const std::string address_;
  const base::UniqueFd socket_{::socket(AF_UNIX, SOCK_DGRAM, 0)};
};

INSTANTIATE_TEST_SUITE_P(Sockets, ServiceManagerTest,
                         testing::Values("@mlops-notify-",
                                         "/tmp/mlops-notify-"));

TEST_P(ServiceManagerTest, ReportsEachState) {
  ServiceManager manager;
  manager.Ready("serves /data");
  EXPECT_EQ(Receive(), "READY=1\nSTATUS=serves /data");
  manager.Reloading();
  EXPECT_THAT(Receive(), MatchesRegex("RELOADING=1\nMONOTONIC_USEC=[0-9]+"));
  manager.Stopping();
  EXPECT_EQ(Receive(), "STOPPING=1");
  EXPECT_EQ(Receive(), "");
}

TEST_P(ServiceManagerTest, PingsInHalfOfTheInterval) {
  Watch(absl::Milliseconds(40), ::getpid());
  ServiceManager manager;
  manager.PingIfDue();
  EXPECT_EQ(Receive(), "WATCHDOG=1");
  absl::SleepFor(absl::Milliseconds(21));
  manager.PingIfDue();
  EXPECT_EQ(Receive(), "WATCHDOG=1");
}

TEST_P(ServiceManagerTest, GivesAStandbyMoreTimeBetweenPings) {
  Watch(absl::Seconds(30), ::getpid());
  ServiceManager manager;
  manager.StandingBy("stands by");
  EXPECT_EQ(Receive(),
            "READY=1\nSTATUS=stands by\nWATCHDOG=1\n"
            "WATCHDOG_USEC=900000000");
  manager.Ready("serves /data");
  EXPECT_EQ(Receive(),
            "READY=1\nSTATUS=serves /data\nWATCHDOG=1\n"
            "WATCHDOG_USEC=30000000");
}

TEST_P(ServiceManagerTest, DoesNotPingTooOften) {
  Watch(absl::Hours(1), ::getpid());
  ServiceManager manager;
  manager.PingIfDue();
  EXPECT_EQ(Receive(), "WATCHDOG=1");
  manager.PingIfDue();
  EXPECT_EQ(Receive(), "");
}

TEST_P(ServiceManagerTest, DoesNotPingForAnotherProcessOrWithoutAWatchdog) {
  ServiceManager().PingIfDue();
  Watch(absl::Milliseconds(1), ::getppid());
  ServiceManager().PingIfDue();
  ::setenv("WATCHDOG_USEC", "soon", 1);
  ServiceManager().PingIfDue();
  EXPECT_EQ(Receive(), "");
}

TEST(NoServiceManager, IsNoProblem) {
  for (const char* address : {"", "/none/notify", "@"}) {
    ::setenv("NOTIFY_SOCKET", address, 1);
    ServiceManager manager;
    manager.Ready("serves /data");
    manager.PingIfDue();
  }
  ::setenv("NOTIFY_SOCKET", std::string(200, 'x').c_str(), 1);
  ServiceManager().Stopping();
  ::unsetenv("NOTIFY_SOCKET");
  ServiceManager().Stopping();
}

}  // namespace
}  // namespace mlops::server
