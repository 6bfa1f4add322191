#include "service/auth/commands.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <system_error>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/id.h"
#include "proto/cpp/base/status_macros.h"
#include "proto/cpp/base/unique_fd.h"
#include "service/auth/policy.h"
#include "service/auth/token_file.h"
#include "service/base/reloaded_file.h"
#include "service/fs/dir.h"

namespace mlops::auth {
namespace {

constexpr int64_t kMaxFileBytes = 8 << 20;
constexpr uint32_t kPrivateMode = 0600;

// Waits until no other process changes files in `directory` through this
// function. Returns the lock, which lasts as long as the descriptor.
absl::StatusOr<base::UniqueFd> Lock(const std::string& directory) {
  base::UniqueFd fd(
      ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.ok() || ::flock(fd.get(), LOCK_EX) != 0) {
    return absl::FailedPreconditionError(absl::StrCat(
        "cannot lock the directory ", directory, ": ", std::strerror(errno)));
  }
  return fd;
}

// Returns the text of the file, or nullopt if it does not exist.
absl::StatusOr<std::optional<std::string>> ReadIfExists(
    const fs::Dir& dir, const std::string& name) {
  auto content = dir.ReadFile(name, kMaxFileBytes);
  if (absl::IsNotFound(content.status())) return std::nullopt;
  if (!content.ok()) return content.status();
  return std::move(content->data);
}

// Creates `name` with the content `text`, synced, and with the owner and mode
// of `like` if that exists.
absl::Status WriteLike(fs::Dir& dir, const std::string& name,
                       absl::string_view text, const std::string& like,
                       bool like_exists) {
  ASSIGN_OR_RETURN(const auto file, dir.CreateFileLike(name, like));
  // Only the owner may read a new file.
  if (!like_exists) RETURN_IF_ERROR(file->SetMode(kPrivateMode));
  RETURN_IF_ERROR(file->Write(text));
  RETURN_IF_ERROR(file->Sync());
  return file->Close();
}

// Appends `line` to the tokens file `name`, durably and atomically.
absl::Status AppendLine(fs::Dir& dir, const std::string& name,
                        absl::string_view line) {
  ASSIGN_OR_RETURN(const auto old, ReadIfExists(dir, name));
  std::string text = old.value_or("");
  if (!text.empty() && !absl::EndsWith(text, "\n")) text += '\n';
  absl::StrAppend(&text, line);
  // Check the result before replacing the file: the server refuses a malformed
  // one.
  RETURN_IF_ERROR(TokenTable::Parse(text).status());
  // Rename a complete file, so that readers see either the old or the new one.
  const std::string temp = absl::StrCat(".", name, ".", base::RandomId());
  absl::Status status = WriteLike(dir, temp, text, name, old.has_value());
  if (status.ok())
    status = dir.Rename(temp, dir, name, fs::RenameMode::kReplace);
  if (!status.ok()) {
    dir.RemoveFile(temp).IgnoreError();
    return status;
  }
  // Sync the directory before the token is printed, so that no printed token is
  // lost.
  return dir.Sync();
}

absl::StatusOr<std::string> AddTokenTo(const std::string& tokens_path,
                                       absl::string_view name,
                                       std::optional<absl::Time> expires) {
  std::error_code error;
  // Follow symbolic links first, so that the rename replaces the target and not
  // the link.
  const auto path = std::filesystem::weakly_canonical(
      std::filesystem::absolute(tokens_path), error);
  if (error) return absl::FailedPreconditionError(error.message());
  const std::string directory = path.parent_path().string();
  // Lock before reading, because another process may add a token too.
  ASSIGN_OR_RETURN(const base::UniqueFd lock, Lock(directory));
  ASSIGN_OR_RETURN(const auto dir, fs::OpenBaseDir(directory));
  ASSIGN_OR_RETURN(std::string token, MakeToken());
  RETURN_IF_ERROR(AppendLine(*dir, path.filename().string(),
                             TokenLine(name, token, expires)));
  return token;
}

}  // namespace

int AddToken(absl::string_view name, const std::string& tokens_path,
             std::optional<absl::Duration> expires, std::ostream& out,
             std::ostream& err) {
  if (const auto problem = TokenNameProblem(name); !problem.empty()) {
    err << "workspaced token: the name " << base::Echo(name) << " " << problem
        << "\n";
    return 1;
  }
  if (expires && *expires <= absl::ZeroDuration()) {
    err << "workspaced token: --expires must be positive\n";
    return 1;
  }
  std::optional<absl::Time> expiry;
  if (expires) expiry = absl::Now() + *expires;
  const auto token = AddTokenTo(tokens_path, name, expiry);
  if (!token.ok()) {
    err << "workspaced token: cannot add a token to " << tokens_path << ": "
        << token.status().message() << "\n";
    return 1;
  }
  // Print the token only now that the file is on disk.
  out << *token << std::endl;
  return 0;
}

int CheckPolicy(const std::string& policy_path, absl::Span<const Rpc> rpcs,
                absl::string_view principal, absl::string_view rpc,
                absl::string_view project, std::ostream& out,
                std::ostream& err) {
  std::shared_ptr<const Policy> policy;
  // Load the file like the server, so that both accept the same files.
  base::ReloadedFile file(
      {.what = "policy file", .path = policy_path, .max_bytes = kMaxFileBytes},
      [&](absl::string_view text) -> absl::Status {
        ASSIGN_OR_RETURN(policy, Policy::Parse(text, rpcs));
        return absl::OkStatus();
      });
  if (const auto loaded = file.Load(); !loaded.ok()) {
    err << "workspaced policy check: " << loaded.status().message() << "\n";
    return 2;
  }
  if (principal.empty()) {
    out << "valid\n";
    return 0;
  }
  const std::string explanation = policy->Explain(principal, rpc, project);
  out << explanation << "\n";
  return absl::StartsWith(explanation, "allowed") ? 0 : 1;
}

}  // namespace mlops::auth
