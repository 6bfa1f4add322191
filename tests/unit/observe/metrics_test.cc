#include "service/observe/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "service/observe/call_metrics.h"
#include "tests/support/matchers.h"

namespace mlops::observe {
namespace {

using testing::HasSubstr;
using testing::Not;

// Returns the value of the sample with this name and these labels.
double ValueOf(const Metrics& metrics, absl::string_view sample) {
  const std::string text = metrics.Write();
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    double value;
    if (line.size() > sample.size() &&
        line.substr(0, sample.size()) == sample &&
        absl::SimpleAtod(line.substr(sample.size() + 1), &value))
      return value;
  }
  ADD_FAILURE() << sample << " is not in\n" << text;
  return std::nan("");
}

TEST(MetricsTest, AFamilyIsWrittenOnceWithAllItsSeries) {
  Metrics metrics;
  metrics.AddGauge({"b", "Of b."}, {{"x", "1"}}, [] { return 1; });
  metrics.AddCounter({"a_total", "Of a."}, {}, [] { return 2.5; });
  metrics.AddGauge({"b", "Ignored."}, {{"x", "2"}, {"y", ""}},
                   [] { return -3; });
  EXPECT_EQ(metrics.Write(), R"(# HELP b Of b.
# TYPE b gauge
b{x="1"} 1
b{x="2",y=""} -3
# HELP a_total Of a.
# TYPE a_total counter
a_total 2.5
)");
}

TEST(MetricsTest, SpecialCharactersAreEscaped) {
  Metrics metrics;
  metrics.AddGauge({"a", "1\\2\n3\"4"}, {{"x", "1\\2\n3\"4"}},
                   [] { return 0; });
  EXPECT_EQ(metrics.Write(),
            "# HELP a 1\\\\2\\n3\"4\n# TYPE a gauge\n"
            "a{x=\"1\\\\2\\n3\\\"4\"} 0\n");
}

TEST(MetricsTest, LargeNumbersKeepTheirDigits) {
  Metrics metrics;
  metrics.AddCounter({"a_total", ""}, {}, [] { return 123456789012345; });
  EXPECT_THAT(metrics.Write(), HasSubstr("a_total 123456789012345\n"));
}

TEST(MetricsTest, AValueThatDoesNotExistIsOmitted) {
  Metrics metrics;
  metrics.AddGauge({"a", ""}, {{"x", "1"}}, [] { return std::nan(""); });
  metrics.AddGauge({"a", ""}, {{"x", "2"}}, [] { return 2; });
  EXPECT_EQ(metrics.Write(), "# HELP a \n# TYPE a gauge\na{x=\"2\"} 2\n");
}

TEST(MetricsTest, AHistogramHasCumulativeBuckets) {
  Metrics metrics;
  Histogram histogram({absl::Microseconds(50), absl::Seconds(1)});
  histogram.Observe(absl::Milliseconds(500));
  histogram.Observe(absl::Seconds(2));
  metrics.AddHistogram({"a_seconds", "Of a."}, {{"x", "1"}}, &histogram);
  EXPECT_EQ(metrics.Write(), R"(# HELP a_seconds Of a.
# TYPE a_seconds histogram
a_seconds_bucket{x="1",le="5e-05"} 0
a_seconds_bucket{x="1",le="1"} 1
a_seconds_bucket{x="1",le="+Inf"} 2
a_seconds_sum{x="1"} 2.5
a_seconds_count{x="1"} 2
)");
}

TEST(ProcessMetricsTest, TheyDescribeThisProcess) {
  Metrics metrics;
  AddProcessMetrics(metrics);
  EXPECT_GT(ValueOf(metrics, "process_resident_memory_bytes"), 1 << 20);
  EXPECT_GT(ValueOf(metrics, "process_virtual_memory_bytes"),
            ValueOf(metrics, "process_resident_memory_bytes"));
  EXPECT_GE(ValueOf(metrics, "process_cpu_seconds_total"), 0);
  EXPECT_EQ(ValueOf(metrics, "process_threads"), 1);
  EXPECT_GE(ValueOf(metrics, "process_open_fds"), 3);
  EXPECT_GE(ValueOf(metrics, "process_max_fds"),
            ValueOf(metrics, "process_open_fds"));
  const double age = absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch()) -
                     ValueOf(metrics, "process_start_time_seconds");
  // The kernel rounds to seconds, and wall clocks may be set.
  EXPECT_NEAR(age, 0, 600);
}

class CallMetricsTest : public testing::Test {
 protected:
  Metrics metrics;
  CallMetrics calls{metrics,
                    "pkg.Service",
                    {{.name = "Get"},
                     {.name = "Read", .type = CallMetrics::Type::kServerStream},
                     {.name = "Write", .type = CallMetrics::Type::kBidiStream}},
                    {"OVERLOADED", "ETAG_MISMATCH"}};
  const std::string get =
      R"({grpc_type="unary",grpc_service="pkg.Service",grpc_method="Get")";
};

TEST_F(CallMetricsTest, EverySeriesExistsFromTheStart) {
  const std::string text = metrics.Write();
  for (
      const char* sample :
      {R"(grpc_server_started_total{grpc_type="server_stream",grpc_service="pkg.Service",grpc_method="Read"} 0)",
       R"(grpc_server_handled_total{grpc_type="bidi_stream",grpc_service="pkg.Service",grpc_method="Write",grpc_code="Unauthenticated"} 0)",
       R"(workspaced_errors_total{reason="ETAG_MISMATCH"} 0)",
       R"(workspaced_errors_total{reason="none"} 0)"})
    EXPECT_THAT(text, HasSubstr(sample));
}

TEST_F(CallMetricsTest, ACallIsCountedFromItsBeginToItsEnd) {
  CallMetrics::Method& method = calls.ForMethod("Get");
  method.Started();
  method.Started();
  method.Received(100);
  method.Sent(30);
  method.Handled(absl::OkStatus(), absl::Microseconds(70));
  const auto value = [&](absl::string_view name, absl::string_view more = "") {
    return ValueOf(metrics, absl::StrCat(name, get, more, "}"));
  };
  EXPECT_EQ(value("grpc_server_started_total"), 2);
  EXPECT_EQ(value("workspaced_calls_in_flight"), 1);
  EXPECT_EQ(value("grpc_server_handled_total", R"(,grpc_code="OK")"), 1);
  EXPECT_EQ(value("grpc_server_msg_received_total"), 1);
  EXPECT_EQ(value("workspaced_received_bytes_total"), 100);
  EXPECT_EQ(value("grpc_server_msg_sent_total"), 1);
  EXPECT_EQ(value("workspaced_sent_bytes_total"), 30);
  EXPECT_EQ(value("grpc_server_handling_seconds_bucket", R"(,le="5e-05")"), 0);
  EXPECT_EQ(value("grpc_server_handling_seconds_bucket", R"(,le="0.0001")"), 1);
  EXPECT_EQ(value("grpc_server_handling_seconds_count"), 1);
  EXPECT_DOUBLE_EQ(value("grpc_server_handling_seconds_sum"), 70e-6);
}

TEST_F(CallMetricsTest, ErrorsCountByCodeReasonAndLimit) {
  CallMetrics::Method& method = calls.ForMethod("Get");
  const absl::Status overloaded = base::MakeError(
      absl::StatusCode::kUnavailable, "",
      {.reason = "OVERLOADED", .metadata = {{"limit", "calls"}}});
  method.Handled(overloaded, absl::Seconds(1));
  method.Handled(absl::CancelledError(), absl::Seconds(1));
  method.Handled(
      base::MakeError(absl::StatusCode::kAborted, "", {.reason = "NEWER"}),
      absl::Seconds(1));
  EXPECT_EQ(ValueOf(metrics, absl::StrCat("grpc_server_handled_total", get,
                                          R"(,grpc_code="Unavailable"})")),
            1);
  EXPECT_EQ(ValueOf(metrics, absl::StrCat("grpc_server_handled_total", get,
                                          R"(,grpc_code="Canceled"})")),
            1);
  EXPECT_EQ(ValueOf(metrics, R"(workspaced_errors_total{reason="OVERLOADED"})"),
            1);
  // One without a reason, and one with a reason that is not known.
  EXPECT_EQ(ValueOf(metrics, R"(workspaced_errors_total{reason="none"})"), 2);
  EXPECT_EQ(ValueOf(metrics, R"(workspaced_overloaded_total{limit="calls"})"),
            1);
}

TEST_F(CallMetricsTest, TheNumberOfLimitsIsBounded) {
  for (int i = 0; i < 1000; ++i) {
    calls.ForMethod("Get").Handled(
        base::MakeError(absl::StatusCode::kUnavailable, "",
                        {.reason = "OVERLOADED",
                         .metadata = {{"limit", absl::StrCat("limit ", i)}}}),
        absl::ZeroDuration());
  }
  const std::string text = metrics.Write();
  EXPECT_THAT(text,
              HasSubstr(R"(workspaced_overloaded_total{limit="limit 0"})"));
  EXPECT_THAT(text, Not(HasSubstr(R"({limit="limit 999"})")));
}

}  // namespace
}  // namespace mlops::observe
