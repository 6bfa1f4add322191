#ifndef MLOPS_TESTS_SUPPORT_TEMP_DIR_H_
#define MLOPS_TESTS_SUPPORT_TEMP_DIR_H_

#include <string>

#include "absl/strings/string_view.h"

namespace mlops::support {

// A new directory on the real file system (below TMPDIR, or /tmp), which is
// removed with all its contents, also a tree of any depth. Paths given to its
// methods are relative to it; a call of the operating system that fails ends
// the test.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  // Absolute, with no symbolic link in it.
  const std::string& path() const { return path_; }
  std::string Path(absl::string_view name) const;

  // Makes or overwrites a file; directories on the way are made.
  void WriteFile(absl::string_view name, absl::string_view text) const;
  std::string ReadFile(absl::string_view name) const;
  // With all directories on the way.
  void MakeDirs(absl::string_view name) const;
  bool Exists(absl::string_view name) const;
  // As `rm -rf`, `mv`, `cp -a` and `ln -s` do.
  void Remove(absl::string_view name) const;
  void Move(absl::string_view from, absl::string_view to) const;
  void Copy(absl::string_view from, absl::string_view to) const;
  void Link(absl::string_view target, absl::string_view name) const;
  void MakeFifo(absl::string_view name) const;

 private:
  std::string path_;
};

}  // namespace mlops::support

#endif  // MLOPS_TESTS_SUPPORT_TEMP_DIR_H_
