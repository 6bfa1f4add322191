#include "service/server/base_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"
#include "proto/cpp/base/status_macros.h"
#include "service/core/layout.h"
#include "service/server/listeners.h"
#include "service/server/version.h"

namespace mlops::server {
namespace {

std::string HostName() {
  char name[256] = "";
  ::gethostname(name, sizeof(name) - 1);
  return name;
}

fs::BaseLock::Names LockNames() {
  return {.dir = std::string(core::layout::kServerDir),
          .file = std::string(core::layout::kLockFile)};
}

// Makes a new directory, and all parents created with it, survive a power cut.
// Ignores errors, because directories further up may be inaccessible; those
// were durable before.
void SyncParents(const std::filesystem::path& dir) {
  for (auto parent = dir.parent_path();; parent = parent.parent_path()) {
    if (const auto opened = fs::OpenBaseDir(parent.string()); opened.ok())
      (*opened)->Sync().IgnoreError();
    if (parent == parent.root_path()) return;
  }
}

// Describes the server that owns a base. Its lock file's `content` may be
// invalid.
std::string DescribeOwner(const std::string& content) {
  const auto owner =
      nlohmann::json::parse(content, nullptr, /*allow_exceptions=*/false);
  const auto pid = owner.find("pid"), host = owner.find("host"),
             addresses = owner.find("addresses");
  if (pid == owner.end() || !pid->is_number_integer() || host == owner.end() ||
      !host->is_string() || addresses == owner.end() ||
      !addresses->is_array()) {
    return "another process, which the lock file does not name";
  }
  std::vector<std::string> names;
  for (const auto& address : *addresses) {
    if (address.is_string()) names.push_back(address.get<std::string>());
  }
  return absl::StrCat("workspaced with pid ", pid->get<int64_t>(), " on host ",
                      host->get<std::string>(), ", which listens on ",
                      absl::StrJoin(names, " and "));
}

absl::Status Served(const std::string& base) {
  return absl::AlreadyExistsError(absl::StrCat(
      base, " is already served by ",
      DescribeOwner(fs::BaseLock::ReadContent(base, LockNames()))));
}

absl::Status CannotLock(const std::string& base, const absl::Status& why) {
  const std::string sentence = absl::StrCat("cannot lock the base directory ",
                                            base, ": ", why.message());
  // Suggest --read-only only if the base can actually be read.
  if (!absl::IsPermissionDenied(why) ||
      ::access(base.c_str(), R_OK | X_OK) != 0)
    return Refusal(sentence);
  return absl::PermissionDeniedError(
      absl::StrCat("cannot write in the base directory ", base, " (",
                   why.message(), "): to read from it, use --read-only"));
}

}  // namespace

absl::Status Refusal(absl::string_view sentence) {
  return absl::FailedPreconditionError(sentence);
}

absl::StatusOr<std::string> MakeBase(const std::string& base, bool read_only) {
  std::error_code error;
  const bool made =
      !read_only && std::filesystem::create_directories(base, error);
  std::filesystem::path real;
  if (!error) real = std::filesystem::canonical(base, error);
  if (error) {
    return Refusal(absl::StrCat("cannot ", read_only ? "find" : "make",
                                " the base directory ", base, ": ",
                                error.message()));
  }
  // create_directories() succeeds if the path leads to something that exists.
  if (!std::filesystem::is_directory(real, error))
    return Refusal(absl::StrCat(base, " is not a directory"));
  // A new base must survive a power cut before it contains workspaces.
  if (made) SyncParents(real);
  return real.string();
}

absl::StatusOr<std::unique_ptr<fs::BaseLock>> LockBase(const std::string& base,
                                                       bool read_only) {
  // A read-only server takes no lock; it only notices when the base is moved.
  if (read_only) {
    auto watch = fs::BaseLock::Watch(base);
    if (!watch.ok())
      return Refusal(absl::StrCat("cannot read the base directory ",
                                  watch.status().message()));
    return watch;
  }
  auto lock = fs::BaseLock::Acquire(base, LockNames());
  if (absl::IsFailedPrecondition(lock.status())) return Served(base);
  if (!lock.ok()) return CannotLock(base, lock.status());
  // Also try the socket: it alone reveals another server if directories cannot
  // be locked and the lock file was removed.
  if (const auto socket = UnixSocketAddress(base);
      socket.ok() && IsAnswered(*socket))
    return Served(base);
  absl::Status made = (*lock)->MakeFile();
  if (absl::IsFailedPrecondition(made)) return Served(base);
  // Start even if the disk is too full for the lock file, because deletions
  // free space.
  if (!made.ok() && !absl::IsResourceExhausted(made))
    return CannotLock(base, made);
  return lock;
}

std::string OwnerContent(const std::vector<std::string>& addresses) {
  const nlohmann::json owner = {
      {"pid", ::getpid()},
      {"host", HostName()},
      {"addresses", addresses},
      {"version", std::string(kVersion)},
      {"start_time", absl::FormatTime(absl::Now(), absl::UTCTimeZone())}};
  // A path may contain arbitrary bytes. Replacing the invalid ones is harmless,
  // because clients try the base's own socket first.
  return owner.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) +
         "\n";
}

absl::Status WriteGitignore(const fs::Dir& base) {
  ASSIGN_OR_RETURN(const auto dir, base.OpenDir(core::layout::kServerDir));
  auto file = dir->CreateFile(core::layout::kGitignoreFile);
  if (absl::IsAlreadyExists(file.status())) return absl::OkStatus();
  RETURN_IF_ERROR(file.status());
  // Remove a partial file, so that the next start writes it again.
  absl::Status written = (*file)->Write("*\n");
  if (!written.ok())
    dir->RemoveFile(core::layout::kGitignoreFile).IgnoreError();
  return written;
}

base::UniqueFd LockDirOf(absl::string_view unix_address) {
  const std::filesystem::path socket(
      std::string(absl::StripPrefix(unix_address, "unix:")));
  base::UniqueFd dir(
      ::open(socket.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // The lock is normally held for milliseconds. Give up after 2 s, so that a
  // process that holds it longer does not block others.
  for (int i = 0;
       i < 200 && dir.ok() && ::flock(dir.get(), LOCK_EX | LOCK_NB) != 0; ++i) {
    absl::SleepFor(absl::Milliseconds(10));
  }
  return dir;
}

}  // namespace mlops::server
