#ifndef MLOPS_SERVICE_ARCHIVE_TAR_FORMAT_H_
#define MLOPS_SERVICE_ARCHIVE_TAR_FORMAT_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

// The blocks of a tar archive: the ustar format with the extended headers that
// POSIX.1-2001 calls pax. Pure and thread-safe.
namespace mlops::archive {

inline constexpr size_t kTarBlockBytes = 512;
// Maximum size of an extended header to read: several times that of a path
// and a link target of maximum length.
inline constexpr size_t kMaxPaxBytes = 64 * 1024;
// Size of the zeros that end an archive.
inline constexpr size_t kTarEndBytes = 2 * kTarBlockBytes;

enum class TarType { kFile, kDirectory, kSymlink };

// One entry of an archive, without its data. Owners are not stored.
struct TarEntry {
  // Without a final '/'. May contain any bytes except NUL.
  std::string path;
  TarType type = TarType::kFile;
  // 0 unless the entry is a file.
  int64_t size_bytes = 0;
  // Permission bits.
  uint32_t mode = 0644;
  absl::Time modify_time = absl::UnixEpoch();
  // "" unless the entry is a symbolic link.
  std::string link_target;
};

// Returns the headers of `entry`: the same bytes for the same entry. Paths
// that are long or not ASCII, sizes above 8 GiB, and times that are negative
// or have a fraction of a second are stored in an extended header.
std::string EncodeTarEntry(const TarEntry& entry);

// Returns the number of zeros that follow `size_bytes` bytes of data.
inline size_t TarPadding(int64_t size_bytes) {
  return (kTarBlockBytes - static_cast<size_t>(size_bytes) % kTarBlockBytes) %
         kTarBlockBytes;
}

// A header block as it stands in an archive.
struct TarHeader {
  // May end with '/'.
  std::string path;
  // For example '0' for a file, '5' for a directory.
  char type = '0';
  int64_t size_bytes = 0;
  uint32_t mode = 0;
  int64_t modify_seconds = 0;
  std::string link_target;
};

// Decodes a block of kTarBlockBytes. Returns INVALID_ARGUMENT without a reason,
// with the problem as the message, if it is not a ustar header with the correct
// checksum.
absl::StatusOr<TarHeader> DecodeTarHeader(absl::string_view block);

// The fields of an extended header that are understood.
struct PaxFields {
  std::optional<std::string> path;
  std::optional<std::string> link_target;
  std::optional<int64_t> size_bytes;
  std::optional<absl::Time> modify_time;
};

// Decodes the data of an extended header. Returns INVALID_ARGUMENT without
// a reason, with the problem as the message, if it is malformed or has
// a keyword that could change the meaning of the entry.
absl::StatusOr<PaxFields> DecodePaxHeader(absl::string_view data);

}  // namespace mlops::archive

#endif  // MLOPS_SERVICE_ARCHIVE_TAR_FORMAT_H_
