#include "service/fs/dir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "tests/support/matchers.h"
#include "tests/unit/fs/fs_fixture.h"

namespace mlops::fs {
namespace {

using absl::StatusCode;
using support::HasDetail;
using support::IsError;
using testing::ElementsAre;
using testing::IsEmpty;

const auto kNotFound = IsError(StatusCode::kNotFound, "");
const auto kAlreadyExists = IsError(StatusCode::kAlreadyExists, "");
const auto kUnsuitable =
    IsError(StatusCode::kFailedPrecondition, "PATH_UNSUITABLE");

class DirTest : public FsTest {
 protected:
  absl::Status Rename(absl::string_view from, absl::string_view to,
                      RenameMode mode) {
    return dir->Rename(from, *dir, to, mode);
  }
};

TEST(OpenBaseDir, TellsWhatIsWrong) {
  const support::TempDir temp;
  temp.WriteFile("file", "");
  EXPECT_THAT(OpenBaseDir(temp.Path("missing")), kNotFound);
  EXPECT_THAT(OpenBaseDir(temp.Path("file")), kUnsuitable);
}

TEST(OpenBaseDir, FollowsLinks) {
  const support::TempDir temp;
  temp.MakeDirs("real/sub");
  temp.Link(temp.Path("real"), "link");
  EXPECT_OK(OpenBaseDir(temp.Path("link")));
  EXPECT_OK(OpenBaseDir(temp.Path("link/sub")));
}

TEST(OpenBaseDir, ReportsTheTimeOfEachSync) {
  const support::TempDir temp;
  temp.MakeDirs("sub");
  int syncs = 0;
  const std::function<void(absl::Duration)> on_sync = [&](absl::Duration time) {
    EXPECT_GE(time, absl::ZeroDuration());
    ++syncs;
  };
  const auto dir = OpenBaseDir(temp.path(), {.on_sync = &on_sync}).value();
  EXPECT_OK(dir->Sync());
  const auto sub = dir->OpenDir("sub").value();
  EXPECT_OK(sub->Sync());
  EXPECT_OK(sub->CreateFile("file").value()->Sync());
  EXPECT_OK(sub->ReopenFile("file").value()->Sync());
  EXPECT_OK(sub->CreateFileLike("second", "file").value()->Sync());
  EXPECT_EQ(syncs, 5);
}

// --- Files ---

TEST_P(DirTest, AFileIsReadAsItWasWritten) {
  const std::string data = "a\0b\xff\n" + std::string(100'000, 'x');
  {
    const auto file = dir->CreateFile("file").value();
    EXPECT_OK(file->Write(data));
    EXPECT_OK(file->Write("end"));
    EXPECT_OK(file->Sync());
    EXPECT_OK(file->Close());
  }
  const FileContent content = dir->ReadFile("file", 1'000'000).value();
  EXPECT_EQ(content.data, data + "end");
  EXPECT_EQ(content.stamp, dir->Stat("file").value());
  EXPECT_EQ(content.stamp.size_bytes, static_cast<int64_t>(data.size() + 3));
}

TEST_P(DirTest, AnEmptyFileIsRead) {
  temp.WriteFile("file", "");
  EXPECT_EQ(dir->ReadFile("file", 0).value().data, "");
}

TEST_P(DirTest, ReadFileKeepsItsLimit) {
  temp.WriteFile("file", "12345");
  EXPECT_OK(dir->ReadFile("file", 5));
  EXPECT_THAT(dir->ReadFile("file", 4), IsError(StatusCode::kOutOfRange, ""));
}

TEST_P(DirTest, FilesThatSayTheyAreEmptyAreReadUpToTheLimit) {
  const auto proc = OpenBaseDir("/proc/self", {.portable = GetParam()}).value();
  EXPECT_FALSE(proc->ReadFile("status", 1'000'000).value().data.empty());
  EXPECT_THAT(proc->ReadFile("status", 10),
              IsError(StatusCode::kOutOfRange, ""));
}

TEST_P(DirTest, CreateFileRefusesWhateverHasTheName) {
  temp.WriteFile("file", "mine");
  temp.MakeDirs("dir");
  temp.Link("nowhere", "link");
  for (const char* name : {"file", "dir", "link"})
    EXPECT_THAT(dir->CreateFile(name), kAlreadyExists) << name;
  EXPECT_EQ(temp.ReadFile("file"), "mine");
  EXPECT_FALSE(temp.Exists("nowhere"));
}

TEST_P(DirTest, ReadFileTakesRegularFilesOnly) {
  temp.MakeDirs("dir");
  temp.MakeFifo("fifo");
  temp.WriteFile("target", "x");
  temp.Link("target", "link");
  for (const char* name : {"dir", "fifo", "link"}) {
    EXPECT_THAT(dir->ReadFile(name, 100), kUnsuitable) << name;
    EXPECT_THAT(dir->ReadFile(name, 100), HasDetail("path", temp.Path(name)));
  }
  EXPECT_THAT(dir->ReadFile("missing", 100), kNotFound);
}

TEST_P(DirTest, AnOpenFileIsReadAnywhereAndStaysWhatItIs) {
  temp.WriteFile("file", "0123456789");
  const auto reader = dir->OpenFile("file").value();
  temp.Remove("file");
  temp.WriteFile("file", "another");
  char buffer[8];
  EXPECT_EQ(reader->ReadAt(4, buffer, 3).value(), 3u);
  EXPECT_EQ(std::string(buffer, 3), "456");
  EXPECT_EQ(reader->ReadAt(8, buffer, 8).value(), 2u);
  EXPECT_EQ(reader->ReadAt(10, buffer, 8).value(), 0u);
  EXPECT_EQ(reader->Stat().value().size_bytes, 10);
}

TEST_P(DirTest, AReopenedFileIsWrittenOnAtItsEnd) {
  temp.WriteFile("file", "begin");
  const auto file = dir->ReopenFile("file").value();
  const std::string piece(100, 'x');
  std::string expected = "begin";
  std::vector<absl::string_view> pieces;
  // More pieces than one system call takes.
  for (int i = 0; i < 1000; ++i) {
    pieces.push_back(i % 3 == 0 ? absl::string_view() : piece);
    expected.append(pieces.back().data(), pieces.back().size());
  }
  EXPECT_OK(file->WritePieces(pieces));
  EXPECT_OK(file->Close());
  EXPECT_EQ(temp.ReadFile("file"), expected);
}

TEST_P(DirTest, APartOfAFileIsCopied) {
  const std::string data =
      std::string(300'000, 'a') + std::string(300'000, 'b');
  temp.WriteFile("file", data);
  const auto reader = dir->OpenFile("file").value();
  const auto copy = dir->CreateFile("copy").value();
  EXPECT_EQ(copy->CopyFrom(*reader, 299'999, 100'000).value(), 100'000);
  EXPECT_EQ(copy->CopyFrom(*reader, 399'999, 1'000'000).value(), 200'001);
  EXPECT_EQ(copy->CopyFrom(*reader, 600'000, 1).value(), 0);
  EXPECT_EQ(temp.ReadFile("copy"), data.substr(299'999));
}

TEST_P(DirTest, HolesOfACopiedFileStayHoles) {
  constexpr int64_t kMiB = int64_t{1} << 20;
  const std::string data = "some data";
  // A hole, data on both sides of the end of the first copy, and a hole.
  temp.WriteFile("file", "");
  ASSERT_EQ(::truncate(temp.Path("file").c_str(), 16 * kMiB), 0);
  std::fstream(temp.Path("file")).seekp(8 * kMiB - 4) << data;
  const auto reader = dir->OpenFile("file").value();
  const auto copy = dir->CreateFile("copy").value();
  EXPECT_EQ(copy->CopyFrom(*reader, 0, 8 * kMiB).value(), 8 * kMiB);
  EXPECT_EQ(copy->CopyFrom(*reader, 8 * kMiB, 16 * kMiB).value(), 8 * kMiB);
  EXPECT_EQ(copy->CopyFrom(*reader, 16 * kMiB, kMiB).value(), 0);
  EXPECT_OK(copy->Write("end"));
  EXPECT_EQ(temp.ReadFile("copy"), temp.ReadFile("file") + "end");
  struct stat original, copied;
  ASSERT_EQ(::stat(temp.Path("file").c_str(), &original), 0);
  ASSERT_EQ(::stat(temp.Path("copy").c_str(), &copied), 0);
  if (original.st_blocks * 512 > kMiB) GTEST_SKIP() << "no holes here";
  // The portable calls do not know holes.
  if (!GetParam()) {
    EXPECT_LT(copied.st_blocks * 512, kMiB);
  }
}

TEST_P(DirTest, OnlyRegularFilesAreOpened) {
  temp.MakeDirs("dir");
  temp.MakeFifo("fifo");
  temp.WriteFile("target", "x");
  temp.Link("target", "link");
  for (const char* name : {"dir", "fifo", "link"}) {
    EXPECT_THAT(dir->OpenFile(name), kUnsuitable) << name;
    EXPECT_THAT(dir->ReopenFile(name), kUnsuitable) << name;
  }
  EXPECT_THAT(dir->OpenFile("dir"), HasDetail("problem", "is a directory"));
  EXPECT_THAT(dir->ReopenFile("dir"), HasDetail("problem", "is a directory"));
  EXPECT_THAT(dir->OpenFile("missing"), kNotFound);
  EXPECT_THAT(dir->ReopenFile("missing"), kNotFound);
}

// --- Paths ---

TEST_P(DirTest, PathsOfSeveralNamesWork) {
  ASSERT_OK(dir->MakeDir("a"));
  ASSERT_OK(dir->MakeDir("a/b"));
  ASSERT_OK(dir->CreateFile("a/b/file"));
  EXPECT_OK(dir->ReadFile("a/b/file", 10));
  EXPECT_OK(dir->OpenDir("a").value()->OpenDir("b"));
  EXPECT_OK(Rename("a/b/file", "a/moved", RenameMode::kNoReplace));
  EXPECT_OK(dir->RemoveFile("a/moved"));
  EXPECT_OK(dir->RemoveDir("a/b"));
  EXPECT_THAT(NamesIn(*dir->OpenDir("a").value()), IsEmpty());
}

TEST_P(DirTest, MissingNamesAreNotFound) {
  EXPECT_THAT(dir->OpenDir("x"), kNotFound);
  EXPECT_THAT(dir->Stat("x"), kNotFound);
  EXPECT_THAT(dir->ReadFile("x/y", 10), kNotFound);
  EXPECT_THAT(dir->MakeDir("x/y"), kNotFound);
  EXPECT_THAT(dir->CreateFile("x/y"), kNotFound);
  EXPECT_THAT(dir->RemoveFile("x"), kNotFound);
  EXPECT_THAT(dir->RemoveDir("x"), kNotFound);
  for (const RenameMode mode : {RenameMode::kReplace, RenameMode::kNoReplace}) {
    EXPECT_THAT(Rename("x", "y", mode), kNotFound);
  }
}

TEST_P(DirTest, NoLinkIsFollowedWhateverItStandsFor) {
  const support::TempDir outside;
  outside.WriteFile("sub/file", "secret");
  temp.Link(outside.path(), "link");
  temp.MakeDirs("dir");
  temp.Link("..", "dir/up");
  EXPECT_THAT(dir->OpenDir("link"), kUnsuitable);
  EXPECT_THAT(dir->OpenDir("link/sub"), kUnsuitable);
  EXPECT_THAT(dir->OpenDir("dir/up"), kUnsuitable);
  EXPECT_THAT(dir->ReadFile("link/sub/file", 100), kUnsuitable);
  EXPECT_THAT(dir->CreateFile("link/new"), kUnsuitable);
  EXPECT_THAT(dir->MakeDir("link/new"), kUnsuitable);
  EXPECT_THAT(dir->RemoveFile("link/sub/file"), kUnsuitable);
  EXPECT_THAT(dir->RemoveDir("link/sub"), kUnsuitable);
  EXPECT_TRUE(outside.Exists("sub/file"));
  EXPECT_FALSE(outside.Exists("new"));
}

TEST_P(DirTest, ReadLinkTellsWhatALinkSays) {
  temp.MakeDirs("dir");
  temp.WriteFile("file", "");
  temp.Link("../any//where/", "dir/link");
  temp.Link("dir", "way");
  EXPECT_EQ(dir->ReadLink("dir/link").value(), "../any//where/");
  EXPECT_EQ(dir->ReadLink("dir").value(), std::nullopt);
  EXPECT_EQ(dir->ReadLink("file").value(), std::nullopt);
  EXPECT_THAT(dir->ReadLink("missing"), kNotFound);
  EXPECT_THAT(dir->ReadLink("way/link"), kUnsuitable);
  EXPECT_THAT(dir->ReadLink("file/x"), kUnsuitable);
}

TEST_P(DirTest, AFileOnTheWayIsUnsuitable) {
  temp.WriteFile("file", "");
  EXPECT_THAT(dir->OpenDir("file"), kUnsuitable);
  EXPECT_THAT(dir->Stat("file/x"), kUnsuitable);
  EXPECT_THAT(dir->ReadFile("file/x", 10), kUnsuitable);
  EXPECT_THAT(dir->MakeDir("file/x"), kUnsuitable);
  EXPECT_THAT(dir->RemoveDir("file"), kUnsuitable);
}

TEST_P(DirTest, NamesNeedNotBeText) {
  const std::string name = "\xff\xfe\n\x01 name";
  ASSERT_OK(dir->MakeDir(name));
  ASSERT_OK(dir->CreateFile(name + "/" + name));
  EXPECT_THAT(NamesIn(*dir), ElementsAre(name));
  EXPECT_OK(dir->ReadFile(name + "/" + name, 10));
  EXPECT_THAT(dir->RemoveDir(name), kAlreadyExists);  // Not empty.
  EXPECT_THAT(dir->ReadFile(name, 10),
              HasDetail("path", testing::HasSubstr("\\xff\\xfe\\n\\x01 name")));
}

TEST_P(DirTest, NamesThatAreTooLongAreIoErrors) {
  const auto result = dir->MakeDir(std::string(256, 'x'));
  EXPECT_THAT(result, IsError(StatusCode::kInternal, "IO_ERROR"));
  EXPECT_THAT(result, HasDetail("errno", absl::StrCat(ENAMETOOLONG)));
}

// --- Directories ---

TEST_P(DirTest, MakeDirRefusesWhateverHasTheName) {
  temp.WriteFile("file", "");
  temp.MakeDirs("dir");
  temp.Link("nowhere", "link");
  for (const char* name : {"file", "dir", "link"})
    EXPECT_THAT(dir->MakeDir(name), kAlreadyExists) << name;
}

TEST_P(DirTest, EntriesAreVisitedWithTheirTypes) {
  temp.MakeDirs("dir");
  temp.WriteFile("file", "");
  temp.WriteFile(".hidden", "");
  temp.Link("dir", "link");
  temp.MakeFifo("fifo");
  std::map<std::string, EntryType> entries;
  ASSERT_OK(dir->ForEachEntry([&](absl::string_view name, EntryType type) {
    return entries.emplace(name, type).second;
  }));
  EXPECT_EQ(entries,
            (std::map<std::string, EntryType>{{"dir", EntryType::kDirectory},
                                              {"file", EntryType::kFile},
                                              {".hidden", EntryType::kFile},
                                              {"link", EntryType::kSymlink},
                                              {"fifo", EntryType::kOther}}));
}

TEST_P(DirTest, AVisitEndsWhenToldAndBeginsAnewEachTime) {
  for (int i = 0; i < 10; ++i) temp.WriteFile(absl::StrCat(i), "");
  for (int round = 0; round < 2; ++round) {
    int visited = 0;
    ASSERT_OK(dir->ForEachEntry(
        [&](absl::string_view, EntryType) { return ++visited < 3; }));
    EXPECT_EQ(visited, 3);
  }
  EXPECT_EQ(NamesIn(*dir).size(), 10);
}

TEST_P(DirTest, AWideDirectoryIsVisitedWhole) {
  for (int i = 0; i < 2000; ++i)
    temp.WriteFile(absl::StrCat("a-rather-long-name-of-a-file-", i), "");
  EXPECT_EQ(NamesIn(*dir).size(), 2000);
}

TEST_P(DirTest, TwoVisitsOfOneDirectoryDoNotDisturbEachOther) {
  for (int i = 0; i < 100; ++i) temp.WriteFile(absl::StrCat(i), "");
  int inner = 0, outer = 0;
  ASSERT_OK(dir->ForEachEntry([&](absl::string_view, EntryType) {
    if (outer++ == 50) inner = static_cast<int>(NamesIn(*dir).size());
    return true;
  }));
  EXPECT_EQ(outer, 100);
  EXPECT_EQ(inner, 100);
}

TEST_P(DirTest, RemovalsMindTheType) {
  temp.WriteFile("file", "");
  temp.MakeDirs("dir/sub");
  temp.MakeDirs("empty");
  temp.Link("dir", "link");
  EXPECT_FALSE(dir->RemoveFile("dir").ok());
  EXPECT_THAT(dir->RemoveDir("dir"), kAlreadyExists);
  EXPECT_THAT(dir->RemoveDir("link"), kUnsuitable);
  EXPECT_OK(dir->RemoveFile("link"));
  EXPECT_OK(dir->RemoveFile("file"));
  EXPECT_OK(dir->RemoveDir("empty"));
  EXPECT_THAT(NamesIn(*dir), ElementsAre("dir"));
}

TEST_P(DirTest, AnOpenDirectoryFollowsItsRename) {
  temp.MakeDirs("a");
  const auto open = dir->OpenDir("a").value();
  temp.Move("a", "b");
  ASSERT_OK(open->CreateFile("file"));
  EXPECT_TRUE(temp.Exists("b/file"));
  EXPECT_OK(open->Sync());
}

// --- Stamps ---

TEST_P(DirTest, AStampTellsTypeAndSizeOfTheEntryItself) {
  temp.WriteFile("file", "12345");
  temp.Link("file", "link");
  temp.MakeFifo("fifo");
  EXPECT_EQ(dir->Stat("file").value().type, EntryType::kFile);
  EXPECT_EQ(dir->Stat("file").value().size_bytes, 5);
  EXPECT_EQ(dir->Stat("link").value().type, EntryType::kSymlink);
  EXPECT_EQ(dir->Stat("fifo").value().type, EntryType::kOther);
  EXPECT_EQ(dir->StatSelf().value().type, EntryType::kDirectory);
}

TEST_P(DirTest, AnIdentityIsThatOfOneDirectoryWhereverItIs) {
  ASSERT_OK(dir->MakeDir("a"));
  const auto identity_of = [this](absl::string_view name) {
    return IdentityOf(dir->Stat(name).value());
  };
  EXPECT_EQ(identity_of("a"), std::nullopt);
  absl::SleepFor(absl::Milliseconds(30));
  const std::optional<DirIdentity> identity = identity_of("a");
  if (!identity.has_value()) GTEST_SKIP() << "not told here";
  EXPECT_NE(identity, IdentityOf(dir->StatSelf().value()));
  temp.Move("a", "b");
  EXPECT_EQ(identity_of("b"), identity);
  // The new directory often gets the same inode.
  ASSERT_OK(dir->RemoveDir("b"));
  ASSERT_OK(dir->MakeDir("b"));
  absl::SleepFor(absl::Milliseconds(30));
  EXPECT_NE(identity_of("b"), identity);
}

TEST_P(DirTest, AStampIsWhatTheOperatingSystemSays) {
  temp.WriteFile("file", "x");
  struct stat info;
  ASSERT_EQ(::stat(temp.Path("file").c_str(), &info), 0);
  const FileStamp stamp = dir->Stat("file").value();
  EXPECT_EQ(stamp.inode, info.st_ino);
  EXPECT_EQ(stamp.modify_time, absl::TimeFromTimespec(info.st_mtim));
  EXPECT_EQ(stamp.change_time, absl::TimeFromTimespec(info.st_ctim));
}

TEST_P(DirTest, AStampChangesWithTheFile) {
  temp.WriteFile("file", "12345");
  const FileStamp before = dir->Stat("file").value();
  EXPECT_EQ(dir->Stat("file").value(), before);
  temp.WriteFile("file", "123456");
  EXPECT_NE(dir->Stat("file").value(), before);
  temp.WriteFile("new", "12345");
  temp.Move("new", "file");
  EXPECT_NE(dir->Stat("file").value().inode, before.inode);
}

// --- Rename ---

TEST_P(DirTest, AFileTakesThePermissionsThatItIsGiven) {
  auto file = dir->CreateFile("file").value();
  for (const uint32_t mode : {0600u, 0755u}) {
    ASSERT_OK(file->SetMode(mode | 04000));
    EXPECT_EQ(dir->Stat("file")->mode, mode);
    EXPECT_EQ(static_cast<uint32_t>(
                  std::filesystem::status(temp.Path("file")).permissions()),
              mode);
  }
}

TEST(FileStampTest, WhatDoesNotComeFromTheContentDoesNotCount) {
  const FileStamp stamp{
      .type = EntryType::kFile, .inode = 1, .modify_time = absl::UnixEpoch()};
  FileStamp other = stamp;
  other.mode = 0600;
  other.birth_time = absl::UnixEpoch();
  EXPECT_EQ(stamp, other);
  other.change_time = absl::UnixEpoch() + absl::Seconds(1);
  EXPECT_NE(stamp, other);
}

TEST_P(DirTest, ReplaceTakesTheTargetsPlace) {
  temp.WriteFile("from", "new");
  temp.WriteFile("to", "old");
  EXPECT_OK(Rename("from", "to", RenameMode::kReplace));
  EXPECT_EQ(temp.ReadFile("to"), "new");
  EXPECT_THAT(NamesIn(*dir), ElementsAre("to"));
}

TEST_P(DirTest, NoReplaceReplacesNothingNotEvenAnEmptyDirectory) {
  temp.WriteFile("dir/file", "");
  temp.WriteFile("file", "mine");
  for (const char* target : {"empty", "other", "link"}) {
    temp.MakeDirs("empty");
    temp.WriteFile("other", "old");
    if (!temp.Exists("link")) temp.Link("nowhere", "link");
    EXPECT_THAT(Rename("dir", target, RenameMode::kNoReplace), kAlreadyExists)
        << target;
    EXPECT_THAT(Rename("file", target, RenameMode::kNoReplace), kAlreadyExists)
        << target;
  }
  EXPECT_EQ(temp.ReadFile("other"), "old");
  EXPECT_TRUE(temp.Exists("dir/file"));
}

TEST_P(DirTest, NoReplaceMovesFilesDirectoriesAndLinks) {
  temp.WriteFile("dir/file", "x");
  temp.WriteFile("file", "mine");
  temp.Link("nowhere", "link");
  temp.MakeDirs("to");
  const auto to = dir->OpenDir("to").value();
  for (const char* name : {"dir", "file", "link"}) {
    EXPECT_OK(dir->Rename(name, *to, name, RenameMode::kNoReplace)) << name;
  }
  EXPECT_THAT(NamesIn(*dir), ElementsAre("to"));
  EXPECT_THAT(NamesIn(*to), ElementsAre("dir", "file", "link"));
  EXPECT_EQ(temp.ReadFile("to/dir/file"), "x");
  EXPECT_EQ(to->Stat("link").value().type, EntryType::kSymlink);
}

TEST_P(DirTest, ExchangeSwapsOrIsUnimplementedWherePortable) {
  temp.WriteFile("a", "1");
  temp.WriteFile("b", "2");
  const absl::Status exchanged = Rename("a", "b", RenameMode::kExchange);
  if (GetParam()) {
    EXPECT_THAT(exchanged, IsError(StatusCode::kUnimplemented, ""));
    EXPECT_EQ(temp.ReadFile("a"), "1");
    return;
  }
  EXPECT_OK(exchanged);
  EXPECT_EQ(temp.ReadFile("a"), "2");
  EXPECT_EQ(temp.ReadFile("b"), "1");
  EXPECT_THAT(Rename("a", "missing", RenameMode::kExchange), kNotFound);
}

TEST_P(DirTest, OfManyNoReplaceRenamesToOneNameOneSucceeds) {
  std::atomic<int> succeeded = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) temp.WriteFile(absl::StrCat("from", t), "");
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, from = absl::StrCat("from", t)] {
      if (Rename(from, "to", RenameMode::kNoReplace).ok()) ++succeeded;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(succeeded, 1);
  EXPECT_EQ(NamesIn(*dir).size(), 8);
}

INSTANTIATE_TEST_SUITE_P(Calls, DirTest, testing::Bool(), CallsName);

}  // namespace
}  // namespace mlops::fs
