#include "client-cpp/src/local_file.h"

#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/cpp/base/id.h"

namespace {

// The path of each synced descriptor at the time of its fsync().
std::vector<std::string> synced;
int sync_error = 0;

}  // namespace

// Overrides fsync() of the C library: records the call, and fails on request.
extern "C" int fsync(int fd) {
  synced.push_back(
      std::filesystem::read_symlink(absl::StrCat("/proc/self/fd/", fd))
          .string());
  if (sync_error != 0) {
    errno = sync_error;
    return -1;
  }
  return static_cast<int>(::syscall(SYS_fsync, fd));
}

namespace mlops::internal {
namespace {

using ::testing::ElementsAre;
using ::testing::StartsWith;

class TargetFileTest : public ::testing::Test {
 protected:
  TargetFileTest() {
    std::filesystem::create_directories(directory_);
    synced.clear();
    sync_error = 0;
  }
  ~TargetFileTest() override { std::filesystem::remove_all(directory_); }

  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(directory_))
      names.push_back(entry.path().filename());
    return names;
  }

  const std::filesystem::path directory_ =
      std::filesystem::canonical(std::filesystem::temp_directory_path()) /
      base::RandomId();
  const std::string path_ = directory_ / "model.pt";
};

TEST_F(TargetFileTest, IsSyncedBeforeItHasItsNameAndItsNameAfterwards) {
  auto file = TargetFile::Create(path_);
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_TRUE(file->Append({"content"}).ok());
  ASSERT_TRUE(file->Place().ok());
  EXPECT_THAT(synced,
              ElementsAre(StartsWith((directory_ / ".model.pt.").string()),
                          directory_.string()));
  EXPECT_THAT(Names(), ElementsAre("model.pt"));
}

TEST_F(TargetFileTest, ReplacesNothingIfItCannotBeSynced) {
  {
    auto file = TargetFile::Create(path_);
    ASSERT_TRUE(file.ok()) << file.status();
    sync_error = EIO;
    EXPECT_EQ(file->Place().code(), absl::StatusCode::kInternal);
  }
  EXPECT_THAT(Names(), ElementsAre());
}

TEST_F(TargetFileTest, KeepsThePermissionsOfWhatItReplaces) {
  ASSERT_TRUE(TargetFile::Create(path_)->Place().ok());
  for (const mode_t mode : {0600, 0755, 0444}) {
    ASSERT_EQ(::chmod(path_.c_str(), mode), 0);
    ASSERT_TRUE(TargetFile::Create(path_)->Place().ok());
    struct stat now = {};
    ASSERT_EQ(::stat(path_.c_str(), &now), 0);
    EXPECT_EQ(now.st_mode & 07777, mode);
  }
}

}  // namespace
}  // namespace mlops::internal
