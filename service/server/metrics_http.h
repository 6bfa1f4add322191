#ifndef MLOPS_SERVICE_SERVER_METRICS_HTTP_H_
#define MLOPS_SERVICE_SERVER_METRICS_HTTP_H_

#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "proto/cpp/base/unique_fd.h"

namespace mlops::server {

// Answers GET and HEAD over HTTP/1.1 (RFC 9112), on its own thread:
//   /metrics  the metrics, for Prometheus;
//   /healthz  200 while the process runs, even if it must not receive calls;
//   /readyz   200 if the server should receive calls, else 503 with the reason.
// Other paths return 404, other methods 405, requests that are not HTTP/1.x
// 400, and requests of more than 8 KiB 431. Each response closes its
// connection.
//
// At most kMaxConnections are open. A new one replaces the oldest, so that slow
// clients cannot keep the others out. There is neither encryption nor
// authentication, so only the operator should be able to reach the address.
class MetricsHttp {
 public:
  struct Options {
    // Return the text of /metrics, and whether the server should receive calls.
    // They run on this object's thread, so they must not wait for a disk.
    std::function<std::string()> metrics;
    std::function<absl::Status()> ready;
    // Maximum lifetime of a connection.
    absl::Duration timeout = absl::Seconds(5);
  };

  static constexpr size_t kMaxConnections = 16;

  // Listens on `address`, "<host>:<port>", and starts the thread. Returns
  // FAILED_PRECONDITION, as a sentence for the operator, if it cannot.
  static absl::StatusOr<std::unique_ptr<MetricsHttp>> Start(std::string address,
                                                            Options options);
  // Closes all connections, even in the middle of a response.
  ~MetricsHttp();

  // The address, with the actual port where port 0 was requested.
  const std::string& address() const { return address_; }

 private:
  // One connection. It receives a request and sends the response. Then it
  // discards what the client still sends, until the client closes: closing a
  // connection with unread bytes would discard the response.
  struct Connection {
    base::UniqueFd fd;
    // On the monotonic clock.
    absl::Duration deadline;
    std::string request;
    // The unsent rest of the response, if `is_answered`.
    std::string response;
    bool is_answered = false;
  };

  explicit MetricsHttp(Options options) : options_(std::move(options)) {}

  void Run();
  // Returns the time until the next deadline, for poll(2).
  int PollTimeout() const;
  void Accept(int listener);
  // Continues a connection that is ready. Returns false once it has ended.
  bool Continue(Connection& connection) const;
  bool Receive(Connection& connection) const;
  static bool Send(Connection& connection);
  std::string Answer(absl::string_view request) const;

  const Options options_;
  std::string address_;
  std::vector<base::UniqueFd> listeners_;
  // A pipe; closing the write end stops the thread.
  base::UniqueFd stop_read_, stop_write_;
  // Oldest first. Accessed only by the thread.
  std::list<Connection> connections_;
  std::thread thread_;
};

}  // namespace mlops::server

#endif  // MLOPS_SERVICE_SERVER_METRICS_HTTP_H_
