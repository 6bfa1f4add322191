#include "service/observe/audit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "nlohmann/json.hpp"
#include "proto/cpp/base/error.h"
#include "tests/support/matchers.h"
#include "tests/support/temp_dir.h"

namespace mlops::observe {
namespace {

using absl::StatusCode;
using nlohmann::json;
using support::IsError;
using support::IsOk;
using testing::ElementsAre;

class AuditTest : public testing::Test {
 protected:
  std::unique_ptr<AuditLog> Open(AuditLog::Options options = {}) {
    options.on_problem = [this](const absl::Status& problem) {
      absl::MutexLock lock(&mutex);
      problems.push_back(problem);
    };
    return AuditLog::Open(temp.Path("audit"), std::move(options)).value();
  }
  // Returns the complete lines, and what follows them.
  std::pair<std::vector<std::string>, std::string> Lines() {
    std::vector<std::string> lines =
        absl::StrSplit(temp.ReadFile("audit"), '\n');
    std::string rest = std::move(lines.back());
    lines.pop_back();
    return {std::move(lines), std::move(rest)};
  }
  static bool WaitUntil(absl::FunctionRef<bool()> is_true) {
    for (int i = 0; i < 3000 && !is_true(); ++i)
      absl::SleepFor(absl::Milliseconds(5));
    return is_true();
  }

  const support::TempDir temp;
  absl::Mutex mutex;
  std::vector<absl::Status> problems ABSL_GUARDED_BY(mutex);
};

TEST_F(AuditTest, ALineHasAllThatIsKnown) {
  Open()->Write({.time = absl::FromUnixMicros(1'700'000'000'123'456),
                 .principal = "robot",
                 .kind = "token",
                 .peer = "ipv4:127.0.0.1:5",
                 .rpc = "UpdateWorkspace",
                 .project = "p",
                 .path = "models/m\n\xff",
                 .uid = "u",
                 .request_id = "r",
                 .etag_before = "1",
                 .etag_after = "2",
                 .outcome = base::MakeError(StatusCode::kAborted, "no",
                                            {.reason = "ETAG_MISMATCH"}),
                 .duration = absl::Milliseconds(3)});
  EXPECT_EQ(
      temp.ReadFile("audit"),
      R"({"time":"2023-11-14T22:13:20.123456Z","principal":"robot","kind":"token",)"
      R"("peer":"ipv4:127.0.0.1:5","rpc":"UpdateWorkspace","project":"p",)"
      R"("path":"models/m\\n\\xff","uid":"u","etag_before":"1","etag_after":"2",)"
      R"("code":"ABORTED","reason":"ETAG_MISMATCH","request_id":"r","micros":3000})"
      "\n");
}

TEST_F(AuditTest, AbsentValuesAreOmittedAndLongOnesShortened) {
  const std::string text(1000, 'x');
  Open()->Write({.time = absl::UnixEpoch(),
                 .principal = text,
                 .path = text,
                 .outcome = absl::OkStatus()});
  const json line = json::parse(Lines().first.at(0));
  EXPECT_EQ(line.size(), 5u) << line;
  EXPECT_EQ(line["principal"].get<std::string>().size(), 256u);
  EXPECT_EQ(line["path"].get<std::string>().size(), 1000u);
}

TEST_F(AuditTest, ALineIsSyncedWithinASecond) {
  const auto log = Open();
  log->Write({.rpc = "a"});
  EXPECT_TRUE(WaitUntil([&] { return log->counts().queued_bytes == 0; }));
  EXPECT_EQ(Lines().first.size(), 1u);
}

TEST_F(AuditTest, WrongCredentialsDoNotDisplaceOtherLines) {
  const auto log = Open();
  const AuditRecord wrong = {.outcome = absl::UnauthenticatedError("")};
  for (int i = 0; i < 1000; ++i) log->Write(wrong);
  EXPECT_THAT(log->counts().lines,
              testing::AllOf(testing::Ge(10u), testing::Le(100u)));
  EXPECT_EQ(log->counts().lines + log->counts().left_out, 1000u);
  EXPECT_TRUE(WaitUntil([&] {
    log->Write(wrong);
    return absl::StrContains(temp.ReadFile("audit"), "\"left_out\":");
  }));
}

TEST_F(AuditTest, FilesRotateAndNoLineIsLost) {
  {
    const auto log = Open({.file = {.max_bytes = 20'000, .older_files = 9}});
    for (int i = 0; i < 1000; ++i) {
      log->Write({.rpc = absl::StrCat(i)});
      if (i % 100 == 0) absl::SleepFor(absl::Milliseconds(15));
    }
  }
  std::string text;
  for (int i = 9; i > 0; --i) {
    if (const std::string name = absl::StrCat("audit.", i); temp.Exists(name))
      text += temp.ReadFile(name);
  }
  EXPECT_FALSE(text.empty());
  text += temp.ReadFile("audit");
  std::vector<std::string> lines =
      absl::StrSplit(text, '\n', absl::SkipEmpty());
  ASSERT_EQ(lines.size(), 1000u);
  for (int i = 0; i < 1000; ++i)
    EXPECT_EQ(json::parse(lines[i])["rpc"], absl::StrCat(i));
}

TEST_F(AuditTest, LinesOfARemovedFileAreWrittenAgain) {
  const auto log = Open();
  log->Write({.rpc = "a"});
  ASSERT_TRUE(WaitUntil([&] { return !temp.ReadFile("audit").empty(); }));
  temp.Remove("audit");
  EXPECT_TRUE(WaitUntil([&] { return log->counts().queued_bytes == 0; }));
  EXPECT_EQ(Lines().first.size(), 1u);
}

// Limits the size of files that this process writes, which fails like a full
// disk.
class SmallFiles {
 public:
  explicit SmallFiles(rlim_t bytes) {
    ::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &old_);
    rlimit limit = old_;
    limit.rlim_cur = bytes;
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~SmallFiles() { ::setrlimit(RLIMIT_FSIZE, &old_); }

 private:
  rlimit old_;
};

TEST_F(AuditTest, OnAFullDiskLinesWaitAndNoneIsTorn) {
  const auto log = Open();
  {
    // In the middle of a line.
    const SmallFiles full(150);
    for (int i = 0; i < 10; ++i) log->Write({.rpc = absl::StrCat(i)});
    ASSERT_TRUE(WaitUntil([&] { return !log->counts().writable; }));
    EXPECT_EQ(temp.ReadFile("audit").size(), 150u);
    EXPECT_OK(log->CheckWritable());
    EXPECT_EQ(log->counts().dropped, 0u);
  }
  ASSERT_TRUE(WaitUntil([&] { return log->counts().queued_bytes == 0; }));
  const auto [lines, rest] = Lines();
  ASSERT_EQ(lines.size(), 10u);
  for (int i = 0; i < 10; ++i)
    EXPECT_EQ(json::parse(lines[i])["rpc"], absl::StrCat(i));
  EXPECT_GE(log->counts().failures, 1u);
  absl::MutexLock lock(&mutex);
  EXPECT_THAT(
      problems,
      ElementsAre(IsError(StatusCode::kResourceExhausted, "NO_SPACE"), IsOk()));
}

TEST_F(AuditTest, IfRequiredAFullDiskRefusesChanges) {
  const auto log = Open({.required = true});
  EXPECT_OK(log->CheckWritable());
  {
    const SmallFiles full(10);
    log->Write({.rpc = "a"});
    ASSERT_TRUE(WaitUntil([&] { return !log->CheckWritable().ok(); }));
    EXPECT_THAT(log->CheckWritable(),
                IsError(StatusCode::kResourceExhausted, "NO_SPACE"));
  }
  EXPECT_TRUE(WaitUntil([&] { return log->CheckWritable().ok(); }));
}

TEST_F(AuditTest, AFullQueueDropsLinesAndRefusesChangesBefore) {
  const auto log = Open({.max_queued_bytes = 2000, .required = true});
  int lines_before_refusal = 0;
  {
    const SmallFiles full(1);
    while (log->CheckWritable().ok() && lines_before_refusal < 1000) {
      log->Write({.rpc = "a", .is_reserved = true});
      ++lines_before_refusal;
    }
    EXPECT_LT(lines_before_refusal, 25);
    EXPECT_EQ(log->counts().dropped, 0u);
    // Only changes that have asked may use the other half.
    log->Write({.rpc = "a"});
    EXPECT_EQ(log->counts().dropped, 1u);
    for (int i = 0; i < 100; ++i) log->Write({.rpc = "a", .is_reserved = true});
    EXPECT_GT(log->counts().dropped, 50u);
    EXPECT_LE(log->counts().queued_bytes, 2000u);
  }
  EXPECT_TRUE(WaitUntil([&] { return log->counts().queued_bytes == 0; }));
}

TEST_F(AuditTest, DeniedCallsCannotDisplaceAllOtherLines) {
  const auto log = Open({});
  for (int i = 0; i < 1000; ++i)
    log->Write({.rpc = "a", .outcome = absl::PermissionDeniedError("no")});
  EXPECT_LE(log->counts().lines, 2u * AuditLog::kMaxDenied);
  EXPECT_GE(log->counts().left_out, 1000u - 2u * AuditLog::kMaxDenied);
}

// Writes numbered lines until it is killed. Sends the number of each line
// through `pipe`, once Write() has returned.
[[noreturn]] void WriteForever(const std::string& path, int pipe) {
  const auto log = AuditLog::Open(path, {}).value();
  for (uint64_t i = 0;; ++i) {
    log->Write({.rpc = absl::StrCat(i)});
    if (::write(pipe, &i, sizeof(i)) != sizeof(i)) ::_exit(1);
    absl::SleepFor(absl::Microseconds(50));
  }
}

TEST_F(AuditTest, AKilledServerLosesAtMostTheLastSecond) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const pid_t child = ::fork();
  if (child == 0) WriteForever(temp.Path("audit"), ends[1]);
  ::close(ends[1]);
  uint64_t last = 0, last_old = 0;
  const absl::Time kill_time = absl::Now() + absl::Seconds(1.3);
  while (absl::Now() < kill_time) {
    ASSERT_EQ(::read(ends[0], &last, sizeof(last)), ssize_t{sizeof(last)});
    if (absl::Now() < kill_time - AuditLog::kMaxDelay) last_old = last;
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  ::close(ends[0]);

  const auto [lines, rest] = Lines();
  for (size_t i = 0; i < lines.size(); ++i)
    ASSERT_EQ(json::parse(lines[i])["rpc"], absl::StrCat(i));
  EXPECT_GT(last_old, 0u);
  EXPECT_GT(lines.size(), last_old);
  // The next start continues with a line of its own.
  Open()->Write({.rpc = "next"});
  EXPECT_EQ(json::parse(Lines().first.back())["rpc"], "next");
}

}  // namespace
}  // namespace mlops::observe
