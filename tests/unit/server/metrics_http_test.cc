#include "service/server/metrics_http.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/support/matchers.h"
#include "tests/unit/server/http_client.h"

namespace mlops::server {
namespace {

using support::HasMessage;
using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

class MetricsHttpTest : public testing::Test {
 protected:
  // Longer than the buffers of a socket.
  const std::string metrics = std::string(8 << 20, 'm') + "\n";
  std::atomic<bool> is_ready = true;
  std::unique_ptr<MetricsHttp> http =
      MetricsHttp::Start("127.0.0.1:0",
                         {.metrics = [this] { return metrics; },
                          .ready =
                              [this] {
                                return is_ready
                                           ? absl::OkStatus()
                                           : absl::UnavailableError("draining");
                              }})
          .value();
  const std::string address = http->address();
};

TEST_F(MetricsHttpTest, MetricsArriveWhole) {
  EXPECT_EQ(Get(address, "/metrics?x=1").size(),
            Get(address, "/metrics").size());
  EXPECT_THAT(Get(address, "/metrics"),
              AllOf(StartsWith("HTTP/1.1 200 OK\r\n"),
                    HasSubstr("\r\nContent-Type: text/plain; version=0.0.4; "
                              "charset=utf-8\r\n"),
                    HasSubstr(absl::StrCat(
                        "\r\nContent-Length: ", metrics.size(), "\r\n")),
                    HasSubstr("\r\nConnection: close\r\n"),
                    EndsWith(absl::StrCat("\r\n\r\n", metrics))));
}

TEST_F(MetricsHttpTest, HealthAndReadinessDiffer) {
  EXPECT_THAT(Get(address, "/healthz"), StartsWith("HTTP/1.1 200 OK"));
  EXPECT_THAT(Get(address, "/readyz"), StartsWith("HTTP/1.1 200 OK"));
  is_ready = false;
  EXPECT_THAT(Get(address, "/healthz"), StartsWith("HTTP/1.1 200 OK"));
  EXPECT_THAT(Get(address, "/readyz"),
              AllOf(StartsWith("HTTP/1.1 503 "), EndsWith("\r\ndraining\n")));
}

TEST_F(MetricsHttpTest, HeadHasNoBody) {
  EXPECT_THAT(
      Ask(address, "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n"),
      AllOf(StartsWith("HTTP/1.1 200 OK"), EndsWith("\r\n\r\n"),
            HasSubstr(absl::StrCat("Content-Length: ", metrics.size()))));
}

TEST_F(MetricsHttpTest, OtherFormsOfARequestAreUnderstood) {
  for (const char* request : {
           "GET /healthz HTTP/1.0\r\n\r\n",
           "GET /healthz HTTP/1.1\nhost: x\n\n",
           "GET http://localhost:1/healthz HTTP/1.1\r\nHost: x\r\n\r\n",
           "GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
       })
    EXPECT_THAT(Ask(address, request), StartsWith("HTTP/1.1 200 ")) << request;
}

TEST_F(MetricsHttpTest, ARequestMayArriveInPieces) {
  const base::UniqueFd fd = Connect(address);
  for (const char* piece : {"GET /he", "althz HTTP/1.1\r\nHost", ": x\r\n\r"}) {
    Send(fd.get(), piece);
    absl::SleepFor(absl::Milliseconds(5));
  }
  Send(fd.get(), "\n");
  EXPECT_THAT(ReceiveAll(fd.get()), StartsWith("HTTP/1.1 200 "));
}

TEST_F(MetricsHttpTest, OtherRequestsAreRefused) {
  const std::string body(100'000, 'x');
  const struct {
    std::string request;
    const char* status;
  } cases[] = {
      {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
      {"GET http://x HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
      {"GET /metrics/ HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
      {"DELETE /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "405"},
      {absl::StrCat("POST /healthz HTTP/1.1\r\nHost: x\r\n\r\n", body), "405"},
      {"GET /metrics HTTP/1.1\r\n\r\n", "400"},
      {"GET /metrics\r\n\r\n", "400"},
      {"GET /metrics HTTP/2.0\r\n\r\n", "400"},
      {"\r\n\r\n", "400"},
      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400"},
      {"\x16\x03\x01\x02\x01\n\n", "400"},
      {absl::StrCat("GET /metrics HTTP/1.1\r\nHost: x\r\nX: ", body), "431"},
  };
  for (const auto& [request, status] : cases) {
    EXPECT_THAT(Ask(address, request),
                StartsWith(absl::StrCat("HTTP/1.1 ", status, " ")))
        << request.substr(0, 80);
  }
}

TEST_F(MetricsHttpTest, SlowClientsDoNotKeepOthersOut) {
  std::vector<base::UniqueFd> slow;
  for (int i = 0; i < 100; ++i) {
    slow.push_back(Connect(address));
    Send(slow.back().get(), "GET /met");
  }
  EXPECT_THAT(Get(address, "/healthz"), StartsWith("HTTP/1.1 200 "));
}

TEST_F(MetricsHttpTest, AConnectionEndsAfterItsTime) {
  const auto impatient =
      MetricsHttp::Start("127.0.0.1:0", {.metrics = [this] { return metrics; },
                                         .timeout = absl::Milliseconds(100)})
          .value();
  const base::UniqueFd silent = Connect(impatient->address());
  EXPECT_EQ(ReceiveAll(silent.get()), "");
  // Reads nothing in time.
  const base::UniqueFd slow = Connect(impatient->address());
  Send(slow.get(), "GET /metrics HTTP/1.0\r\n\r\n");
  absl::SleepFor(absl::Milliseconds(300));
  EXPECT_LT(ReceiveAll(slow.get()).size(), metrics.size());
}

TEST_F(MetricsHttpTest, ItEndsAtOnceAndFreesItsPort) {
  const base::UniqueFd idle = Connect(address);
  const base::UniqueFd reading = Connect(address);
  Send(reading.get(), "GET /metrics HTTP/1.0\r\n\r\n");
  http.reset();
  EXPECT_OK(MetricsHttp::Start(address, {}));
}

TEST_F(MetricsHttpTest, AnAddressThatCannotBeBoundIsRefused) {
  EXPECT_THAT(MetricsHttp::Start(address, {}),
              HasMessage(AllOf(StartsWith("cannot listen on 127.0.0.1:"),
                               HasSubstr("Address already in use"))));
  for (const char* wrong : {"", "127.0.0.1", "no.such.host.invalid:1"}) {
    EXPECT_THAT(MetricsHttp::Start(wrong, {}),
                HasMessage(StartsWith("cannot listen on ")))
        << wrong;
  }
}

}  // namespace
}  // namespace mlops::server
