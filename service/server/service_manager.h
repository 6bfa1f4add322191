#ifndef MLOPS_SERVICE_SERVER_SERVICE_MANAGER_H_
#define MLOPS_SERVICE_SERVER_SERVICE_MANAGER_H_

#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "proto/cpp/base/unique_fd.h"

namespace mlops::server {

// Reports the state of this process to systemd. Implements the protocol of
// sd_notify(3), which needs no library. All methods are best effort, block for
// at most a second, and do nothing if no service manager listens. Not
// thread-safe.
class ServiceManager {
 public:
  // Finds the service manager through NOTIFY_SOCKET, WATCHDOG_USEC and
  // WATCHDOG_PID.
  ServiceManager();

  // Reports that the server answers calls, or has finished reloading its
  // settings. `systemctl status` shows `status`, which must be one line.
  void Ready(absl::string_view status);
  // Reports that the server waits for another one to end. It may then need up
  // to 15 minutes to read its base, during which it does not ping.
  void StandingBy(absl::string_view status);
  // Reports that the server has begun to reread its settings. Ready() must
  // follow.
  void Reloading();
  // Reports that the server has begun to stop.
  void Stopping();
  // Reports that the server is alive, if systemd expects it and half of the
  // watchdog's interval has passed since the last time. Call it often, because
  // otherwise systemd kills the process.
  void PingIfDue();

 private:
  // `patience` is the maximum time between two pings from now on.
  void SendReady(absl::string_view status, absl::Duration patience);
  void Send(absl::string_view text);

  base::UniqueFd socket_;
  // Infinite if systemd expects no pings.
  absl::Duration ping_interval_ = absl::InfiniteDuration();
  // On the monotonic clock, since its epoch.
  absl::Duration next_ping_ = absl::ZeroDuration();
};

}  // namespace mlops::server

#endif  // MLOPS_SERVICE_SERVER_SERVICE_MANAGER_H_
