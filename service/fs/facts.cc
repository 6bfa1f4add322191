#include "service/fs/facts.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "proto/cpp/base/error.h"

namespace mlops::fs {
namespace {

constexpr uint32_t kModeBits = 07777;
constexpr uint32_t kRwx = 07;
// Larger than the text of any account.
constexpr size_t kAccountBytes = 16 * 1024;
constexpr int kMaxGroups = 1024;

absl::Status ErrnoStatus(const std::string& path) {
  const int error = errno;
  const std::string message = absl::StrCat(path, ": ", std::strerror(error));
  if (error == ENOENT || error == ENOTDIR) return absl::NotFoundError(message);
  return base::MakeError(
      absl::StatusCode::kInternal, message,
      {.reason = "IO_ERROR",
       .metadata = {{"path", path}, {"errno", absl::StrCat(error)}}});
}

EntryType TypeOf(mode_t mode) {
  if (S_ISREG(mode)) return EntryType::kFile;
  if (S_ISDIR(mode)) return EntryType::kDirectory;
  return S_ISLNK(mode) ? EntryType::kSymlink : EntryType::kOther;
}

// The numbers are those of statfs(2).
std::string TypeName(uint64_t magic) {
  switch (magic) {
    case 0x6969:
      return "nfs";
    case 0x517b:
    case 0xff534d42:
    case 0xfe534d42:
      return "smb";
    case 0x5346414f:
      return "afs";
    case 0x01021997:
      return "9p";
    case 0x65735546:
      return "fuse";
    case 0x794c7630:
      return "overlay";
    case 0x4d44:
      return "vfat";
    case 0x2011bab0:
      return "exfat";
    case 0x01021994:
      return "tmpfs";
    case 0x858458f6:
      return "ramfs";
    default:
      return "";
  }
}

// mountinfo escapes white space and backslashes as three octal digits.
std::string Unescaped(absl::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto digit = [&](size_t at) { return text[at] - '0'; };
    if (text[i] == '\\' && i + 3 < text.size()) {
      plain.push_back(static_cast<char>(digit(i + 1) * 64 + digit(i + 2) * 8 +
                                        digit(i + 3)));
      i += 3;
    } else {
      plain.push_back(text[i]);
    }
  }
  return plain;
}

}  // namespace

absl::StatusOr<Ownership> OwnershipOf(const std::string& path) {
  struct stat info;
  if (::lstat(path.c_str(), &info) != 0) return ErrnoStatus(path);
  return Ownership{.type = TypeOf(info.st_mode),
                   .uid = info.st_uid,
                   .gid = info.st_gid,
                   .mode = info.st_mode & kModeBits,
                   .device = info.st_dev,
                   .inode = info.st_ino};
}

Account AccountOf(uid_t uid) {
  Account account{.uid = uid};
  std::string buffer(kAccountBytes, '\0');
  passwd entry;
  passwd* found = nullptr;
  if (::getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found) != 0 ||
      found == nullptr)
    return account;
  // If the user has more groups than fit, the first ones must do.
  int count = kMaxGroups;
  account.groups.resize(kMaxGroups);
  if (::getgrouplist(found->pw_name, found->pw_gid, account.groups.data(),
                     &count) < 0)
    count = kMaxGroups;
  account.groups.resize(static_cast<size_t>(count));
  return account;
}

bool MayUseDirectory(const Account& account, const std::string& path,
                     const Ownership& ownership) {
  if (account.uid == 0) return true;
  if (account.uid == ::geteuid()) {
    return ::faccessat(AT_FDCWD, path.c_str(), R_OK | W_OK | X_OK,
                       AT_EACCESS) == 0;
  }
  const auto& groups = account.groups;
  const bool in_group =
      std::find(groups.begin(), groups.end(), ownership.gid) != groups.end();
  // As the kernel does, apply only the first class that matches.
  const int shift = ownership.uid == account.uid ? 6 : in_group ? 3 : 0;
  return ((ownership.mode >> shift) & kRwx) == kRwx;
}

absl::StatusOr<FileSystem> FileSystemOf(const std::string& path) {
  struct statfs type;
  struct statvfs space;
  if (::statfs(path.c_str(), &type) != 0 ||
      ::statvfs(path.c_str(), &space) != 0)
    return ErrnoStatus(path);
  const auto bytes = [&space](uint64_t blocks) {
    return static_cast<int64_t>(blocks * space.f_frsize);
  };
  return FileSystem{// Some types are negative numbers on some machines.
                    .type = TypeName(static_cast<uint32_t>(type.f_type)),
                    .total_bytes = bytes(space.f_blocks),
                    .available_bytes = bytes(space.f_bavail),
                    .total_inodes = static_cast<int64_t>(space.f_files),
                    .free_inodes = static_cast<int64_t>(space.f_favail)};
}

std::vector<Mount> MountsBelow(const std::string& path) {
  const std::string prefix = path == "/" ? path : absl::StrCat(path, "/");
  std::vector<Mount> mounts;
  std::ifstream list("/proc/self/mountinfo");
  for (std::string line; std::getline(list, line);) {
    // "36 35 98:0 /root /mount/point options [optional...] - type source ..."
    const std::pair<absl::string_view, absl::string_view> halves =
        absl::StrSplit(line, absl::MaxSplits(" - ", 1));
    const std::vector<absl::string_view> fields =
        absl::StrSplit(halves.first, ' ');
    if (fields.size() < 5) continue;
    std::string point = Unescaped(fields[4]);
    if (!absl::StartsWith(point, prefix)) continue;
    const std::vector<absl::string_view> rest =
        absl::StrSplit(halves.second, ' ');
    mounts.push_back(
        {.path = std::move(point), .type = std::string(rest.front())});
  }
  std::sort(mounts.begin(), mounts.end(),
            [](const Mount& a, const Mount& b) { return a.path < b.path; });
  return mounts;
}

std::string ResolvedPath(const std::string& path) {
  std::error_code error;
  const auto resolved = std::filesystem::weakly_canonical(path, error);
  return error ? path : resolved.string();
}

std::string HostName() {
  char name[256] = "";
  ::gethostname(name, sizeof(name) - 1);
  return name;
}

}  // namespace mlops::fs
