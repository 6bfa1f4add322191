#ifndef MLOPS_SERVICE_ARCHIVE_ENTRY_RULES_H_
#define MLOPS_SERVICE_ARCHIVE_ENTRY_RULES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/string_view.h"
#include "service/archive/tar_format.h"

// Rules for the entries of a workspace's archive. Exports check the same rules
// as imports, so that every complete export can be imported. Not thread-safe.
namespace mlops::archive {

// Maximum number of entries in an archive.
inline constexpr int64_t kMaxEntries = 10'000'000;
// Maximum number of entries in a directory and its ancestors, and of the bytes
// of their names, because readers and writers of an archive must hold
// them in memory.
inline constexpr size_t kMaxOpenNames = 1'000'000;
inline constexpr size_t kMaxOpenNameBytes = 64 << 20;
inline constexpr size_t kMaxLinkBytes = 4095;

// Names of the entries that are not part of the workspace.
inline constexpr absl::string_view kManifestName = "manifest.json";
// Lists of checksums: "checksums/000001.sha256", "checksums/000002.sha256", ...
inline constexpr absl::string_view kChecksumsDir = "checksums";
std::string ChecksumsName(int number);

// Returns the permission bits that an archive keeps. Only the owner and the
// group may write; the owner may always read and write, and enter directories.
uint32_t ArchivedMode(TarType type, uint32_t mode);

// Returns what is wrong with a symbolic link at `path` to `target`; ""
// if nothing is. The target must be relative, have ".." only at its beginning,
// and lie in one of the workspace's five directories. Such links cannot lead
// out of these directories, even through each other.
std::string LinkProblem(absl::string_view path, absl::string_view target);

// Returns whether `target`, read from a link in the workspace at `root_path`,
// is an absolute path below it. Sets `*relative` to the same place relative
// to the link at `path`.
bool MakeRelative(absl::string_view root_path, absl::string_view path,
                  absl::string_view target, std::string* relative);

// Checks that entries form a tree whose parents come first, in byte order
// of their names (those of directories end with '/'), so that no name occurs
// twice. Names in one directory must differ in more than the case of ASCII
// letters, because some file systems do not distinguish them.
class EntryOrder {
 public:
  // Returns what is wrong with the next entry; "" if nothing is.
  std::string Add(absl::string_view path, TarType type);

 private:
  struct Level {
    // The directory, with a final '/'; "" for the workspace.
    std::string path;
    // Hashes of the lower-case names in it. A collision would refuse a valid
    // name, but no duplicate is missed.
    absl::flat_hash_set<uint64_t> names;
  };

  std::vector<Level> levels_ = {Level()};
  std::string last_;
  size_t open_names_ = 0;
  int64_t entries_ = 0;
};

// Collects the checksums of files since the last list, in the format
// of sha256sum.
class ChecksumList {
 public:
  // Adds a file. `sha256` is in hexadecimal digits.
  void Add(absl::string_view path, absl::string_view sha256);

  const std::string& text() const { return text_; }
  bool empty() const { return text_.empty(); }
  // Returns whether the list must be written before the next file.
  bool full() const;
  void Clear() { text_.clear(); }

  // Returns the path of the first file whose line in `other` differs.
  std::string FirstDifference(absl::string_view other) const;

 private:
  std::string text_;
};

}  // namespace mlops::archive

#endif  // MLOPS_SERVICE_ARCHIVE_ENTRY_RULES_H_
