#include "service/observe/audit.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/cpp/base/error.h"
#include "service/observe/quoted.h"

namespace mlops::observe {
namespace {

// Leaves the rest of kMaxDelay to the disk.
constexpr absl::Duration kSyncDelay = absl::Milliseconds(500);
// Time between two writes, so that lines that arrive together are written
// together.
constexpr std::chrono::milliseconds kRest(10);
// Time between two attempts after a failure.
constexpr std::chrono::milliseconds kRetry(200);
constexpr size_t kMaxWriteBytes = 64 * 1024;
// Size of the unsynced lines that triggers an earlier sync.
constexpr size_t kMaxUnsyncedBytes = 1 << 20;
constexpr size_t kMaxPathBytes = 4096;
constexpr absl::Duration kRetryDelay = absl::Milliseconds(200);

absl::Duration Now() {
  return absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
}

void AppendText(std::string& line, absl::string_view key,
                absl::string_view value,
                size_t max_bytes = base::kMaxEchoBytes) {
  if (!value.empty())
    absl::StrAppend(&line, ",\"", key, "\":", QuotedEcho(value, max_bytes));
}

std::string LineOf(const AuditRecord& record, uint64_t left_out) {
  std::string line =
      absl::StrCat(R"({"time":")",
                   absl::FormatTime("%Y-%m-%dT%H:%M:%E6SZ", record.time,
                                    absl::UTCTimeZone()),
                   "\"");
  AppendText(line, "principal", record.principal);
  AppendText(line, "kind", record.kind);
  AppendText(line, "peer", record.peer);
  AppendText(line, "rpc", record.rpc);
  AppendText(line, "project", record.project);
  AppendText(line, "path", record.path, kMaxPathBytes);
  AppendText(line, "destination", record.destination, kMaxPathBytes);
  AppendText(line, "uid", record.uid);
  AppendText(line, "etag_before", record.etag_before);
  AppendText(line, "etag_after", record.etag_after);
  AppendText(line, "code", absl::StatusCodeToString(record.outcome.code()));
  AppendText(line, "reason", base::GetReason(record.outcome));
  AppendText(line, "request_id", record.request_id);
  absl::StrAppend(&line, R"(,"micros":)",
                  absl::ToInt64Microseconds(record.duration));
  if (left_out > 0) absl::StrAppend(&line, R"(,"left_out":)", left_out);
  return absl::StrCat(line, "}\n");
}

// Returns the size of the next part of `lines` to write. The part consists of
// whole lines, unless a line is longer than kMaxWriteBytes.
size_t PartSize(absl::string_view lines) {
  if (lines.size() <= kMaxWriteBytes) return lines.size();
  const size_t end = lines.rfind('\n', kMaxWriteBytes - 1);
  return end == absl::string_view::npos ? kMaxWriteBytes : end + 1;
}

}  // namespace

absl::StatusOr<std::unique_ptr<AuditLog>> AuditLog::Open(
    const std::string& path, Options options) {
  auto file = AuditFile::Open(path, options.file);
  if (!file.ok()) return file.status();
  return std::unique_ptr<AuditLog>(
      new AuditLog(path, *std::move(file), std::move(options)));
}

AuditLog::AuditLog(std::string path, std::unique_ptr<AuditFile> file,
                   Options options)
    : path_(std::move(path)),
      options_(std::move(options)),
      file_(std::move(file)) {
  // The disk may be full, which must not prevent the start.
  Judge(file_->EnsureOpen());
  thread_ = std::thread([this] { Run(); });
}

AuditLog::~AuditLog() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
}

absl::Status AuditLog::CheckWritable() const {
  if (!options_.required) return absl::OkStatus();
  absl::MutexLock lock(&mutex_);
  // Repeat the cause, so that the caller learns what must be repaired.
  if (!problem_.ok()) {
    return base::MakeError(
        problem_.code(),
        absl::StrCat("Nothing was changed, because changes must be logged "
                     "(--audit-required). ",
                     problem_.message()),
        *base::GetErrorInfo(problem_));
  }
  // Changes that are already permitted may fill the second half of the queue.
  if (counts_.queued_bytes <= options_.max_queued_bytes / 2)
    return absl::OkStatus();
  return base::MakeError(
      absl::StatusCode::kUnavailable,
      "The server is overloaded: the disk of the audit log is too slow; retry "
      "later",
      {.reason = "OVERLOADED",
       .metadata = {{"limit", "bytes of audit lines that wait for the disk"}},
       .retry_delay = kRetryDelay});
}

void AuditLog::Write(const AuditRecord& record) {
  uint64_t left_out = 0;
  {
    // Apply the limits before formatting, so that a flood of refused calls
    // costs little.
    absl::MutexLock lock(&mutex_);
    if (absl::IsUnauthenticated(record.outcome) &&
        !MayLog(unauthenticated_, &left_out))
      return;
    if (absl::IsPermissionDenied(record.outcome) && !MayLog(denied_, &left_out))
      return;
  }
  const std::string line = LineOf(record, left_out);
  // Only lines of changes that CheckWritable() permitted may use the reserved
  // half of the queue.
  const size_t room = record.is_reserved ? options_.max_queued_bytes
                                         : options_.max_queued_bytes / 2;
  absl::MutexLock lock(&mutex_);
  if (counts_.queued_bytes + line.size() > room) {
    ++counts_.dropped;
    return;
  }
  ++counts_.lines;
  counts_.queued_bytes += line.size();
  queue_ += line;
}

bool AuditLog::MayLog(Limit& limit, uint64_t* left_out) {
  const absl::Duration now = Now();
  if (now - limit.second >= absl::Seconds(1)) {
    limit.second = now;
    limit.lines_in_second = 0;
  }
  if (limit.lines_in_second == limit.most) {
    ++counts_.left_out;
    ++limit.left_out;
    return false;
  }
  ++limit.lines_in_second;
  *left_out = std::exchange(limit.left_out, 0);
  return true;
}

AuditLog::Counts AuditLog::counts() const {
  absl::MutexLock lock(&mutex_);
  return counts_;
}

void AuditLog::Run() {
  bool last = false;
  while (!last) {
    last = Wait();
    WriteSome(last);
  }
}

bool AuditLog::Wait() {
  bool has_failed;
  {
    absl::MutexLock lock(&mutex_);
    has_failed = !problem_.ok();
    const auto has_work = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
      return stopping_ || !queue_.empty();
    };
    // Do not sleep indefinitely while lines are unsynced or the disk has
    // failed.
    if (lines_.empty() && !has_failed) mutex_.Await(absl::Condition(&has_work));
    if (stopping_) return true;
  }
  // Rest even with work to do: lines that arrive meanwhile share a write.
  std::this_thread::sleep_for(has_failed ? kRetry : kRest);
  absl::MutexLock lock(&mutex_);
  return stopping_;
}

void AuditLog::WriteSome(bool last) {
  bool has_failed;
  // Take the lines under the lock, but write them without it: Write() must not
  // wait for the disk.
  {
    absl::MutexLock lock(&mutex_);
    lines_ += queue_;
    queue_.clear();
    has_failed = !problem_.ok();
  }
  absl::Status result = file_->EnsureOpen();
  while (result.ok() && written_ < lines_.size()) {
    const absl::string_view rest = absl::string_view(lines_).substr(written_);
    const absl::string_view part = rest.substr(0, PartSize(rest));
    // Sync before switching files, because a later sync covers only the new
    // one.
    if (!file_->HasRoom(part.size())) {
      result = SyncLines();
      if (!result.ok()) break;
      result = file_->StartNew();
      // SyncLines() has removed lines from lines_, so compute the part again.
      if (result.ok()) continue;
    }
    absl::Status problem;
    const size_t appended = file_->Append(part, &problem);
    // The delay counts from the oldest unsynced byte.
    if (written_ == 0 && appended > 0) sync_due_ = Now() + kSyncDelay;
    written_ += appended;
    result.Update(problem);
  }
  // After a failure, only a sync proves that the disk works again.
  if (last || has_failed || Now() >= sync_due_ ||
      lines_.size() > kMaxUnsyncedBytes)
    result.Update(SyncLines());
  Judge(result);
}

absl::Status AuditLog::SyncLines() {
  if (written_ == 0) return absl::OkStatus();
  absl::Status synced = file_->Sync();
  if (!synced.ok()) {
    // After a failed sync, the kernel may have dropped the bytes, so write all
    // of them again, to a new file if possible.
    written_ = 0;
    file_->StartNew().IgnoreError();
    return synced;
  }
  // Keep a line that is only partly written, in case the next sync fails.
  const size_t whole = lines_.rfind('\n', written_ - 1) + 1;
  lines_.erase(0, whole);
  written_ -= whole;
  sync_due_ = Now() + kSyncDelay;
  absl::MutexLock lock(&mutex_);
  counts_.queued_bytes -= whole;
  return synced;
}

void AuditLog::Judge(const absl::Status& result) {
  bool has_changed;
  {
    absl::MutexLock lock(&mutex_);
    has_changed = problem_.ok() != result.ok();
    problem_ = result;
    counts_.writable = result.ok();
    if (!result.ok()) ++counts_.failures;
  }
  // Report without the lock, because the callback may call back into this
  // object.
  if (has_changed && options_.on_problem) options_.on_problem(result);
}

}  // namespace mlops::observe
