#ifndef MLOPS_SERVICE_RPC_WATCH_STREAM_H_
#define MLOPS_SERVICE_RPC_WATCH_STREAM_H_

#include <algorithm>
#include <cstddef>
#include <deque>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/slice.h"
#include "service/core/authority.h"
#include "service/core/change_log.h"
#include "service/rpc/call.h"
#include "service/rpc/steady_clock.h"
#include "service/rpc/stream.h"
#include "service/rpc/watch_hub.h"

namespace mlops::rpc {

// Memory that each watch needs besides its unread messages, and that each
// project in its request needs, here and in the hub.
inline constexpr size_t kWatchBytes = 8 << 10;
inline constexpr size_t kWatchedProjectBytes = 512;

// Returns the memory for the unread messages of all streams, given a limit of
// `max_watchers` watches.
inline size_t UnreadBytes(int max_watchers) {
  return (size_t{32} << 20) +
         kWatchBytes * static_cast<size_t>(std::max(max_watchers, 4096));
}

// One WatchWorkspaces call: a cursor in the change log. It first lists all
// workspaces, a page at a time. Then it sends one change whenever no write is
// outstanding, or with `batched` all changes that are ready. It holds one page,
// or one message, which it shares with other watchers. The threads of the hub
// and of gRPC read and write changes; listing a page, or encoding a change,
// takes a task on the worker pool.
class WatchStream final
    : public Stream<grpc::ServerWriteReactor<grpc::ByteBuffer>>,
      private WatchHub::Watcher {
 public:
  WatchStream(WatchHub* hub, Calls* calls, grpc::CallbackServerContext* context,
              const grpc::ByteBuffer& request);

 private:
  // Messages to write, and the position of the list after them.
  struct Page {
    std::deque<WatchHub::Message> messages;
    size_t bytes = 0;
    std::string listed_through;
    bool last = false;
  };

  absl::Status Parse(const grpc::ByteBuffer& request);
  absl::Status ParseProjects(const pb::WatchWorkspacesRequest& request);
  absl::Status ParseToken(const std::string& token);
  // Whether the watcher wants, and may see, a project.
  bool Wants(absl::string_view project) const;

  Step Next() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Written() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Cancelled() override ABSL_LOCKS_EXCLUDED(mutex_);
  void Release() override;
  void Work() override ABSL_LOCKS_EXCLUDED(mutex_);
  // Implement WatchHub::Watcher.
  void Wake() override ABSL_LOCKS_EXCLUDED(mutex_);
  void End() override ABSL_LOCKS_EXCLUDED(mutex_);

  // Moves the cursor to the next wanted change. Sets `end_` if the log has
  // already dropped it.
  void Seek(int max_changes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Take the responses of the next message: those that are ready, or the next
  // changes as far as they are encoded.
  std::vector<grpc::Slice> TakeReady() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::vector<grpc::Slice> TakeEncoded() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whether next_ may be sent now.
  bool IsReleased() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Returns a response in the form that this client wants.
  grpc::Slice Form(const WatchHub::Message& message) const {
    return batched_ ? message.in_batch() : message.alone();
  }
  // Returns a step that writes a message. Ends the call if unread messages take
  // too much memory.
  Step Write(const std::vector<grpc::Slice>& parts)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool IsSyncedDue() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Returns an error if the caller may no longer see what this watch shows.
  absl::Status CheckStillAllowed();

  // The tasks of Work().
  void ListSome(int64_t cursor, const std::string& listed_through);
  void EncodeChange(const core::LoggedChange& change);
  void SeekFar();

  // Fill the next page from all workspaces, or from the wanted projects.
  absl::Status FillFromCatalog(int64_t cursor, Page& page);
  absl::Status FillFromProjects(int64_t cursor, Page& page);
  absl::Status AddUnreadable(int64_t cursor, Page& page);
  void Add(const core::Workspace& workspace, int64_t cursor, Page& page);

  WatchHub* const hub_;
  // Set by the constructor. Sorted; empty means all projects.
  std::vector<core::ProjectName> projects_;
  absl::flat_hash_set<std::string> project_set_;
  bool batched_ = false;
  core::Sight sight_;
  std::string view_;
  // Memory besides the unread messages.
  size_t own_bytes_ = kWatchBytes;
  bool added_ = false;
  // Accessed only by the hub's thread.
  SteadyClock::time_point checked_ = SteadyClock::now();

  // The client knows everything that it wants up to this sequence, or will once
  // ready_ is written.
  int64_t cursor_ ABSL_GUARDED_BY(mutex_) = 0;
  // The next change to send. Null if there is none, or if `far_` is set.
  core::LoggedChangePtr next_ ABSL_GUARDED_BY(mutex_);
  // Whether Seek() stopped at its limit before it reached the next change to
  // send.
  bool far_ ABSL_GUARDED_BY(mutex_) = false;
  // Whether workspaces remain to be listed, after listed_through_.
  bool listing_ ABSL_GUARDED_BY(mutex_) = false;
  std::string listed_through_ ABSL_GUARDED_BY(mutex_);
  std::deque<WatchHub::Message> ready_ ABSL_GUARDED_BY(mutex_);
  size_t ready_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  // Whether the client has received SYNCED once.
  bool synced_ ABSL_GUARDED_BY(mutex_) = false;
  SteadyClock::time_point last_write_ ABSL_GUARDED_BY(mutex_) =
      SteadyClock::now();
  // When End() was first called.
  std::optional<SteadyClock::time_point> ending_ ABSL_GUARDED_BY(mutex_);
  // Accounts for own_bytes_, ready_ and the message being written.
  ByteBudget::Hold memory_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_WATCH_STREAM_H_
