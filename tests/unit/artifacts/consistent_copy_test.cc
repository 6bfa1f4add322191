#include "service/artifacts/consistent_copy.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/support/matchers.h"
#include "tests/support/temp_dir.h"

namespace mlops::artifacts {
namespace {

using absl::StatusCode;
using support::IsError;
using testing::ElementsAre;

// A file with the header of a database; `version` is 1 or, in WAL mode, 2.
std::string Database(char version, absl::string_view content = "pages") {
  return absl::StrCat(absl::string_view("SQLite format 3\0\x10\0", 18),
                      std::string(2, version), content);
}

// Another process that holds an exclusive lock, as a program that uses SQLite.
class Locker {
 public:
  Locker(const std::string& path, off_t offset, off_t size) {
    int ready[2];
    EXPECT_EQ(::pipe(ready), 0);
    child_ = ::fork();
    if (child_ == 0) {
      const int fd = ::open(path.c_str(), O_RDWR);
      struct flock lock = {};
      lock.l_type = F_WRLCK;
      lock.l_whence = SEEK_SET;
      lock.l_start = offset;
      lock.l_len = size;
      const char result = ::fcntl(fd, F_SETLK, &lock) == 0 ? 'y' : 'n';
      if (::write(ready[1], &result, 1) != 1) ::_exit(1);
      ::pause();
      ::_exit(0);
    }
    char result = 'n';
    EXPECT_EQ(::read(ready[0], &result, 1), 1);
    locked_ = result == 'y';
    ::close(ready[0]);
    ::close(ready[1]);
  }
  ~Locker() {
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
  }
  bool locked() const { return locked_; }

 private:
  pid_t child_ = -1;
  bool locked_ = false;
};

class ConsistentCopyTest : public testing::Test {
 protected:
  // Waits until the stamps of all files are trusted.
  static void Settle() { absl::SleepFor(absl::Milliseconds(30)); }
  std::vector<std::string> PartsOf(absl::string_view name) {
    const auto file = StableFile::Open(*dir, name);
    if (!file.ok()) return {file.status().ToString()};
    std::vector<std::string> names;
    for (const auto& part : file->parts()) names.push_back(part.name);
    return names;
  }

  const support::TempDir temp;
  const std::unique_ptr<fs::Dir> dir = fs::OpenBaseDir(temp.path()).value();
};

TEST_F(ConsistentCopyTest, AFileThatWasJustWrittenIsReadALittleLater) {
  temp.WriteFile("a", "content");
  int reads = 0;
  ASSERT_OK(ReadConsistently(*dir, "a", "fraud", "models/a",
                             core::NeverCancelled, [&](const StableFile& file) {
                               ++reads;
                               EXPECT_FALSE(file.is_database());
                               return absl::OkStatus();
                             }));
  EXPECT_EQ(reads, 1);
}

TEST_F(ConsistentCopyTest, AFileThatChangesIsReadAgain) {
  temp.WriteFile("a", "one");
  Settle();
  std::string seen;
  ASSERT_OK(ReadConsistently(
      *dir, "a", "fraud", "models/a", core::NeverCancelled,
      [&](const StableFile& file) {
        std::string text(9, '\0');
        text.resize(file.parts()[0].reader->ReadAt(0, text.data(), 9).value());
        if (seen.empty()) temp.WriteFile("a", "another");
        seen = text;
        return absl::OkStatus();
      }));
  EXPECT_EQ(seen, "another");
}

TEST_F(ConsistentCopyTest, AFileThatIsReplacedOrRemovedIsReadToItsEnd) {
  for (const bool replace : {true, false}) {
    temp.WriteFile("a", "one");
    const auto file = StableFile::Open(*dir, "a");
    ASSERT_OK(file);
    if (replace) {
      temp.WriteFile("b", "other");
      temp.Move("b", "a");
    } else {
      temp.Remove("a");
    }
    EXPECT_TRUE(file->Unchanged());
  }
}

TEST_F(ConsistentCopyTest, EndsWhenCancelledAndWithTheErrorOfTheReader) {
  temp.WriteFile("a", "one");
  Settle();
  const auto read = [](const StableFile&) { return absl::InternalError("x"); };
  EXPECT_EQ(ReadConsistently(
                *dir, "a", "p", "a", [] { return true; }, read)
                .code(),
            StatusCode::kCancelled);
  EXPECT_EQ(
      ReadConsistently(*dir, "a", "p", "a", core::NeverCancelled, read).code(),
      StatusCode::kInternal);
  EXPECT_EQ(
      ReadConsistently(*dir, "b", "p", "b", core::NeverCancelled, read).code(),
      StatusCode::kNotFound);
}

TEST_F(ConsistentCopyTest, ADatabaseIsReadWithItsJournalOrLog) {
  temp.WriteFile("old.db", Database(1));
  temp.WriteFile("old.db-journal", "journal");
  temp.WriteFile("new.db", Database(2));
  temp.WriteFile("new.db-wal", "log");
  temp.WriteFile("new.db-shm", std::string(32768, '\0'));
  temp.WriteFile("plain-wal", "no log");
  EXPECT_THAT(PartsOf("old.db"), ElementsAre("old.db", "old.db-journal"));
  EXPECT_THAT(PartsOf("new.db"), ElementsAre("new.db", "new.db-wal"));
  for (const char* name : {"old.db-journal", "new.db-wal", "new.db-shm"})
    EXPECT_TRUE(BelongsToDatabase(*dir, name)) << name;
  for (const char* name : {"old.db", "plain-wal", "missing-journal"})
    EXPECT_FALSE(BelongsToDatabase(*dir, name)) << name;
}

TEST_F(ConsistentCopyTest, AWriterThatCommitsIsWaitedFor) {
  temp.WriteFile("a.db", Database(1));
  {
    const Locker pending(temp.Path("a.db"), 0x40000000, 1);
    ASSERT_TRUE(pending.locked());
    EXPECT_EQ(StableFile::Open(*dir, "a.db").status().code(),
              StatusCode::kAborted);
  }
  {
    const Locker exclusive(temp.Path("a.db"), 0x40000002, 510);
    EXPECT_EQ(StableFile::Open(*dir, "a.db").status().code(),
              StatusCode::kAborted);
  }
  const auto file = StableFile::Open(*dir, "a.db");
  ASSERT_OK(file);
  // Another reader of this process neither waits nor frees the lock.
  ASSERT_OK(StableFile::Open(*dir, "a.db"));
  EXPECT_FALSE(Locker(temp.Path("a.db"), 0x40000002, 510).locked());
  // A writer may prepare a transaction.
  EXPECT_TRUE(Locker(temp.Path("a.db"), 0x40000001, 1).locked());
}

TEST_F(ConsistentCopyTest, ACheckpointWaitsForTheReader) {
  temp.WriteFile("a.db", Database(2));
  temp.WriteFile("a.db-wal", "log");
  temp.WriteFile("a.db-shm", std::string(32768, '\0'));
  {
    const Locker checkpoint(temp.Path("a.db-shm"), 121, 1);
    ASSERT_TRUE(checkpoint.locked());
    EXPECT_EQ(StableFile::Open(*dir, "a.db").status().code(),
              StatusCode::kAborted);
  }
  const auto file = StableFile::Open(*dir, "a.db");
  ASSERT_OK(file);
  EXPECT_FALSE(Locker(temp.Path("a.db-shm"), 121, 1).locked());
  // Writers continue.
  EXPECT_TRUE(Locker(temp.Path("a.db-shm"), 120, 1).locked());
  EXPECT_TRUE(file->Unchanged());
  temp.WriteFile("a.db-wal", "a longer log");
  EXPECT_TRUE(file->Unchanged());
}

}  // namespace
}  // namespace mlops::artifacts
