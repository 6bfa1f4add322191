#include "service/server/config.h"

#include <map>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "service/server/version.h"

namespace mlops::server {
namespace {

// Adds an option that takes a duration such as "72h", "1m30s" or "0".
CLI::Option* AddDuration(CLI::App& app, const std::string& name,
                         absl::Duration& value, const std::string& help) {
  const auto parse = [&value, name](const std::string& text) {
    if (!absl::ParseDuration(text, &value) || value < absl::ZeroDuration()) {
      throw CLI::ValidationError(
          name, absl::StrCat("\"", text,
                             "\" is not a duration such as 90s, 15m or 72h"));
    }
  };
  return app.add_option_function<std::string>(name, parse, help)
      ->type_name("SPAN");
}

}  // namespace

std::variant<Config, int> ParseCommandLine(int argc, char** argv) {
  Config config;
  CLI::App app(
      "The authority over the MLOps project workspaces below one directory.",
      "workspaced");
  app.set_version_flag("--version", std::string(kVersion));
  app.footer(
      "workspaced --decode-record DIR < DIR/workspace.yaml prints that record "
      "as JSON, as this server reads it, and exits.");
  app.add_option("--base", config.base,
                 "Directory of the workspaces; created if missing")
      ->required()
      ->type_name("DIR");
  app.add_flag("--read-only", config.read_only,
               "Take no lock, change nothing below DIR, which need not be "
               "writable, and refuse changes. Listens only on the addresses of "
               "--listen or, without any, on a Unix socket outside DIR");
  app.add_option("--listen", config.listen,
                 "Also listen here: HOST:PORT (port 0 picks a free one) or "
                 "unix:PATH; may be repeated. Unless --read-only is given, the "
                 "server always listens on the Unix socket "
                 "DIR/.workspaced/socket")
      ->type_name("ADDRESS");
  app.add_flag(
      "--insecure", config.insecure,
      "Allow addresses that other machines can reach, without encryption");
  AddDuration(app, "--purge-delay", config.purge_delay,
              "How long the trash keeps a workspace; 0 = not at all [72h]");
  AddDuration(app, "--idle-timeout", config.idle_timeout,
              "Exit after this time without a call [never]");
  AddDuration(app, "--drain-timeout", config.drain_timeout,
              "How long calls in flight may take after SIGTERM [30s]");
  AddDuration(
      app, "--client-timeout", config.client_timeout,
      "End a call whose client neither sends nor reads for this long [2m]");
  app.add_option("--log-file", config.log_file,
                 "Write the log here instead of to standard error")
      ->type_name("FILE");
  const std::map<std::string, observe::CallLogLevel> levels = {
      {"all", observe::CallLogLevel::kAll},
      {"errors", observe::CallLogLevel::kErrors},
      {"off", observe::CallLogLevel::kOff}};
  app.add_option("--log-calls", config.log_calls,
                 "Which calls to log: all, errors or off [all]")
      ->transform(CLI::CheckedTransformer(levels).description(""))
      ->type_name("WHICH");
  app.add_option("--workers", config.workers,
                 "Threads for calls that write files or walk directories")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  app.add_option("--max-artifact-streams", config.max_artifact_streams,
                 "Artifacts that may be read and written at the same time")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  app.add_flag("--portable-fs", config.portable_fs,
               "Use only POSIX calls on files");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    std::cerr << "workspaced: " << error.what() << " (see workspaced --help)\n";
    return 2;
  }
  return config;
}

}  // namespace mlops::server
