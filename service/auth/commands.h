#ifndef MLOPS_SERVICE_AUTH_COMMANDS_H_
#define MLOPS_SERVICE_AUTH_COMMANDS_H_

#include <optional>
#include <ostream>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "service/auth/access.h"

namespace mlops::auth {

// Implements `workspaced token NAME --tokens FILE [--expires TIME]`. Makes a
// token, adds its line to the file, and prints the token to `out` once the file
// is on disk. Creates a missing file with mode 0600; keeps the owner and mode
// of an existing one. Replaces the file atomically; if it is a symbolic link,
// replaces its target. Several processes may add tokens at once.
//
// Returns 0, or 1 after printing to `err` why it failed: TokenNameProblem(),
// `expires` is not positive, or the file is malformed or cannot be written.
int AddToken(absl::string_view name, const std::string& tokens_path,
             std::optional<absl::Duration> expires, std::ostream& out,
             std::ostream& err);

// Implements `workspaced policy check [NAME RPC [PROJECT]] --policy FILE`.
// Prints Policy::Explain() to `out`, or, if `principal` is "", only whether the
// file is valid. Returns 0 if the file is valid and the call would be allowed,
// 1 if the call would be denied, and 2 after printing to `err` what is wrong
// with the file.
int CheckPolicy(const std::string& policy_path, absl::Span<const Rpc> rpcs,
                absl::string_view principal, absl::string_view rpc,
                absl::string_view project, std::ostream& out,
                std::ostream& err);

}  // namespace mlops::auth

#endif  // MLOPS_SERVICE_AUTH_COMMANDS_H_
