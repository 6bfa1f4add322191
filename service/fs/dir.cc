#include "service/fs/dir.h"

#include <algorithm>
#include <optional>
#include <string>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/status_macros.h"
#include "service/fs/syscalls.h"

namespace mlops::fs {
namespace {

constexpr size_t kCopyBufferBytes = 256 * 1024;

void AddFile(const absl::StatusOr<FileStamp>& stamp, DirSummary* summary) {
  // The file vanished after its name was read.
  if (absl::IsNotFound(stamp.status())) return;
  if (!stamp.ok()) return summary->problem.Update(stamp.status());
  ++summary->file_count;
  summary->size_bytes += stamp->size_bytes;
  summary->modify_time = std::max(summary->modify_time, stamp->modify_time);
}

absl::Status Unsuitable(absl::string_view path, absl::string_view problem) {
  return base::MakeError(absl::StatusCode::kFailedPrecondition,
                         absl::StrCat(base::Echo(path), ": ", problem),
                         {.reason = "PATH_UNSUITABLE",
                          .metadata = {{"path", std::string(path)},
                                       {"problem", std::string(problem)}}});
}

}  // namespace

bool FileStamp::operator==(const FileStamp& other) const {
  const auto content = [](const FileStamp& stamp) {
    return std::tie(stamp.type, stamp.device, stamp.inode, stamp.size_bytes,
                    stamp.modify_time, stamp.change_time);
  };
  return content(*this) == content(other);
}

// 20 ms is above the tick of any kernel. A time without a fraction suggests
// a file system that stores whole seconds.
bool MayBeRacy(const FileStamp& stamp, absl::Time read_time) {
  const absl::Time newest = std::max(stamp.modify_time, stamp.change_time);
  const bool whole_seconds = absl::ToUnixNanos(newest) % 1'000'000'000 == 0;
  return newest + (whole_seconds ? absl::Seconds(2) : absl::Milliseconds(20)) >
         read_time;
}

std::optional<DirIdentity> IdentityOf(const FileStamp& stamp) {
  const absl::Time birth = stamp.birth_time;
  if (birth == absl::InfinitePast()) return std::nullopt;
  // Within a tick of the clock, another directory could get the same inode
  // and time.
  if (MayBeRacy({.modify_time = birth, .change_time = birth}, absl::Now()))
    return std::nullopt;
  return DirIdentity{
      .device = stamp.device, .inode = stamp.inode, .birth_time = birth};
}

absl::Status File::WritePieces(absl::Span<const absl::string_view> pieces) {
  for (absl::string_view piece : pieces) RETURN_IF_ERROR(Write(piece));
  return absl::OkStatus();
}

absl::StatusOr<int64_t> File::CopyFrom(FileReader& source, int64_t offset,
                                       int64_t size) {
  const auto buffer = std::make_unique_for_overwrite<char[]>(kCopyBufferBytes);
  int64_t copied = 0;
  while (copied < size) {
    const size_t wanted =
        static_cast<size_t>(std::min<int64_t>(size - copied, kCopyBufferBytes));
    ASSIGN_OR_RETURN(const size_t got,
                     source.ReadAt(offset + copied, buffer.get(), wanted));
    RETURN_IF_ERROR(Write(absl::string_view(buffer.get(), got)));
    copied += static_cast<int64_t>(got);
    if (got < wanted) break;
  }
  return copied;
}

absl::Status File::TakeAccess(const FileReader& like) {
  ASSIGN_OR_RETURN(const FileStamp stamp, like.Stat());
  return SetMode(stamp.mode);
}

bool IsCrossDevice(const absl::Status& status) {
  const auto info = base::GetErrorInfo(status);
  return info && info->reason == "PATH_UNSUITABLE" &&
         info->metadata.contains("problem") &&
         info->metadata.at("problem") == kCrossDevice;
}

absl::Status Dir::TakeAccess(const Dir& like) {
  ASSIGN_OR_RETURN(const FileStamp stamp, like.StatSelf());
  return SetMode(stamp.mode);
}

absl::Status Dir::MakeSymlink(absl::string_view path,
                              absl::string_view /*target*/) {
  return Unsuitable(path, "symbolic links cannot be created here");
}

absl::Status Dir::Link(absl::string_view path, const Dir& /*to*/,
                       absl::string_view /*to_path*/) {
  return Unsuitable(path, "cannot be linked here");
}

absl::Status Dir::Summarize(absl::string_view path,
                            const SummaryOptions& options,
                            DirSummary* summary) const {
  *summary = {};
  std::unique_ptr<Dir> opened;
  if (!path.empty()) {
    ASSIGN_OR_RETURN(opened, OpenDir(path));
  }
  const Dir& dir = opened == nullptr ? *this : *opened;
  ASSIGN_OR_RETURN(summary->stamp, dir.StatSelf());
  // On another device, the caller needs only the stamp.
  if (options.device != 0 && summary->stamp.device != options.device)
    return absl::OkStatus();
  return dir.ForEachEntry([&](absl::string_view name, EntryType type) {
    if (type == EntryType::kDirectory) {
      summary->subdirectories.append(name.data(), name.size()).push_back('\0');
    } else if (type == EntryType::kFile && options.file_sizes) {
      AddFile(dir.Stat(name), summary);
    } else if (type == EntryType::kFile) {
      ++summary->file_count;
    }
    return true;
  });
}

}  // namespace mlops::fs
