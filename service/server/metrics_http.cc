#include "service/server/metrics_http.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "proto/cpp/base/status_macros.h"
#include "service/observe/metrics.h"
#include "service/server/tcp_listener.h"

namespace mlops::server {
namespace {

constexpr size_t kMaxRequestBytes = 8 << 10;
// Delay after accept(2) has failed for lack of a resource.
constexpr absl::Duration kPause = absl::Milliseconds(20);
constexpr absl::string_view kPlainText = "text/plain; charset=utf-8";

absl::Duration Now() {
  return absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
}

// Whether the last call failed only because it would have blocked.
bool WouldWait() { return errno == EAGAIN || errno == EINTR; }

// Whether `request` ends with an empty line.
bool IsComplete(absl::string_view request) {
  return absl::StrContains(request, "\r\n\r\n") ||
         absl::StrContains(request, "\n\n");
}

std::string Response(absl::string_view status, absl::string_view body,
                     absl::string_view type = kPlainText,
                     absl::string_view more_headers = "") {
  return absl::StrCat("HTTP/1.1 ", status, "\r\nDate: ",
                      absl::FormatTime("%a, %d %b %Y %H:%M:%S GMT", absl::Now(),
                                       absl::UTCTimeZone()),
                      "\r\nContent-Type: ", type,
                      "\r\nContent-Length: ", body.size(),
                      "\r\nCache-Control: no-store\r\nConnection: close\r\n",
                      more_headers, "\r\n", body);
}

// Returns the path of a request target without the query. The target may be a
// whole URL (RFC 9112, 3.2.2).
absl::string_view PathOf(absl::string_view target) {
  if (absl::StartsWithIgnoreCase(target, "http://")) {
    const size_t slash = target.find('/', sizeof("http://") - 1);
    target = slash == target.npos ? "/" : target.substr(slash);
  }
  return target.substr(0, target.find('?'));
}

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsHttp>> MetricsHttp::Start(
    std::string address, Options options) {
  auto http = std::unique_ptr<MetricsHttp>(new MetricsHttp(std::move(options)));
  ASSIGN_OR_RETURN(http->listeners_, ListenTcp(address));
  http->address_ = std::move(address);
  int ends[2];
  if (::pipe(ends) != 0)
    return CannotListen(http->address_, std::strerror(errno));
  http->stop_read_.Reset(ends[0]);
  http->stop_write_.Reset(ends[1]);
  for (const int end : ends) ::fcntl(end, F_SETFD, FD_CLOEXEC);
  http->thread_ = std::thread([server = http.get()] { server->Run(); });
  return http;
}

MetricsHttp::~MetricsHttp() {
  stop_write_.Reset();
  if (thread_.joinable()) thread_.join();
}

void MetricsHttp::Run() {
  std::vector<pollfd> polled;
  while (true) {
    polled = {{.fd = stop_read_.get(), .events = POLLIN}};
    for (const base::UniqueFd& listener : listeners_)
      polled.push_back({.fd = listener.get(), .events = POLLIN});
    for (const Connection& connection : connections_) {
      // A connection waits either to send or to receive, never for both.
      const bool sends = !connection.response.empty();
      polled.push_back(
          {.fd = connection.fd.get(),
           .events = static_cast<short>(sends ? POLLOUT : POLLIN)});
    }
    if (::poll(polled.data(), polled.size(), PollTimeout()) < 0) continue;
    if (polled.front().revents != 0) return;
    // Serve the connections first, because Accept() changes the list.
    size_t index = 1 + listeners_.size();
    connections_.remove_if([&](Connection& connection) {
      const bool is_ready = polled[index++].revents != 0;
      return Now() > connection.deadline || (is_ready && !Continue(connection));
    });
    for (size_t i = 1; i <= listeners_.size(); ++i) {
      if (polled[i].revents != 0) Accept(polled[i].fd);
    }
  }
}

int MetricsHttp::PollTimeout() const {
  if (connections_.empty()) return -1;
  const absl::Duration left = connections_.front().deadline - Now();
  // Round up, so that the deadline has passed when poll(2) returns.
  return static_cast<int>(
      std::max<int64_t>(0, absl::ToInt64Milliseconds(left) + 1));
}

void MetricsHttp::Accept(int listener) {
  base::UniqueFd fd(::accept(listener, nullptr, nullptr));
  if (!fd.ok()) {
    if (!WouldWait() && errno != ECONNABORTED) absl::SleepFor(kPause);
    return;
  }
  SetSocketFlags(fd.get());
  // Drop the oldest connection, so that slow clients do not keep others out.
  if (connections_.size() == kMaxConnections) connections_.pop_front();
  connections_.push_back(
      {.fd = std::move(fd), .deadline = Now() + options_.timeout});
}

bool MetricsHttp::Continue(Connection& connection) const {
  return connection.response.empty() ? Receive(connection) : Send(connection);
}

bool MetricsHttp::Receive(Connection& connection) const {
  std::array<char, kMaxRequestBytes> buffer;
  const ssize_t received =
      ::recv(connection.fd.get(), buffer.data(), buffer.size(), 0);
  if (received < 0) return WouldWait();
  if (received == 0) return false;
  // Discard whatever follows the request.
  if (connection.is_answered) return true;
  connection.request.append(buffer.data(), static_cast<size_t>(received));
  // Look for the end only within the limit, so that the limit does not depend
  // on how the bytes arrive.
  const absl::string_view head =
      absl::string_view(connection.request).substr(0, kMaxRequestBytes);
  if (IsComplete(head)) {
    connection.response = Answer(head);
  } else if (connection.request.size() > kMaxRequestBytes) {
    connection.response = Response("431 Request Header Fields Too Large",
                                   "A request may have at most 8 KiB.\n");
  } else {
    return true;
  }
  connection.is_answered = true;
  return Send(connection);
}

bool MetricsHttp::Send(Connection& connection) {
  std::string& response = connection.response;
  while (!response.empty()) {
    const ssize_t sent = ::send(connection.fd.get(), response.data(),
                                response.size(), MSG_NOSIGNAL);
    if (sent <= 0) return WouldWait();
    response.erase(0, static_cast<size_t>(sent));
  }
  // Close only our direction: the client sees the end of the response, and
  // closes its own.
  ::shutdown(connection.fd.get(), SHUT_WR);
  return true;
}

std::string MetricsHttp::Answer(absl::string_view request) const {
  const absl::string_view line =
      request.substr(0, request.find_first_of("\r\n"));
  const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
  if (words.size() != 3 || !absl::StartsWith(words[2], "HTTP/1."))
    return Response("400 Bad Request", "This is not an HTTP/1.1 request.\n");
  // HTTP/1.1 requires the header.
  if (words[2] != "HTTP/1.0" &&
      !absl::StrContains(absl::AsciiStrToLower(request), "\nhost:"))
    return Response("400 Bad Request", "The header Host is missing.\n");
  const absl::string_view method = words[0], path = PathOf(words[1]);
  if (path != "/metrics" && path != "/healthz" && path != "/readyz") {
    return Response("404 Not Found",
                    "There are /metrics, /healthz and /readyz.\n");
  }
  if (method != "GET" && method != "HEAD") {
    return Response("405 Method Not Allowed", "Use GET or HEAD.\n", kPlainText,
                    "Allow: GET, HEAD\r\n");
  }
  std::string response;
  if (path == "/metrics") {
    response =
        Response("200 OK", options_.metrics(), observe::Metrics::kContentType);
  } else if (const absl::Status ready =
                 path == "/healthz" ? absl::OkStatus() : options_.ready();
             ready.ok()) {
    response = Response("200 OK", "ok\n");
  } else {
    response = Response("503 Service Unavailable",
                        absl::StrCat(ready.message(), "\n"));
  }
  // HEAD has the headers of GET, including Content-Length, without the body.
  if (method == "HEAD") response.resize(response.find("\r\n\r\n") + 4);
  return response;
}

}  // namespace mlops::server
