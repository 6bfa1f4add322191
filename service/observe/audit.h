#ifndef MLOPS_SERVICE_OBSERVE_AUDIT_H_
#define MLOPS_SERVICE_OBSERVE_AUDIT_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "service/observe/audit_file.h"

namespace mlops::observe {

// One call, for the audit log. "" means that the call lacks the value; the line
// then omits it.
struct AuditRecord {
  // When the call ended.
  absl::Time time;
  // The caller's name, the kind of its credentials (such as "token"), and its
  // address.
  absl::string_view principal, kind, peer;
  // What the caller asked for.
  absl::string_view rpc, project, path, destination, uid, request_id;
  // The etag of the changed object, before and after.
  absl::string_view etag_before, etag_after;
  // The result. The line includes the reason in its ErrorInfo.
  absl::Status outcome;
  absl::Duration duration;
  // Whether CheckWritable() permitted the call, so that its line may use the
  // reserve.
  bool is_reserved = false;
};

// The audit log: who changed what, and who was refused. Writes one JSON object
// per line to an append-only file.
//
// Durability. A thread writes each line some milliseconds after Write(), and
// syncs the file at most kMaxDelay later, unless the disk fails or is full.
// Therefore
// - if the server is killed, lines that are a few milliseconds old may be
//   missing; if the machine crashes, lines up to one second old;
// - no line is torn, except that such a crash may cut off the last one. The
//   next start ends that line with a newline, so it does not damage the next
//   one. Readers must skip lines that are not JSON;
// - after a failed sync, the log writes the affected lines again, to a new
//   file, so lines may appear twice, but none is missing.
//
// Trouble. While the disk is full or fails, the thread keeps retrying, and
// lines wait in a bounded queue. Once the queue is full, the log drops and
// counts further lines, so it has a gap. With `required`, CheckWritable()
// refuses changes before that happens. Refused calls are cheap, so their lines
// could displace all others. The log therefore writes at most
// kMaxUnauthenticated lines per second for UNAUTHENTICATED and kMaxDenied for
// PERMISSION_DENIED. The next line then states how many were left out before it
// ("left_out").
//
// Thread-safe. No method waits for the disk, except Open() and the destructor.
class AuditLog {
 public:
  static constexpr absl::Duration kMaxDelay = absl::Seconds(1);
  static constexpr int kMaxUnauthenticated = 10;
  static constexpr int kMaxDenied = 100;

  struct Options {
    AuditFile::Options file;
    // Memory for lines that are not yet synced.
    size_t max_queued_bytes = size_t{8} << 20;
    // Whether to refuse changes that could not be logged.
    bool required = false;
    // Called on the log's thread: with the cause when the log can no longer be
    // written, and with OK when it can be written again.
    std::function<void(const absl::Status& problem)> on_problem;
  };

  // Opens or creates the log at `path`. Returns AuditFile::Open()'s errors,
  // which are sentences for the operator.
  static absl::StatusOr<std::unique_ptr<AuditLog>> Open(const std::string& path,
                                                        Options options);
  // Writes and syncs the queued lines, with a single attempt.
  ~AuditLog();

  // With `required`, must be called before each change; without it, always
  // returns OK. Returns OK if the change may be made, because its line will fit
  // into the queue. Otherwise nothing may be changed, and this returns
  // RESOURCE_EXHAUSTED/NO_SPACE {path} if the disk is full, INTERNAL/IO_ERROR
  // {path} if it fails in another way, or UNAVAILABLE/OVERLOADED with RetryInfo
  // if it is too slow. Half of the queue is reserved for permitted changes that
  // have not ended.
  absl::Status CheckWritable() const ABSL_LOCKS_EXCLUDED(mutex_);

  // Queues a line. Shortens values longer than 256 bytes, or paths longer than
  // 4 KiB.
  void Write(const AuditRecord& record) ABSL_LOCKS_EXCLUDED(mutex_);

  struct Counts {
    // Lines that were accepted, that the full queue dropped, and that the
    // limits on refused calls left out.
    uint64_t lines = 0;
    uint64_t dropped = 0;
    uint64_t left_out = 0;
    // Failed attempts to write or sync.
    uint64_t failures = 0;
    // Memory in use.
    size_t queued_bytes = 0;
    // Whether the last attempt to write or sync succeeded.
    bool writable = true;
  };
  Counts counts() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  AuditLog(std::string path, std::unique_ptr<AuditFile> file, Options options);

  // A maximum number of lines per second.
  struct Limit {
    int most;
    absl::Duration second = -absl::InfiniteDuration();
    int lines_in_second = 0;
    uint64_t left_out = 0;
  };
  // Whether `limit` permits one more line. If so, sets `left_out` to the number
  // of lines that it has refused since the last one.
  bool MayLog(Limit& limit, uint64_t* left_out)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Run();
  // Waits for lines, the next sync, or the end. Returns true at the end.
  bool Wait() ABSL_LOCKS_EXCLUDED(mutex_);
  // Writes the queued lines. Syncs them if it is time, or if `last`.
  void WriteSome(bool last) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status SyncLines() ABSL_LOCKS_EXCLUDED(mutex_);
  // Stores the result of an attempt, and reports it if the state changed.
  void Judge(const absl::Status& result) ABSL_LOCKS_EXCLUDED(mutex_);

  const std::string path_;
  const Options options_;

  mutable absl::Mutex mutex_;
  // Lines that the thread has not taken yet.
  std::string queue_ ABSL_GUARDED_BY(mutex_);
  Counts counts_ ABSL_GUARDED_BY(mutex_);
  // The last failure, or OK.
  absl::Status problem_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  Limit unauthenticated_ ABSL_GUARDED_BY(mutex_) = {kMaxUnauthenticated};
  Limit denied_ ABSL_GUARDED_BY(mutex_) = {kMaxDenied};

  // Accessed only by the log's thread.
  const std::unique_ptr<AuditFile> file_;
  // Unsynced lines, of which the first `written_` bytes have been written.
  std::string lines_;
  size_t written_ = 0;
  // When the written bytes must be synced.
  absl::Duration sync_due_ = absl::InfiniteDuration();
  std::thread thread_;
};

}  // namespace mlops::observe

#endif  // MLOPS_SERVICE_OBSERVE_AUDIT_H_
