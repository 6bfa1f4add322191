#ifndef MLOPS_TESTS_UNIT_FS_FS_FIXTURE_H_
#define MLOPS_TESTS_UNIT_FS_FS_FIXTURE_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "service/fs/dir.h"
#include "tests/support/temp_dir.h"

namespace mlops::fs {

// A real directory, accessed with Linux calls, or with portable ones
// if the parameter is true.
class FsTest : public testing::TestWithParam<bool> {
 protected:
  std::vector<std::string> NamesIn(const Dir& directory) {
    std::vector<std::string> names;
    const absl::Status status =
        directory.ForEachEntry([&names](absl::string_view name, EntryType) {
          names.emplace_back(name);
          return true;
        });
    EXPECT_TRUE(status.ok()) << status;
    std::sort(names.begin(), names.end());
    return names;
  }
  // Creates a chain of `depth` directories below `top`, with a file of 3 bytes
  // in the last one. Its path may exceed the system's limit.
  void MakeDeepTree(const std::string& top, int depth) {
    constexpr char kName[] = "one-level-of-many";
    ASSERT_TRUE(dir->MakeDir(top).ok());
    auto at = dir->OpenDir(top).value();
    for (int i = 1; i < depth; ++i) {
      ASSERT_TRUE(at->MakeDir(kName).ok());
      at = at->OpenDir(kName).value();
    }
    ASSERT_TRUE(at->CreateFile("file").value()->Write("abc").ok());
  }

  const support::TempDir temp;
  const std::unique_ptr<Dir> dir =
      OpenBaseDir(temp.path(), {.portable = GetParam()}).value();
};

inline std::string CallsName(const testing::TestParamInfo<bool>& info) {
  return info.param ? "Portable" : "Linux";
}

}  // namespace mlops::fs

#endif  // MLOPS_TESTS_UNIT_FS_FS_FIXTURE_H_
