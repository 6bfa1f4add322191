#include "service/server/config_flags.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <map>

#include "CLI/CLI.hpp"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "proto/cpp/base/status_macros.h"
#include "service/base/nearest.h"
#include "service/server/config_file.h"

namespace mlops::server {
namespace {

constexpr absl::string_view kPrefix = "WORKSPACED_";
constexpr char kConfigFlag[] = "--config";
// The type that --help shows for integers.
constexpr char kInteger[] = "N";

// --- Flags ---

// Adds an option that takes a duration such as "72h", "1m30s", "3d" or "0".
// `shown` is the default as text.
void AddDuration(CLI::App& app, const std::string& name, absl::Duration& value,
                 const std::string& shown, const std::string& help) {
  const auto parse = [&value, name](const std::string& text) {
    const std::optional<absl::Duration> span = ParseSpan(text);
    if (!span.has_value()) {
      throw CLI::ValidationError(
          name,
          absl::StrCat("\"", text,
                       "\" is not a duration such as 90s, 15m, 72h or 3d"));
    }
    value = *span;
  };
  app.add_option_function<std::string>(name, parse, help)
      ->type_name("SPAN")
      ->default_str(shown);
}

// Adds an option that takes one of the keys of `choices`.
template <typename T>
void AddChoice(CLI::App& app, const std::string& name, T& value,
               const std::map<std::string, T>& choices,
               const std::string& shown, const std::string& help) {
  const auto parse = [&value, name, choices](const std::string& text) {
    const auto choice = choices.find(text);
    if (choice == choices.end()) {
      const std::string known =
          absl::StrJoin(choices, ", ", [](std::string* out, const auto& entry) {
            absl::StrAppend(out, entry.first);
          });
      throw CLI::ValidationError(
          name, absl::StrCat("\"", text, "\" is none of: ", known));
    }
    value = choice->second;
  };
  app.add_option_function<std::string>(name, parse, help)
      ->type_name("WHICH")
      ->default_str(shown);
}

void AddText(CLI::App& app, const std::string& name, std::string& value,
             const std::string& type, const std::string& help) {
  app.add_option(name, value, help)->type_name(type);
}

void AddNumber(CLI::App& app, const std::string& name, int& value, int max,
               const std::string& help) {
  app.add_option(name, value, help)
      ->check(CLI::Range(1, max).description(""))
      ->type_name(kInteger)
      ->capture_default_str();
}

void AddBytes(CLI::App& app, const std::string& name, int64_t& value,
              const std::string& help) {
  app.add_option(name, value, help)
      ->check(CLI::Range(int64_t{0}, std::numeric_limits<int64_t>::max())
                  .description(""))
      ->type_name(kInteger)
      ->capture_default_str();
}

void AddBaseFlags(CLI::App& app, Config& config) {
  AddText(app, "--base", config.base, "DIR",
          "Directory of the workspaces; created if missing");
  app.add_flag("--read-only", config.read_only,
               "Take no lock, change nothing below DIR, which need not be "
               "writable, and refuse changes. Listens only on the addresses of "
               "--listen or, without any, on a Unix socket outside DIR");
  app.add_flag("--wait", config.wait,
               "If another server holds DIR, wait until it exits and then take "
               "over, instead of exiting with 3");
}

void AddAddressFlags(CLI::App& app, Config& config) {
  app.add_option("--listen", config.listen,
                 "Also listen here: HOST:PORT (port 0 picks a free one) or "
                 "unix:PATH; may be repeated. Unless --read-only is given, the "
                 "server always listens on the Unix socket "
                 "DIR/.workspaced/socket")
      ->type_name("ADDRESS");
  app.add_flag(
      "--insecure", config.insecure,
      "Allow addresses that other machines can reach, without encryption");
  AddText(app, "--socket-group", config.socket_group, "GROUP",
          "Let the members of this group connect to the Unix sockets, not only "
          "the server's own user");
}

void AddProxyFlags(CLI::App& app, Config& config) {
  AddText(app, "--proxy-socket", config.proxy_socket, "PATH",
          "Also listen on this Unix socket for a reverse proxy, which says in "
          "--proxy-header who calls. Whoever can connect to it can be anybody");
  AddText(app, "--proxy-group", config.proxy_group, "GROUP",
          "Let the members of this group connect to --proxy-socket, not only "
          "the server's own user");
  app.add_option("--proxy-header", config.proxy_header,
                 "Header in which the proxy names the caller. It is ignored on "
                 "all other addresses")
      ->type_name("NAME")
      ->capture_default_str();
}

void AddTlsFlags(CLI::App& app, Config& config) {
  AddText(app, "--tls-cert", config.tls_cert, "FILE",
          "Encrypt TCP connections with this certificate chain (PEM), which is "
          "read again when it changes, as are all files below");
  AddText(app, "--tls-key", config.tls_key, "FILE",
          "Private key of --tls-cert (PEM)");
  AddText(app, "--tls-client-ca", config.tls_client_ca, "FILE",
          "Certificates (PEM) of the authorities that issue clients' "
          "certificates");
  AddChoice<ClientCertificates>(
      app, "--tls-client-auth", config.tls_client_auth,
      {{"none", ClientCertificates::kNone},
       {"optional", ClientCertificates::kOptional},
       {"required", ClientCertificates::kRequired}},
      "none",
      "Whether clients present a certificate of --tls-client-ca: none, "
      "optional or required");
}

void AddIdentityFlags(CLI::App& app, Config& config) {
  AddText(app, "--tokens", config.tokens, "FILE",
          "Accept the bearer tokens whose hashes are in this file");
  AddText(app, "--jwks", config.jwks, "FILE",
          "Accept JSON Web Tokens signed by the keys in this JWKS file; needs "
          "--jwt-issuer and --jwt-audience");
  AddText(app, "--jwt-issuer", config.jwt_issuer, "URL",
          "Issuer that JSON Web Tokens must name");
  AddText(app, "--jwt-audience", config.jwt_audience, "NAME",
          "Audience that JSON Web Tokens must name");
  AddText(app, "--policy", config.policy, "FILE",
          "Roles and bindings (YAML): what each caller may do. Without it, "
          "every authenticated caller may do everything");
}

void AddWorkspaceFlags(CLI::App& app, Config& config) {
  AddText(app, "--project-pattern", config.project_pattern, "RE2",
          "Regular expression that the whole name of a new or restored "
          "workspace must match, for example \"(risk|ads)-.*\". Existing "
          "workspaces are served whatever their names are");
  AddBytes(app, "--min-free-bytes", config.min_free_bytes,
           "Warn while the disk of DIR has fewer free bytes; 0 = never");
  app.add_flag("--purge-early", config.purge_early,
               "While the disk has fewer than --min-free-bytes, purge the "
               "workspaces that were deleted first, although the trash "
               "promised to keep them longer");
  AddText(app, "--default-template", config.default_template, "NAME",
          "Create workspaces from this template, DIR/.templates/NAME, unless "
          "the request names another one");
}

void AddTimeFlags(CLI::App& app, Config& config) {
  AddDuration(app, "--purge-delay", config.purge_delay, "72h",
              "How long the trash keeps a workspace; 0 = not at all");
  AddDuration(app, "--idle-timeout", config.idle_timeout, "inf",
              "Exit after this time without a call; inf = never");
  AddDuration(app, "--drain-timeout", config.drain_timeout, "30s",
              "How long calls in flight may take after SIGTERM");
  AddDuration(app, "--client-timeout", config.client_timeout, "2m",
              "End a call whose client neither sends nor reads for this long");
}

void AddLogFlags(CLI::App& app, Config& config) {
  AddText(app, "--log-file", config.log_file, "FILE",
          "Write the log here instead of to standard error");
  AddChoice<observe::CallLogLevel>(app, "--log-calls", config.log_calls,
                                   {{"all", observe::CallLogLevel::kAll},
                                    {"errors", observe::CallLogLevel::kErrors},
                                    {"off", observe::CallLogLevel::kOff}},
                                   "all",
                                   "Which calls to log: all, errors or off");
  AddText(app, "--audit-log", config.audit_log, "FILE",
          "Append a JSON line here for each change and each refused call");
  app.add_flag("--audit-reads", config.audit_reads,
               "Also write calls that change nothing to the audit log");
  app.add_flag("--audit-required", config.audit_required,
               "Refuse changes while the audit log cannot be written, instead "
               "of reporting it and continuing");
  AddText(
      app, "--metrics", config.metrics, "HOST:PORT",
      "Serve Prometheus metrics, /healthz and /readyz here, by HTTP without "
      "encryption");
}

void AddLimitFlags(CLI::App& app, Config& config) {
  AddNumber(app, "--workers", config.workers, 256,
            "Threads for calls that write files or walk directories");
  AddNumber(app, "--max-artifact-streams", config.max_artifact_streams, 65536,
            "Artifacts that may be read and written at the same time");
  AddNumber(app, "--max-watchers", config.max_watchers, 65536,
            "Streams that may watch workspaces at the same time");
  app.add_flag("--portable-fs", config.portable_fs,
               "Use only POSIX calls on files");
}

// --- Other sources ---

std::string Name(const CLI::Option& option) { return option.get_single_name(); }

// Whether `option` is a setting, unlike --help, --version and --config.
bool IsSetting(const CLI::Option& option) { return option.get_configurable(); }

bool IsBoolean(const CLI::Option& option) {
  return option.get_items_expected_max() == 0;
}

bool IsList(const CLI::Option& option) { return option.get_expected_max() > 1; }

bool IsInteger(const CLI::Option& option) {
  return option.get_type_name() == kInteger;
}

std::string VariableName(absl::string_view flag) {
  return absl::StrCat(
      kPrefix, absl::AsciiStrToUpper(absl::StrReplaceAll(flag, {{"-", "_"}})));
}

std::string Variable(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  return value == nullptr ? "" : value;
}

// Sets `option` as if the values were on the command line.
absl::Status Set(CLI::Option& option, const std::vector<std::string>& values,
                 absl::string_view source) {
  if (values.empty()) return absl::OkStatus();
  try {
    for (const std::string& value : values) option.add_result(value);
    option.run_callback();
  } catch (const CLI::Error& error) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": ", error.what()));
  }
  return absl::OkStatus();
}

absl::Status CheckType(const CLI::Option& option, const FileSetting& setting) {
  using Type = FileSetting::Type;
  const bool is_string = setting.type == Type::kString;
  const auto mismatch = [&](absl::string_view expected) {
    return absl::InvalidArgumentError(
        absl::StrCat(setting.position, ": the value of ", setting.key,
                     " must be ", expected));
  };
  // Set() passes values as text, so the types must be checked here.
  if (IsBoolean(option)) {
    return setting.type == Type::kBoolean ? absl::OkStatus()
                                          : mismatch("true or false");
  }
  if (IsInteger(option)) {
    return setting.type == Type::kInteger ? absl::OkStatus()
                                          : mismatch("an integer");
  }
  if (IsList(option)) {
    return is_string || setting.type == Type::kStrings
               ? absl::OkStatus()
               : mismatch("a string or an array of strings");
  }
  return is_string ? absl::OkStatus() : mismatch("a string");
}

// Maps each setting whose value is not the default to its source.
using Sources = std::map<std::string, std::string>;

absl::Status AddVariables(CLI::App& app, Sources& sources) {
  for (CLI::Option* option : app.get_options({})) {
    const std::string name = VariableName(Name(*option));
    const std::string value = Variable(name);
    // Flags take precedence over variables.
    if (!IsSetting(*option) || sources.count(Name(*option)) > 0 ||
        value.empty()) {
      continue;
    }
    std::vector<std::string> values = {value};
    if (IsList(*option))
      values = absl::StrSplit(value, absl::ByAnyChar(", "), absl::SkipEmpty());
    RETURN_IF_ERROR(Set(*option, values, name));
    sources[Name(*option)] = name;
  }
  return absl::OkStatus();
}

absl::Status AddFile(CLI::App& app, const std::string& path, Sources& sources) {
  ASSIGN_OR_RETURN(const std::vector<FileSetting> settings,
                   ReadConfigFile(path));
  for (const FileSetting& setting : settings) {
    CLI::Option* option =
        app.get_option_no_throw(absl::StrCat("--", setting.key));
    if (option == nullptr || !IsSetting(*option)) {
      return absl::InvalidArgumentError(
          absl::StrCat(setting.position, ": unknown key ", setting.key,
                       "; the nearest one is ", NearestFlag(app, setting.key)));
    }
    RETURN_IF_ERROR(CheckType(*option, setting));
    // Flags and variables take precedence over the file.
    if (!sources.emplace(setting.key, setting.position).second) continue;
    RETURN_IF_ERROR(Set(*option, setting.values, setting.position));
  }
  return absl::OkStatus();
}

// Returns `text` as a TOML string.
std::string Quoted(absl::string_view text) {
  return absl::StrCat(
      "\"", absl::StrReplaceAll(text, {{"\\", "\\\\"}, {"\"", "\\\""}}), "\"");
}

std::string TomlValue(const CLI::Option& option) {
  if (IsBoolean(option))
    return option.count() > 0 && option.as<bool>() ? "true" : "false";
  // A setting without a source has its default value.
  const std::string text =
      option.count() > 0 ? option.results().back() : option.get_default_str();
  if (IsInteger(option)) return text;
  if (!IsList(option)) return Quoted(text);
  const auto quote = [](std::string* out, const std::string& element) {
    absl::StrAppend(out, Quoted(element));
  };
  return absl::StrCat("[", absl::StrJoin(option.results(), ", ", quote), "]");
}

std::vector<Setting> List(const CLI::App& app, const Sources& sources) {
  std::vector<Setting> settings;
  for (const CLI::Option* option : app.get_options({})) {
    if (!IsSetting(*option)) continue;
    const auto source = sources.find(Name(*option));
    settings.push_back(
        {.name = Name(*option),
         .value = TomlValue(*option),
         .source = source == sources.end() ? "default" : source->second});
  }
  return settings;
}

}  // namespace

std::optional<absl::Duration> ParseSpan(absl::string_view text) {
  absl::Duration days, rest;
  // absl::ParseDuration() has no unit for days.
  if (const size_t end = text.find('d'); end != absl::string_view::npos) {
    double count = 0;
    if (!absl::SimpleAtod(text.substr(0, end), &count) || !std::isfinite(count))
      return std::nullopt;
    days = count * absl::Hours(24);
    text.remove_prefix(end + 1);
    if (text.empty()) text = "0";
  }
  if (!absl::ParseDuration(text, &rest)) return std::nullopt;
  if (std::min(days, rest) < absl::ZeroDuration()) return std::nullopt;
  return days + rest;
}

void AddFlags(CLI::App& app, Config& config) {
  app.add_option(kConfigFlag, config.config_file,
                 "Read settings from this TOML file. Its keys are the flags "
                 "below without --; a setting that is also a flag or an "
                 "environment variable such as WORKSPACED_TLS_CERT is taken "
                 "from there")
      ->type_name("FILE")
      ->configurable(false);
  AddBaseFlags(app, config);
  AddAddressFlags(app, config);
  AddProxyFlags(app, config);
  AddTlsFlags(app, config);
  AddIdentityFlags(app, config);
  AddWorkspaceFlags(app, config);
  AddTimeFlags(app, config);
  AddLogFlags(app, config);
  AddLimitFlags(app, config);
}

absl::Status AddOtherSources(CLI::App& app, Config& config) {
  Sources sources;
  for (const CLI::Option* option : app.get_options({})) {
    if (option->count() > 0) sources[Name(*option)] = "flag";
  }
  // The order is the precedence: each source skips the settings that an earlier
  // one has set.
  RETURN_IF_ERROR(AddVariables(app, sources));
  if (config.config_file.empty())
    config.config_file = Variable(VariableName("config"));
  if (!config.config_file.empty())
    RETURN_IF_ERROR(AddFile(app, config.config_file, sources));
  config.settings = List(app, sources);
  return absl::OkStatus();
}

std::string NearestFlag(const CLI::App& app, absl::string_view name) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options({})) {
    if (IsSetting(*option)) names.push_back(Name(*option));
  }
  const std::vector<absl::string_view> known(names.begin(), names.end());
  return std::string(base::Nearest(name, known));
}

std::vector<std::string> UnknownVariables(const Config& config) {
  std::vector<std::string> known = {VariableName("config")};
  for (const Setting& setting : config.settings)
    known.push_back(VariableName(setting.name));
  std::vector<std::string> unknown;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::pair<std::string, std::string> entry =
        absl::StrSplit(*variable, absl::MaxSplits('=', 1));
    const std::string& name = entry.first;
    if (absl::StartsWith(name, kPrefix) &&
        std::find(known.begin(), known.end(), name) == known.end()) {
      unknown.push_back(name);
    }
  }
  return unknown;
}

}  // namespace mlops::server
