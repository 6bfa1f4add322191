#ifndef MLOPS_SERVICE_SERVER_COMMANDS_H_
#define MLOPS_SERVICE_SERVER_COMMANDS_H_

#include <variant>

#include "absl/status/statusor.h"
#include "service/server/config.h"

// The command line of workspaced: flags to serve with, or a command.
namespace mlops::server {

// Parses the command line, the environment and the file of --config; see
// config_flags.h. Returns the settings to serve with, or an exit code:
//   after --help and --version, whose text this prints to standard output;
//   after a command, which this runs:
//     config check   checks the settings, prints them as TOML to standard
//                    output, and prints each problem to standard error;
//                    exit code 0 if there is no problem, else 1;
//     token          makes a token, see auth::AddToken();
//     policy check   explains a decision, see auth::CheckPolicy();
//     doctor         examines the base, see doctor::RunDoctor();
//   2 after an invalid flag or setting, which this reports in one sentence on
//   standard error.
std::variant<Config, int> ParseCommandLine(int argc, char** argv);

// Rereads the settings from the same command line as ParseCommandLine(),
// because the file may have changed. Prints nothing. Returns INVALID_ARGUMENT,
// as a sentence for the operator, if a setting is invalid.
absl::StatusOr<Config> ReadConfigAgain(int argc, char** argv);

}  // namespace mlops::server

#endif  // MLOPS_SERVICE_SERVER_COMMANDS_H_
