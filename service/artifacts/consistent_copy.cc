#include "service/artifacts/consistent_copy.h"

#include <array>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/cpp/base/status_macros.h"
#include "service/base/clock.h"
#include "service/core/errors.h"

namespace mlops::artifacts {
namespace {

// SQLite's locks, as byte ranges of the database and of the log's index.
constexpr int64_t kPendingByte = 0x40000000;
constexpr int64_t kSharedFirst = kPendingByte + 2;
constexpr int64_t kSharedSize = 510;
// In the index: held by a checkpoint, and by a reader.
constexpr int64_t kCheckpointByte = 121;
constexpr int64_t kReaderByte = 124;

constexpr absl::string_view kMagic("SQLite format 3\0", 16);
// The versions of the format for writing and reading; 2 means WAL mode.
constexpr size_t kVersionsOffset = 18;
constexpr char kWalVersion = 2;
constexpr size_t kHeaderBytes = 20;

constexpr absl::string_view kJournal = "-journal";
constexpr absl::string_view kLog = "-wal";
constexpr absl::string_view kLogIndex = "-shm";

// How long to retry a busy file, which is longer than most transactions take,
// and the minimum number of attempts.
constexpr absl::Duration kPatience = absl::Seconds(6);
constexpr int kMinTries = 3;
// Pause between attempts. Short, because a program that commits continuously
// leaves the database unlocked only for moments.
constexpr absl::Duration kPause = absl::Milliseconds(5);
// Longer than the interval in which two writes may leave the same stamp.
constexpr absl::Duration kTick = absl::Milliseconds(25);

absl::Status Busy(absl::string_view what) { return absl::AbortedError(what); }

// Returns the first bytes of the file, or fewer if it is shorter.
absl::StatusOr<std::string> ReadHeader(fs::FileReader& reader) {
  std::string header(kHeaderBytes, '\0');
  ASSIGN_OR_RETURN(const size_t got,
                   reader.ReadAt(0, header.data(), header.size()));
  header.resize(got);
  return header;
}

bool IsDatabase(absl::string_view header) {
  return header.size() == kHeaderBytes && absl::StartsWith(header, kMagic);
}

bool InWalMode(absl::string_view header) {
  return header[kVersionsOffset] == kWalVersion ||
         header[kVersionsOffset + 1] == kWalVersion;
}

}  // namespace

absl::StatusOr<StableFile> StableFile::Open(const fs::Dir& dir,
                                            absl::string_view name) {
  StableFile file(dir);
  RETURN_IF_ERROR(file.AddPart(std::string(name)));
  ASSIGN_OR_RETURN(std::string header, ReadHeader(*file.parts_.front().reader));
  file.is_database_ = IsDatabase(header);
  if (file.is_database_) RETURN_IF_ERROR(file.LockDatabase());
  Part& main = file.parts_.front();
  ASSIGN_OR_RETURN(main.stamp, main.reader->Stat());
  if (file.is_locked_ || !fs::MayBeRacy(main.stamp, absl::Now())) return file;
  // Another write within the same clock tick would leave the same stamp,
  // so wait. If a program replaces the file meanwhile, the open one keeps
  // its content.
  absl::SleepFor(kTick);
  ASSIGN_OR_RETURN(main.stamp, main.reader->Stat());
  if (fs::MayBeRacy(main.stamp, absl::Now()) && !file.WasReplaced())
    return Busy("the file has just been written");
  return file;
}

absl::Status StableFile::AddPart(std::string name) {
  ASSIGN_OR_RETURN(auto reader, dir_->OpenFile(name));
  ASSIGN_OR_RETURN(const fs::FileStamp stamp, reader->Stat());
  parts_.push_back(
      {.name = std::move(name), .reader = std::move(reader), .stamp = stamp});
  return absl::OkStatus();
}

absl::Status StableFile::LockDatabase() {
  fs::FileReader& database = *parts_.front().reader;
  // Lock in the order of SQLite's readers. A writer that waits to commit holds
  // the pending byte to keep new readers out.
  ASSIGN_OR_RETURN(bool locked, database.TryLock(kPendingByte, 1));
  if (!locked) return Busy("the database is locked");
  ASSIGN_OR_RETURN(locked, database.TryLock(kSharedFirst, kSharedSize));
  database.Unlock(kPendingByte, 1);
  if (!locked) return Busy("the database is locked");
  // The mode cannot change while the lock is held.
  ASSIGN_OR_RETURN(const std::string header, ReadHeader(database));
  if (!IsDatabase(header)) return Busy("the database is being replaced");
  is_locked_ = true;
  if (InWalMode(header)) RETURN_IF_ERROR(AddLog());
  // After a crash, the journal rolls back the unfinished transaction.
  // Otherwise it changes nothing: until the commit, which our lock delays,
  // it holds what the database holds.
  const absl::Status journal =
      AddPart(absl::StrCat(parts_.front().name, kJournal));
  return absl::IsNotFound(journal) ? absl::OkStatus() : journal;
}

absl::Status StableFile::AddLog() {
  const std::string& name = parts_.front().name;
  // Without an index, no program has the database open in this mode.
  if (auto index = dir_->OpenFile(absl::StrCat(name, kLogIndex)); index.ok()) {
    log_index_ = *std::move(index);
    ASSIGN_OR_RETURN(bool locked, log_index_->TryLock(kCheckpointByte, 1));
    // A reader's lock keeps SQLite from restarting the log.
    if (locked) {
      ASSIGN_OR_RETURN(locked, log_index_->TryLock(kReaderByte, 1));
    }
    if (!locked) return Busy("the database is being checkpointed");
  } else if (absl::IsNotFound(index.status())) {
    // Nothing keeps a program that opens the database now from checkpointing
    // it.
    is_locked_ = false;
  } else {
    return index.status();
  }
  // From here on the log only grows. SQLite ignores an incomplete transaction
  // at its end.
  const absl::Status log = AddPart(absl::StrCat(name, kLog));
  return absl::IsNotFound(log) ? absl::OkStatus() : log;
}

bool StableFile::WasReplaced() const {
  const Part& main = parts_.front();
  const auto named = dir_->Stat(main.name);
  return absl::IsNotFound(named.status()) ||
         (named.ok() && named->inode != main.stamp.inode);
}

bool StableFile::Unchanged() const {
  const Part& main = parts_.front();
  const auto now = main.reader->Stat();
  if (!now.ok()) return false;
  if (!is_database_) {
    fs::FileStamp stamp = *now;
    // Losing its name changes the ctime of a file, but not its content.
    if (WasReplaced()) stamp.change_time = main.stamp.change_time;
    return stamp == main.stamp;
  }
  // The log may have grown, but each part must still be the same file.
  const auto is_same_file = [this](const Part& part) {
    const auto named = dir_->Stat(part.name);
    return named.ok() && named->inode == part.stamp.inode;
  };
  return *now == main.stamp && absl::c_all_of(parts_, is_same_file);
}

bool BelongsToDatabase(const fs::Dir& dir, absl::string_view name) {
  for (absl::string_view suffix : {kJournal, kLog, kLogIndex}) {
    if (!absl::EndsWith(name, suffix)) continue;
    const auto reader =
        dir.OpenFile(name.substr(0, name.size() - suffix.size()));
    if (!reader.ok()) return false;
    const auto header = ReadHeader(**reader);
    return header.ok() && IsDatabase(*header);
  }
  return false;
}

absl::Status ReadConsistently(
    const fs::Dir& dir, absl::string_view name, absl::string_view project,
    absl::string_view shown, core::Cancelled cancelled,
    absl::FunctionRef<absl::Status(const StableFile& file)> read) {
  const base::SteadyClock clock = base::SystemSteadyClock();
  const absl::Duration begin = clock();
  for (int i = 0; i < kMinTries || clock() - begin < kPatience; ++i) {
    if (i > 0) absl::SleepFor(kPause);
    if (cancelled()) return absl::CancelledError("the call was cancelled");
    const auto file = StableFile::Open(dir, name);
    if (absl::IsAborted(file.status())) continue;
    RETURN_IF_ERROR(file.status());
    RETURN_IF_ERROR(read(*file));
    if (file->Unchanged()) return absl::OkStatus();
  }
  return core::WorkspaceBusy(
      project, absl::StrCat("another program that writes ", shown));
}

}  // namespace mlops::artifacts
