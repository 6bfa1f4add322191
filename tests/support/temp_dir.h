#ifndef MLOPS_TESTS_SUPPORT_TEMP_DIR_H_
#define MLOPS_TESTS_SUPPORT_TEMP_DIR_H_

#include <string>

#include "absl/strings/string_view.h"

namespace mlops::support {

// A new directory on the real file system, below TMPDIR or /tmp. The destructor
// removes it with all its contents, however deep. The methods take paths
// relative to it and throw if a system call fails, which fails the test.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  // The absolute path, without symbolic links.
  const std::string& path() const { return path_; }
  // Returns the absolute path of `name`.
  std::string Path(absl::string_view name) const;

  // Creates or overwrites a file, and creates its parent directories.
  void WriteFile(absl::string_view name, absl::string_view text) const;
  std::string ReadFile(absl::string_view name) const;
  // Creates a directory and its parents.
  void MakeDirs(absl::string_view name) const;
  bool Exists(absl::string_view name) const;
  // These behave like `rm -rf`, `mv`, `cp -a` and `ln -s`.
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
