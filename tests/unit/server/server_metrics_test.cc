#include "service/server/server_metrics.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "nlohmann/json.hpp"
#include "proto/cpp/base/error.h"
#include "re2/re2.h"
#include "service/catalog/usage_scan.h"
#include "service/observe/reload_metrics.h"
#include "service/rpc/call.h"
#include "service/server/metrics_http.h"
#include "tests/support/matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/server/http_client.h"

namespace mlops::server {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::string Packaging(absl::string_view name) {
  return ReadFile(absl::StrCat(SOURCE_DIR, "/service/packaging/", name));
}

// Returns a program that .ci/setup installs below build/tools, or that is on
// the path; "" if there is none.
std::string FindTool(absl::string_view name) {
  std::vector<std::string> dirs =
      absl::StrSplit(std::getenv("PATH"), absl::ByChar(':'));
  dirs.push_back(absl::StrCat(SOURCE_DIR, "/build/tools"));
  for (const std::string& dir : dirs) {
    std::string path = absl::StrCat(dir, "/", name);
    if (::access(path.c_str(), X_OK) == 0) return path;
  }
  return "";
}

// A server's parts, with something to see in each metric.
class ServerMetricsTest : public testing::Test {
 protected:
  ServerMetricsTest() {
    EXPECT_OK(authority.Create(
        {.project = core::ProjectName::Parse("live").value()}));
    EXPECT_OK(authority.Create(
        {.project = core::ProjectName::Parse("gone").value()}));
    EXPECT_OK(authority.Delete(
        {.project = core::ProjectName::Parse("gone").value(), .force = true}));
    EXPECT_OK(authority.Status(core::ProjectName::Parse("live").value(), {},
                               core::NeverCancelled));
    metrics.Watch({.catalog = catalog.get(),
                   .authority = &authority,
                   .ledger = &ledger,
                   .space_guard = &space_guard,
                   .artifacts = &artifacts,
                   .health = health.get(),
                   .workers = &workers,
                   .whole_file_workers = &workers,
                   .stream_workers = &workers,
                   .streams = &streams,
                   .transfers = &transfers,
                   .watches = &watches,
                   .acceptor = acceptor.get(),
                   .audit = audit.get(),
                   .ready = [] { return absl::OkStatus(); },
                   .certificate_expiry =
                       [] { return absl::UnixEpoch() + absl::Hours(1); }});
    metrics.MeasureDisk(temp.path());
    metrics.calls()
        .ForMethod("GetWorkspace")
        .Handled(base::MakeError(absl::StatusCode::kUnavailable, "",
                                 {.reason = "OVERLOADED",
                                  .metadata = {{"limit", "calls"}}}),
                 absl::Microseconds(70));
  }

  std::unique_ptr<fs::Dir> OpenBase() {
    return fs::OpenBaseDir(temp.Path("base"), {.on_sync = metrics.on_sync()})
        .value();
  }

  const support::TempDir temp;
  const bool has_base = (temp.MakeDirs("base"), true);
  ServerMetrics metrics;
  observe::ReloadMetrics policy{metrics.metrics(), "policy"};
  const std::shared_ptr<core::DiskHealth> health =
      std::make_shared<core::DiskHealth>();
  core::ChangeLog changes;
  const std::unique_ptr<catalog::FileCatalog> catalog =
      catalog::FileCatalog::Open(OpenBase(), temp.Path("base"),
                                 {.changes = &changes, .health = health})
          .value();
  core::Authority authority{
      catalog.get(),
      metrics.Measured(catalog::MakeUsageScanner(OpenBase(), temp.Path("base"),
                                                 base::SystemClock())),
      temp.Path("base")};
  core::UsageLedger ledger{nullptr};
  SpaceGuard space_guard{{}};
  artifacts::Artifacts artifacts{catalog.get(), OpenBase(), {.health = health}};
  base::ThreadPool workers{1, 10};
  const std::unique_ptr<observe::Log> log =
      observe::Log::Open({.file = temp.Path("log")}).value();
  rpc::Calls calls{&workers, &workers, log.get()};
  rpc::ReceiveQuota quota;
  rpc::ArtifactStreams streams{&artifacts, &calls, &workers, &quota, 128};
  rpc::TransferSlots transfers{rpc::kMaxTransfers};
  rpc::WatchHub watches{catalog.get(), &changes, {}};
  const std::unique_ptr<Acceptor> acceptor =
      Acceptor::Listen({absl::StrCat("unix:", temp.Path("socket"))}).value();
  const std::unique_ptr<observe::AuditLog> audit =
      observe::AuditLog::Open(temp.Path("audit"), {}).value();
};

TEST_F(ServerMetricsTest, TheyShowTheStateOfTheServer) {
  policy.Count(true);
  policy.Count(absl::FailedPreconditionError(""));
  policy.Count(false);
  const std::string text = metrics.metrics().Write();
  for (
      const char* sample : {
          R"(workspaced_workspaces{state="live"} 1)",
          R"(workspaced_workspaces{state="deleted"} 1)",
          R"(workspaced_workspaces{state="unreachable"} 0)",
          R"(workspaced_leases 0)",
          R"(workspaced_scan_seconds_count 1)",
          R"(workspaced_queued_tasks{pool="streams"} 0)",
          R"(workspaced_artifact_streams_limit 128)",
          R"(workspaced_transfers_limit 16)",
          R"(workspaced_transfers{kind="export"} 0)",
          R"(workspaced_transfers_total{kind="clone",result="failure"} 0)",
          R"(workspaced_transfer_bytes_total{kind="import"} 0)",
          R"(workspaced_watchers 0)",
          R"(workspaced_watchers_limit 4096)",
          R"(workspaced_cache_bytes{cache="encoded_changes"} 0)",
          R"(workspaced_disk_healthy 1)",
          R"(workspaced_over_quota_workspaces 0)",
          R"(workspaced_disk_low 0)",
          R"(workspaced_purged_early_total 0)",
          R"(workspaced_ready 1)",
          R"(workspaced_audit_writable 1)",
          R"(workspaced_connections 0)",
          R"(workspaced_certificate_expiry_timestamp_seconds 3600)",
          R"(workspaced_overloaded_total{limit="calls"} 1)",
          R"(workspaced_reloads_total{file="policy",result="success"} 1)",
          R"(workspaced_reloads_total{file="policy",result="failure"} 1)",
          R"(workspaced_last_reload_successful{file="policy"} 0)",
          R"(grpc_server_started_total{grpc_type="bidi_stream",grpc_service="mlops.workspace.v1.WorkspaceService",grpc_method="WriteArtifact"} 0)",
          R"(workspaced_errors_total{reason="NO_SPACE"} 0)",
      })
    EXPECT_THAT(text, HasSubstr(absl::StrCat("\n", sample, "\n")));
  EXPECT_THAT(text, HasSubstr("\nworkspaced_build_info{version=\""));
  // The creations and the deletion have synced.
  EXPECT_THAT(text, Not(HasSubstr("\nworkspaced_sync_seconds_count 0\n")));
  EXPECT_THAT(text, Not(HasSubstr("\nworkspaced_disk_size_bytes 0\n")));
  EXPECT_THAT(text,
              Not(HasSubstr("\nworkspaced_cache_bytes{cache=\"statuses\"} 0")));
  EXPECT_THAT(text,
              Not(HasSubstr("\nworkspaced_cache_bytes{cache=\"changes\"} 0")));
}

// Returns the metrics that occur in `text` and are not in the exposition.
std::vector<std::string> Unknown(const std::string& text,
                                 const std::string& exposition) {
  std::vector<std::string> unknown;
  re2::StringPiece rest(text);
  std::string name;
  static const RE2 kName(R"(\b((?:grpc_server|workspaced|process)_\w+))");
  while (RE2::FindAndConsume(&rest, kName, &name)) {
    if (!absl::StrContains(exposition, absl::StrCat("\n", name, "{")) &&
        !absl::StrContains(exposition, absl::StrCat("\n", name, " ")))
      unknown.push_back(name);
  }
  return unknown;
}

TEST_F(ServerMetricsTest, TheDashboardAndTheAlertsUseOnlyMetricsThatExist) {
  const std::string exposition = metrics.metrics().Write();
  EXPECT_THAT(
      Unknown("rate(workspaced_errors_total) + workspaced_none", exposition),
      testing::ElementsAre("workspaced_none"));
  for (const char* name : {"grafana-dashboard.json", "alerts.yml"}) {
    const std::string text = Packaging(name);
    EXPECT_THAT(text, HasSubstr("workspaced_errors_total")) << name;
    EXPECT_THAT(Unknown(text, exposition), IsEmpty()) << name;
  }
}

TEST(GrafanaDashboard, EveryPanelHasAQueryAndAPlaceOfItsOwn) {
  const auto dashboard =
      nlohmann::json::parse(Packaging("grafana-dashboard.json"));
  std::set<std::pair<int, int>> cells;
  std::set<int> ids;
  for (const auto& panel : dashboard.at("panels")) {
    EXPECT_TRUE(ids.insert(panel.at("id").get<int>()).second) << panel;
    const auto& place = panel.at("gridPos");
    for (int x = 0; x < place.at("w"); ++x) {
      for (int y = 0; y < place.at("h"); ++y) {
        EXPECT_TRUE(cells
                        .emplace(place.at("x").get<int>() + x,
                                 place.at("y").get<int>() + y)
                        .second)
            << panel.at("title");
      }
    }
    if (panel.at("type") == "row") continue;
    EXPECT_FALSE(panel.at("targets").empty()) << panel.at("title");
    for (const auto& target : panel.at("targets"))
      EXPECT_NE(target.at("expr"), "") << panel.at("title");
  }
}

// --- With the programs of Prometheus ---

// Runs a shell command, and returns its output.
std::string Output(const std::string& command, int* exit_code) {
  FILE* const pipe = ::popen(absl::StrCat(command, " 2>&1").c_str(), "r");
  std::string output;
  char buffer[4096];
  size_t size;
  while ((size = std::fread(buffer, 1, sizeof(buffer), pipe)) > 0)
    output.append(buffer, size);
  *exit_code = ::pclose(pipe);
  return output;
}

constexpr char kNoPrometheus[] =
    "needs promtool and prometheus, which `.ci/setup` installs";

TEST_F(ServerMetricsTest, PromtoolFindsNoFault) {
  const std::string promtool = FindTool("promtool");
  if (promtool.empty()) GTEST_SKIP() << kNoPrometheus;
  temp.WriteFile("metrics.txt", metrics.metrics().Write());
  int exit_code = -1;
  EXPECT_EQ(Output(absl::StrCat(promtool, " check metrics <",
                                temp.Path("metrics.txt")),
                   &exit_code),
            "");
  EXPECT_EQ(exit_code, 0);
  const std::string output =
      Output(absl::StrCat(promtool, " check rules --lint-fatal ", SOURCE_DIR,
                          "/service/packaging/alerts.yml"),
             &exit_code);
  EXPECT_EQ(exit_code, 0) << output;
}

// A process that is killed at the end.
class Process {
 public:
  Process(const std::vector<std::string>& command, const std::string& output) {
    std::vector<char*> argv;
    for (const std::string& word : command)
      argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ != 0) return;
    const int fd = ::open(output.c_str(), O_WRONLY | O_CREAT, 0600);
    ::dup2(fd, 1);
    ::dup2(fd, 2);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  ~Process() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

 private:
  pid_t pid_;
};

// Returns an address that was free a moment ago.
std::string FreeAddress() {
  return MetricsHttp::Start("127.0.0.1:0", {}).value()->address();
}

TEST_F(ServerMetricsTest, PrometheusScrapesThemAndReadsTheAlerts) {
  const std::string prometheus = FindTool("prometheus");
  if (prometheus.empty()) GTEST_SKIP() << kNoPrometheus;
  const auto http =
      MetricsHttp::Start(
          "127.0.0.1:0",
          {.metrics = [this] { return metrics.metrics().Write(); }})
          .value();
  temp.WriteFile("prometheus.yml",
                 absl::StrCat(R"(
global: {scrape_interval: 500ms, scrape_timeout: 500ms}
rule_files: [)",
                              SOURCE_DIR, R"(/service/packaging/alerts.yml]
scrape_configs:
- job_name: workspaced
  static_configs: [{targets: [")",
                              http->address(), "\"]}]\n"));
  const std::string address = FreeAddress();
  const Process process(
      {prometheus, absl::StrCat("--config.file=", temp.Path("prometheus.yml")),
       absl::StrCat("--storage.tsdb.path=", temp.Path("data")),
       absl::StrCat("--web.listen-address=", address)},
      temp.Path("prometheus.log"));
  const auto query = [&](absl::string_view expression) {
    return Get(address, absl::StrCat("/api/v1/query?query=", expression));
  };
  std::string answer;
  for (int i = 0; i < 300 && !absl::StrContains(answer, "\"live\""); ++i) {
    absl::SleepFor(absl::Milliseconds(100));
    answer = query("workspaced_workspaces%7Bstate=%22live%22%7D");
  }
  EXPECT_THAT(answer, HasSubstr(R"("__name__":"workspaced_workspaces")"))
      << temp.ReadFile("prometheus.log");
  EXPECT_THAT(query("grpc_server_handling_seconds_count"),
              HasSubstr("GetWorkspace"));
  EXPECT_THAT(query("up"), HasSubstr(",\"1\"]"));
}

}  // namespace
}  // namespace mlops::server
