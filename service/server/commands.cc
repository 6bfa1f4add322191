#include "service/server/commands.h"

#include <iostream>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "proto/cpp/base/status_macros.h"
#include "service/auth/commands.h"
#include "service/doctor/commands.h"
#include "service/rpc/identify.h"
#include "service/server/config_check.h"
#include "service/server/config_flags.h"
#include "service/server/identity.h"
#include "service/server/version.h"

namespace mlops::server {
namespace {

constexpr int kUsageError = 2;

// Prints the settings in the format of the --config file, with their sources as
// comments.
void PrintSettings(const Config& config, std::ostream& out) {
  for (const Setting& setting : config.settings) {
    out << setting.name << " = " << setting.value << "  # " << setting.source
        << "\n";
  }
}

int CheckConfig(const Config& config) {
  std::vector<std::string> problems = FindContradictions(config);
  for (std::string& problem : FindUnusableFiles(config))
    problems.push_back(std::move(problem));
  // Parse the files only if all of them can be read, or one mistake would be
  // reported twice.
  if (problems.empty()) {
    for (const absl::Status& status :
         {OpenGate(config).status(), LoadTls(config).status()}) {
      if (!status.ok()) problems.emplace_back(status.message());
    }
  }
  PrintSettings(config, std::cout);
  for (const std::string& name : UnknownVariables(config)) {
    std::cerr << "workspaced: ignored " << name
              << ", because no setting has this name\n";
  }
  for (const std::string& problem : problems)
    std::cerr << "workspaced: " << problem << "\n";
  return problems.empty() ? 0 : 1;
}

// The flags and commands, and the result of parsing them. Commands accept the
// server's settings too, so that they see the same files.
class CommandLine {
 public:
  CommandLine() {
    app_.set_version_flag("--version", std::string(kVersion));
    app_.footer(
        "workspaced --decode-record DIR < DIR/workspace.yaml prints that "
        "record as JSON, as this server reads it, and exits.");
    AddFlags(app_, config_);
    AddTokenCommand();
    AddPolicyCommand();
    AddDoctorCommand();
    CLI::App* config = AddCommand(app_, "config", "Inspect the settings");
    config->require_subcommand(1);
    config_check_ = AddCommand(
        *config, "check",
        "Check the settings and the files that they name, print them as TOML "
        "with the source of each, and exit");
  }

  // Returns the first problem. Throws CLI::ParseError for the flags.
  absl::Status Parse(int argc, char** argv) {
    app_.parse(argc, argv);
    return AddOtherSources(app_, config_);
  }

  // Runs the command, if there is one.
  std::optional<int> RunCommand() const {
    if (config_check_->parsed()) return CheckConfig(config_);
    if (token_->parsed()) return MakeToken();
    if (doctor_->parsed()) return Examine();
    if (policy_check_->parsed()) {
      if (config_.policy.empty()) return Need("--policy FILE");
      return auth::CheckPolicy(config_.policy, rpc::RpcsForPolicy(), principal_,
                               rpc_, project_, std::cout, std::cerr);
    }
    return std::nullopt;
  }

  // Prints the help or version that `error` asks for, or returns the error as a
  // sentence.
  absl::StatusOr<int> Explain(const CLI::ParseError& error) const {
    if (error.get_exit_code() == 0) return app_.exit(error);
    std::string sentence = error.what();
    // Name the nearest flag, because most unknown flags are misspelled.
    const std::vector<std::string> extras = app_.remaining(true);
    if (!extras.empty() && absl::StartsWith(extras.front(), "--")) {
      const std::string name =
          extras.front().substr(2, extras.front().find('=') - 2);
      sentence =
          absl::StrCat("unknown flag --", name, "; the nearest one is --",
                       NearestFlag(app_, name));
    }
    return absl::InvalidArgumentError(
        absl::StrCat(sentence, " (see workspaced --help)"));
  }

  const Config& config() const { return config_; }

 private:
  static CLI::App* AddCommand(CLI::App& parent, const std::string& name,
                              const std::string& help) {
    return parent.add_subcommand(name, help)->fallthrough();
  }

  void AddTokenCommand() {
    token_ = AddCommand(
        app_, "token",
        "Make a token for the caller NAME, add its SHA-256 to the file of "
        "--tokens, print the token, which is stored nowhere, and exit");
    token_->add_option("NAME", principal_, "The name of the caller")
        ->required();
    token_
        ->add_option("--expires", expires_,
                     "How long the token is valid, such as 90d [for ever]")
        ->type_name("SPAN");
  }

  void AddPolicyCommand() {
    CLI::App* policy = AddCommand(app_, "policy", "Inspect the policy");
    policy->require_subcommand(1);
    policy_check_ = AddCommand(
        *policy, "check",
        "Say whether the policy of --policy lets NAME call RPC on PROJECT, and "
        "which binding decides; without NAME, only whether the file is valid");
    policy_check_->add_option("NAME", principal_, "The name of the caller");
    policy_check_->add_option("RPC", rpc_, "For example UpdateWorkspace");
    policy_check_->add_option("PROJECT", project_, "The name of a workspace");
  }

  void AddDoctorCommand() {
    doctor_ = AddCommand(
        app_, "doctor",
        "Examine the base: print what is wrong and how to fix it, one line for "
        "each finding, and exit with 1 if anything needs attention. Reads "
        "only, also beside a running server");
    doctor_->add_flag("--repair", repair_,
                      "While no server runs, also repair what is safe: move "
                      "leftovers to DIR/.workspaced/doctor-TIME, and create "
                      "missing directories. Removes nothing");
    doctor_->add_flag("--json", json_, "Print one JSON document");
  }

  int Examine() const {
    if (config_.base.empty()) return Need("--base DIR");
    return doctor::RunDoctor(config_.base, repair_, json_,
                             {.purge_delay = config_.purge_delay}, std::cout,
                             std::cerr);
  }

  int MakeToken() const {
    if (config_.tokens.empty()) return Need("--tokens FILE");
    std::optional<absl::Duration> expires;
    if (!expires_.empty()) {
      expires = ParseSpan(expires_);
      if (!expires.has_value())
        return Need("--expires with a span such as 90d or 12h");
    }
    return auth::AddToken(principal_, config_.tokens, expires, std::cout,
                          std::cerr);
  }

  static int Need(absl::string_view what) {
    std::cerr << "workspaced: this command needs " << what << "\n";
    return kUsageError;
  }

  Config config_;
  // The arguments of commands.
  std::string principal_, rpc_, project_, expires_;
  bool repair_ = false;
  bool json_ = false;
  CLI::App app_{
      "The authority over the MLOps project workspaces below one directory.",
      "workspaced"};
  CLI::App* config_check_;
  CLI::App* token_;
  CLI::App* policy_check_;
  CLI::App* doctor_;
};

absl::Status FirstContradiction(const Config& config) {
  const std::vector<std::string> problems = FindContradictions(config);
  return problems.empty() ? absl::OkStatus()
                          : absl::InvalidArgumentError(problems.front());
}

// Like ParseCommandLine(), but returns the error's sentence instead of printing
// it.
absl::StatusOr<std::variant<Config, int>> Parse(int argc, char** argv) {
  CommandLine line;
  try {
    RETURN_IF_ERROR(line.Parse(argc, argv));
  } catch (const CLI::ParseError& error) {
    return line.Explain(error);
  }
  // Commands run before the check: they need only some of the settings.
  if (const std::optional<int> exit_code = line.RunCommand()) return *exit_code;
  RETURN_IF_ERROR(FirstContradiction(line.config()));
  return line.config();
}

}  // namespace

std::variant<Config, int> ParseCommandLine(int argc, char** argv) {
  auto parsed = Parse(argc, argv);
  if (parsed.ok()) return *std::move(parsed);
  std::cerr << "workspaced: " << parsed.status().message() << "\n";
  return kUsageError;
}

absl::StatusOr<Config> ReadConfigAgain(int argc, char** argv) {
  ASSIGN_OR_RETURN(auto parsed, Parse(argc, argv));
  if (Config* config = std::get_if<Config>(&parsed)) return std::move(*config);
  return absl::InvalidArgumentError("the command line has no settings");
}

}  // namespace mlops::server
