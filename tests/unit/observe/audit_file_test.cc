#include "service/observe/audit_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "absl/strings/string_view.h"
#include "tests/support/matchers.h"
#include "tests/support/temp_dir.h"

namespace mlops::observe {
namespace {

using absl::StatusCode;
using support::HasMessage;
using support::IsError;
using testing::HasSubstr;

class AuditFileTest : public testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<AuditFile>> Open(
      AuditFile::Options options = {}) {
    return AuditFile::Open(temp.Path("audit"), options);
  }
  // Appends and syncs, in a new file if necessary.
  static void Append(AuditFile& file, absl::string_view lines) {
    if (!file.HasRoom(lines.size())) {
      EXPECT_OK(file.StartNew());
    }
    absl::Status problem;
    EXPECT_EQ(file.Append(lines, &problem), lines.size()) << problem;
    EXPECT_OK(problem);
    EXPECT_OK(file.Sync());
  }

  const support::TempDir temp;
};

TEST_F(AuditFileTest, LinesAreAppended) {
  temp.WriteFile("audit", "1\n");
  const auto file = Open().value();
  Append(*file, "2\n");
  Append(*file, "3\n");
  EXPECT_EQ(temp.ReadFile("audit"), "1\n2\n3\n");
}

TEST_F(AuditFileTest, OthersCanNeitherReadNorWriteIt) {
  const mode_t old_umask = ::umask(0);
  Append(*Open().value(), "1\n");
  ::umask(old_umask);
  struct stat info;
  ASSERT_EQ(::stat(temp.Path("audit").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0640u);
}

TEST_F(AuditFileTest, ALineThatACrashCutOffIsEnded) {
  temp.WriteFile("audit", "1\n{\"torn");
  Append(*Open().value(), "2\n");
  EXPECT_EQ(temp.ReadFile("audit"), "1\n{\"torn\n2\n");
}

TEST_F(AuditFileTest, OlderFilesAreKeptUpToTheirNumber) {
  const auto file = Open({.max_bytes = 5, .older_files = 2}).value();
  for (const char* line : {"1111\n", "2222\n", "3333\n", "4444\n"})
    Append(*file, line);
  EXPECT_EQ(temp.ReadFile("audit"), "4444\n");
  EXPECT_EQ(temp.ReadFile("audit.1"), "3333\n");
  EXPECT_EQ(temp.ReadFile("audit.2"), "2222\n");
  EXPECT_FALSE(temp.Exists("audit.3"));
}

TEST_F(AuditFileTest, FailedSyncsKeepTheOlderFiles) {
  const auto file = Open({.max_bytes = 5, .older_files = 2}).value();
  Append(*file, "1111\n");
  // As AuditLog does after each sync that fails: nothing in the new files is
  // durable.
  for (int i = 0; i < 5; ++i) {
    EXPECT_OK(file->StartNew());
    absl::Status problem;
    EXPECT_EQ(file->Append("2222\n", &problem), 5u);
  }
  EXPECT_EQ(temp.ReadFile("audit.1"), "1111\n");
  EXPECT_FALSE(temp.Exists("audit.2"));
  EXPECT_OK(file->Sync());
  EXPECT_EQ(temp.ReadFile("audit"), "2222\n");
}

TEST_F(AuditFileTest, AGapInTheNumbersIsClosed) {
  // As after a crash between two renames.
  temp.WriteFile("audit.1", "old 1\n");
  temp.WriteFile("audit.3", "old 3\n");
  const auto file = Open({.max_bytes = 5, .older_files = 3}).value();
  Append(*file, "1111\n");
  Append(*file, "2222\n");
  EXPECT_EQ(temp.ReadFile("audit.1"), "1111\n");
  EXPECT_EQ(temp.ReadFile("audit.2"), "old 1\n");
  EXPECT_EQ(temp.ReadFile("audit.3"), "old 3\n");
}

TEST_F(AuditFileTest, ALineLongerThanTheMaximumIsWrittenWhole) {
  const auto file = Open({.max_bytes = 3}).value();
  Append(*file, "1111\n");
  EXPECT_EQ(temp.ReadFile("audit"), "1111\n");
}

TEST_F(AuditFileTest, AfterAnotherProgramRenamedItANewOneIsMade) {
  const auto file = Open().value();
  Append(*file, "1\n");
  temp.Move("audit", "taken");
  Append(*file, "2\n");
  EXPECT_EQ(temp.ReadFile("taken"), "1\n");
  EXPECT_EQ(temp.ReadFile("audit"), "2\n");
}

TEST_F(AuditFileTest, LinesOfARemovedFileAreNotDurable) {
  const auto file = Open().value();
  absl::Status problem;
  EXPECT_EQ(file->Append("1\n", &problem), 2u);
  temp.Remove("audit");
  EXPECT_THAT(file->Sync(), IsError(StatusCode::kInternal, "IO_ERROR"));
  EXPECT_OK(file->StartNew());
  Append(*file, "1\n");
  EXPECT_EQ(temp.ReadFile("audit"), "1\n");
}

TEST_F(AuditFileTest, TheRestOfALineGoesToItsFile) {
  const auto file = Open({.max_bytes = 5}).value();
  absl::Status problem;
  EXPECT_EQ(file->Append("1111\n22", &problem), 7u);
  EXPECT_TRUE(file->HasRoom(3));
  temp.Move("audit", "taken");
  EXPECT_EQ(file->Append("22\n", &problem), 3u);
  EXPECT_EQ(temp.ReadFile("taken"), "1111\n2222\n");
}

TEST_F(AuditFileTest, LinksAndSpecialFilesAreRefused) {
  temp.WriteFile("target", "");
  const auto is_refused = [&] {
    const auto file = Open();
    temp.Remove("audit");
    return testing::Matches(IsError(StatusCode::kFailedPrecondition, ""))(file);
  };
  temp.Link("target", "audit");
  EXPECT_TRUE(is_refused());
  ASSERT_EQ(::link(temp.Path("target").c_str(), temp.Path("audit").c_str()), 0);
  EXPECT_TRUE(is_refused());
  temp.MakeFifo("audit");
  EXPECT_TRUE(is_refused());
  temp.MakeDirs("audit");
  EXPECT_TRUE(is_refused());
  EXPECT_EQ(temp.ReadFile("target"), "");
}

TEST_F(AuditFileTest, AMissingDirectoryIsRefused) {
  EXPECT_THAT(AuditFile::Open(temp.Path("no/audit"), {}),
              HasMessage(HasSubstr("No such file or directory")));
}

TEST_F(AuditFileTest, TwoProcessesDoNotShareAFile) {
  const auto file = Open().value();
  EXPECT_THAT(Open(), HasMessage(HasSubstr("another process is writing it")));
}

}  // namespace
}  // namespace mlops::observe
