#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "service/server/commands.h"
#include "service/server/config_check.h"
#include "service/server/config_flags.h"
#include "service/server/version.h"

namespace mlops::server {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

std::variant<Config, int> Parse(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "workspaced");
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  return ParseCommandLine(static_cast<int>(argv.size()), argv.data());
}

Config Read(const std::vector<std::string>& arguments) {
  const auto parsed = Parse(arguments);
  if (const Config* config = std::get_if<Config>(&parsed)) return *config;
  ADD_FAILURE() << "exit code " << std::get<int>(parsed);
  return {};
}

// Sets an environment variable until the end of the scope.
class ScopedVariable {
 public:
  ScopedVariable(const char* name, const char* value) : name_(name) {
    ::setenv(name, value, 1);
  }
  ~ScopedVariable() { ::unsetenv(name_); }

 private:
  const char* name_;
};

// A directory for the files of a test.
class TempDir {
 public:
  TempDir() {
    char name[] = "/tmp/config_test.XXXXXX";
    path_ = ::mkdtemp(name);
  }
  ~TempDir() { std::filesystem::remove_all(path_); }

  // Writes a file and returns its path.
  std::string File(const std::string& name, const std::string& text) const {
    std::ofstream(Path(name)) << text;
    return Path(name);
  }
  std::string Path(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// Returns what an invalid command line prints to standard error.
std::string Refusal(const std::vector<std::string>& arguments) {
  testing::internal::CaptureStderr();
  const auto parsed = Parse(arguments);
  const std::string printed = testing::internal::GetCapturedStderr();
  EXPECT_TRUE(std::holds_alternative<int>(parsed) &&
              std::get<int>(parsed) == 2);
  return printed;
}

TEST(CommandLine, NeedsOnlyABase) {
  const Config config = Read({"--base", "/data"});
  EXPECT_EQ(config.base, "/data");
  EXPECT_TRUE(config.listen.empty());
  EXPECT_EQ(config.purge_delay, absl::Hours(72));
  EXPECT_EQ(config.idle_timeout, absl::InfiniteDuration());
  EXPECT_EQ(config.drain_timeout, absl::Seconds(30));
  EXPECT_EQ(config.log_calls, observe::CallLogLevel::kAll);
  EXPECT_FALSE(config.insecure || config.portable_fs || config.read_only);
}

TEST(CommandLine, TakesEveryFlag) {
  const Config config = std::get<Config>(Parse({"--base=/data",
                                                "--listen",
                                                "127.0.0.1:0",
                                                "--listen",
                                                "unix:/s",
                                                "--insecure",
                                                "--purge-delay",
                                                "0",
                                                "--idle-timeout",
                                                "1m30s",
                                                "--drain-timeout=5s",
                                                "--log-file",
                                                "/log",
                                                "--log-calls",
                                                "errors",
                                                "--workers",
                                                "3",
                                                "--max-watchers",
                                                "5",
                                                "--portable-fs",
                                                "--read-only"}));
  EXPECT_THAT(config.listen, ElementsAre("127.0.0.1:0", "unix:/s"));
  EXPECT_EQ(config.purge_delay, absl::ZeroDuration());
  EXPECT_EQ(config.idle_timeout, absl::Seconds(90));
  EXPECT_EQ(config.drain_timeout, absl::Seconds(5));
  EXPECT_EQ(config.log_file, "/log");
  EXPECT_EQ(config.log_calls, observe::CallLogLevel::kErrors);
  EXPECT_EQ(config.workers, 3);
  EXPECT_EQ(config.max_watchers, 5);
  EXPECT_TRUE(config.insecure && config.portable_fs && config.read_only);
}

TEST(CommandLine, RefusesBadFlagsInOneSentence) {
  for (const auto& [arguments, named] :
       std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{}, "--base"},
           {{"--base", "/d", "--nonsense"}, "--nonsense"},
           {{"--base", "/d", "--tls-crt=x"}, "the nearest one is --tls-cert"},
           {{"--base", "/d", "stray"}, "stray"},
           {{"--base", "/d", "--purge-delay", "3 days"},
            "\"3 days\" is not a duration"},
           {{"--base", "/d", "--purge-delay", "-1h"},
            "\"-1h\" is not a duration"},
           {{"--base", "/d", "--workers", "0"}, "--workers"},
           {{"--base", "/d", "--log-calls", "some"}, "--log-calls"}}) {
    const std::string printed = Refusal(arguments);
    EXPECT_THAT(printed, StartsWith("workspaced: "));
    EXPECT_THAT(printed, HasSubstr(named));
    EXPECT_EQ(std::count(printed.begin(), printed.end(), '\n'), 1) << printed;
  }
}

TEST(CommandLine, TakesTheFlagsForATeam) {
  const Config config = Read({"--base=/data",
                              "--wait",
                              "--tls-cert=c",
                              "--tls-key=k",
                              "--tls-client-ca=a",
                              "--tls-client-auth=optional",
                              "--tokens=t",
                              "--jwks=j",
                              "--jwt-issuer=i",
                              "--jwt-audience=u",
                              "--policy=p",
                              "--socket-group=g",
                              "--metrics=127.0.0.1:9464",
                              "--audit-log=l",
                              "--audit-reads",
                              "--audit-required",
                              "--purge-delay=3d",
                              "--proxy-socket=s",
                              "--proxy-group=x",
                              "--proxy-header=h"});
  EXPECT_EQ(config.tls_cert + config.tls_key + config.tls_client_ca, "cka");
  EXPECT_EQ(config.tls_client_auth, ClientCertificates::kOptional);
  EXPECT_EQ(config.tokens + config.jwks + config.jwt_issuer +
                config.jwt_audience + config.policy + config.socket_group,
            "tjiupg");
  EXPECT_EQ(config.proxy_socket + config.proxy_group + config.proxy_header,
            "sxh");
  EXPECT_EQ(config.metrics, "127.0.0.1:9464");
  EXPECT_EQ(config.audit_log, "l");
  EXPECT_TRUE(config.wait && config.audit_reads && config.audit_required);
  EXPECT_EQ(config.purge_delay, absl::Hours(72));
}

TEST(ParseSpan, AddsDays) {
  EXPECT_EQ(ParseSpan("90d"), absl::Hours(90 * 24));
  EXPECT_EQ(ParseSpan("1d12h"), absl::Hours(36));
  EXPECT_EQ(ParseSpan("0"), absl::ZeroDuration());
  EXPECT_EQ(ParseSpan("inf"), absl::InfiniteDuration());
  for (const char* text : {"", "d", "90", "-1d", "1d-2h", "3 days", "1dd", "h",
                           "12h1d", "nand", "infd", "1e999d"}) {
    EXPECT_EQ(ParseSpan(text), std::nullopt) << text;
  }
}

TEST(Sources, FlagsWinThenTheEnvironmentThenTheFile) {
  const TempDir dir;
  const std::string file = dir.File("c.toml",
                                    "# A comment with base = \"/none\"\n"
                                    "base = \"/file#1\"\n"
                                    "drain-timeout = \"1s\"\n"
                                    "idle-timeout = \"1s\"\n"
                                    "workers = 3\n"
                                    "insecure = true\n"
                                    "listen = [\"unix:/a\", \"unix:/b\"]\n");
  const ScopedVariable drain("WORKSPACED_DRAIN_TIMEOUT", "2s");
  const ScopedVariable idle("WORKSPACED_IDLE_TIMEOUT", "2s");
  const ScopedVariable empty("WORKSPACED_WORKERS", "");
  const Config config = Read({"--config", file, "--idle-timeout=3s"});
  EXPECT_EQ(config.base, "/file#1");
  EXPECT_EQ(config.drain_timeout, absl::Seconds(2));
  EXPECT_EQ(config.idle_timeout, absl::Seconds(3));
  EXPECT_EQ(config.workers, 3);
  EXPECT_TRUE(config.insecure);
  EXPECT_THAT(config.listen, ElementsAre("unix:/a", "unix:/b"));
  EXPECT_EQ(config.config_file, file);
  EXPECT_FALSE(Read({"--config", file, "--insecure=false"}).insecure);
}

TEST(Sources, TheEnvironmentSetsListsBooleansAndTheFile) {
  const TempDir dir;
  const std::string file = dir.File("c.toml", "base = '/data'\n");
  const ScopedVariable path("WORKSPACED_CONFIG", file.c_str());
  const ScopedVariable listen("WORKSPACED_LISTEN", "0.0.0.0:1, unix:/b");
  const ScopedVariable insecure("WORKSPACED_INSECURE", "true");
  const Config config = Read({});
  EXPECT_EQ(config.base, "/data");
  EXPECT_THAT(config.listen, ElementsAre("0.0.0.0:1", "unix:/b"));
  EXPECT_TRUE(config.insecure);
}

TEST(Sources, ErrorsNameTheSource) {
  const TempDir dir;
  for (const auto& [text, named] :
       std::vector<std::pair<std::string, std::string>>{
           {"\ntls-crt = 'c'",
            ":2: unknown key tls-crt; the nearest one is "
            "tls-cert"},
           {"tls_key = 'c'",
            ":1: unknown key tls_key; the nearest one is "
            "tls-key"},
           {"[tls]\ncert = 'c'", ":1: unknown key tls;"},
           {"config = 'c'", ":1: unknown key config;"},
           {"help = true", ":1: unknown key help;"},
           {"workers = 'many'", ":1: the value of workers must be an integer"},
           {"workers = 0", ":1: --workers"},
           {"insecure = 'yes'",
            ":1: the value of insecure must be true or false"},
           {"listen = [1]",
            ":1: the value of listen must be a string or an array of strings"},
           {"base = 2026-01-01", ":1: the value of base must be a string"},
           {"purge-delay = '3 days'", "\"3 days\" is not a duration"},
           {"workers = 1\nworkers = 2", ":2: "},
           {"base = ", ":1: "}}) {
    const std::string file = dir.File("c.toml", text);
    EXPECT_THAT(Refusal({"--base=/d", "--config", file}),
                AllOf(StartsWith("workspaced: " + file), HasSubstr(named)))
        << text;
  }
  EXPECT_THAT(Refusal({"--config", dir.Path("none")}),
              HasSubstr("cannot read " + dir.Path("none") + ": No such file"));
  EXPECT_THAT(Refusal({"--config", dir.Path("")}), HasSubstr("Is a directory"));
  EXPECT_THAT(Refusal({"--config", "/dev/zero"}), HasSubstr("larger than"));
  const ScopedVariable workers("WORKSPACED_WORKERS", "0");
  EXPECT_THAT(Refusal({"--base=/d"}),
              StartsWith("workspaced: WORKSPACED_WORKERS: --workers"));
}

TEST(Sources, AChangedFileChangesTheSettingsThatItNames) {
  const TempDir dir;
  const std::string file = dir.File("c.toml", "log-calls = 'all'\n");
  std::vector<std::string> arguments = {"workspaced", "--base=/d", "--config",
                                        file};
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  const int argc = static_cast<int>(argv.size());
  const Config before = std::get<Config>(ParseCommandLine(argc, argv.data()));
  dir.File("c.toml", "log-calls = 'off'\nbase = '/other'\nworkers = 16\n");
  const auto after = ReadConfigAgain(argc, argv.data());
  ASSERT_TRUE(after.ok()) << after.status();
  EXPECT_THAT(ChangedSettings(before, *after), ElementsAre("log-calls"));
  dir.File("c.toml", "log-calls = 'some'\n");
  EXPECT_THAT(ReadConfigAgain(argc, argv.data()).status().message(),
              HasSubstr("c.toml:1: --log-calls: \"some\" is none of"));
}

TEST(Sources, HangupReloadsServicesOnly) {
  const TempDir dir;
  const std::string file = dir.File("c.toml", "");
  EXPECT_FALSE(ReloadsOnHangup(Read({"--base=/d"})));
  EXPECT_TRUE(ReloadsOnHangup(Read({"--base=/d", "--config", file})));
  const ScopedVariable socket("NOTIFY_SOCKET", "/run/systemd/notify");
  EXPECT_TRUE(ReloadsOnHangup(Read({"--base=/d"})));
}

TEST(Contradictions, AreRefused) {
  for (const auto& [arguments, named] :
       std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"--listen=0.0.0.0:1"}, "unencrypted"},
           {{"--listen=nowhere"}, "\"nowhere\" is not an address"},
           {{"--metrics=unix:/m"}, "\"unix:/m\" is not HOST:PORT"},
           {{"--tls-cert=c"}, "--tls-cert needs --tls-key"},
           {{"--tls-key=c"}, "--tls-key needs --tls-cert"},
           {{"--tls-client-auth=required"}, "needs --tls-client-ca"},
           {{"--tls-cert=c", "--tls-key=k", "--tls-client-ca=a"},
            "needs --tls-client-auth optional or required"},
           {{"--jwks=j", "--jwt-issuer=i"}, "--jwks needs --jwt-audience"},
           {{"--jwt-issuer=i"}, "--jwt-issuer needs --jwks"},
           {{"--audit-reads"}, "--audit-reads needs --audit-log"},
           {{"--purge-early"}, "--purge-early needs --min-free-bytes"},
           {{"--project-pattern=team-("},
            "--project-pattern \"team-(\" is not"},
           {{"--audit-required"}, "--audit-required needs --audit-log"},
           {{"--proxy-group=g"}, "--proxy-group needs --proxy-socket"},
           {{"--proxy-socket=" + std::string(200, 's')}, "--proxy-socket: "},
           {{"--proxy-socket=unix:/run/proxy"}, "without \"unix:\""},
           {{"--proxy-header=Authorization"}, "cannot name callers"},
           {{"--proxy-header=grpc-user"}, "cannot name callers"},
           {{"--proxy-header=user-bin"}, "cannot name callers"},
           {{"--proxy-header=x user"}, "cannot name callers"},
           {{"--wait", "--read-only"}, "--wait waits for the lock"}}) {
    std::vector<std::string> all = {"--base=/d"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    EXPECT_THAT(Refusal(all), HasSubstr(named));
  }
  EXPECT_THAT(FindContradictions(
                  Read({"--base=/d", "--listen=0.0.0.0:1", "--tls-cert=c",
                        "--tls-key=k", "--metrics=0.0.0.0:9464"})),
              IsEmpty());
}

TEST(UnusableFiles, AreNamedWithTheReason) {
  const TempDir dir;
  const std::string file = dir.File("f", "");
  Config config = {.base = dir.Path("new/base"),
                   .tls_cert = file,
                   .log_file = dir.Path("log"),
                   .audit_log = file};
  EXPECT_THAT(FindUnusableFiles(config), IsEmpty());
  config = {.base = file,
            .socket_group = "no-such-group",
            .proxy_group = "no-proxy-group",
            .tls_cert = dir.Path(""),
            .policy = dir.Path("none"),
            .log_file = dir.Path("none/log")};
  EXPECT_THAT(
      FindUnusableFiles(config),
      ElementsAre(HasSubstr("is not a directory"), HasSubstr("--tls-cert"),
                  HasSubstr("--policy"), HasSubstr("--log-file"),
                  HasSubstr("no-such-group: no such group"),
                  HasSubstr("--proxy-group no-proxy-group: no such group")));
}

TEST(ConfigCheck, PrintsSettingsThatCanBeReadAgain) {
  const TempDir dir;
  const std::string file =
      dir.File("c.toml", "listen = 'unix:/a'\npurge-delay = '3d'\n");
  const ScopedVariable group("WORKSPACED_WORKERS", "4");
  const ScopedVariable port("WORKSPACED_PORT", "tcp://10.0.0.1:443");
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  EXPECT_EQ(std::get<int>(Parse({"config", "check", "--config", file,
                                 "--base=/a \"b\"", "--read-only=false"})),
            0);
  const std::string printed = testing::internal::GetCapturedStdout();
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "workspaced: ignored WORKSPACED_PORT, because no setting has this "
            "name\n");
  EXPECT_THAT(printed, HasSubstr("base = \"/a \\\"b\\\"\"  # flag\n"));
  EXPECT_THAT(printed, HasSubstr("listen = [\"unix:/a\"]  # " + file + ":1\n"));
  EXPECT_THAT(printed, HasSubstr("workers = 4  # WORKSPACED_WORKERS\n"));
  EXPECT_THAT(printed, HasSubstr("idle-timeout = \"inf\"  # default\n"));
  EXPECT_THAT(printed, Not(HasSubstr("\nconfig =")));
  const Config again = Read({"--config", dir.File("again.toml", printed)});
  EXPECT_EQ(again.base, "/a \"b\"");
  EXPECT_EQ(again.purge_delay, absl::Hours(72));
  EXPECT_EQ(again.log_calls, observe::CallLogLevel::kAll);
}

TEST(ConfigCheck, PrintsEveryProblem) {
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  EXPECT_EQ(std::get<int>(Parse({"config", "check", "--tls-cert=/none"})), 1);
  testing::internal::GetCapturedStdout();
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              AllOf(HasSubstr("--base DIR"), HasSubstr("--tls-key"),
                    HasSubstr("/none cannot be read")));
}

TEST(CommandLine, PrintsHelpAndVersionAndIsDone) {
  testing::internal::CaptureStdout();
  EXPECT_EQ(std::get<int>(Parse({"--help"})), 0);
  EXPECT_THAT(testing::internal::GetCapturedStdout(),
              HasSubstr("--purge-delay"));
  testing::internal::CaptureStdout();
  EXPECT_EQ(std::get<int>(Parse({"--version"})), 0);
  EXPECT_THAT(testing::internal::GetCapturedStdout(),
              HasSubstr(std::string(kVersion)));
}

}  // namespace
}  // namespace mlops::server
