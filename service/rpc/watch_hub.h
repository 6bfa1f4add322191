#ifndef MLOPS_SERVICE_RPC_WATCH_HUB_H_
#define MLOPS_SERVICE_RPC_WATCH_HUB_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "grpcpp/support/slice.h"
#include "mlops/workspace/v1/workspace_service.pb.h"
#include "service/core/catalog.h"
#include "service/core/change_log.h"
#include "service/core/lease.h"
#include "service/rpc/live_set.h"
#include "service/rpc/steady_clock.h"

namespace mlops::rpc {

namespace pb = mlops::workspace::v1;

// What all watches share: one thread that wakes them when something has
// changed, and the encoded changes, which are made once for all watchers with
// the same view. Thread-safe.
class WatchHub {
 public:
  struct Options {
    // An idle watcher gets SYNCED this often.
    absl::Duration synced_interval = absl::Seconds(10);
    size_t max_watchers = 4096;
    // Memory for encoded changes. Those that are dropped are encoded again
    // when a watcher needs them.
    size_t max_encoded_bytes = size_t{8} << 20;
    // Returns the live lease on a workspace. May be null.
    std::function<std::optional<core::Lease>(const core::Workspace&)> lease_of;
    // Returns whether a workspace uses more than its quota, as far as is known.
    // May be null.
    std::function<bool(const core::Workspace&)> is_over_quota;
  };

  // One watch. Its methods are called by one thread at a time; Remove() waits
  // until they have returned.
  class Watcher {
   public:
    // Looks for new changes, and whether SYNCED is due.
    virtual void Wake() = 0;
    // Ends the watch with SHUTTING_DOWN. Called repeatedly until it has ended.
    virtual void End() = 0;

   protected:
    ~Watcher() = default;
  };

  // An encoded response. Copies share its bytes.
  class Message {
   public:
    explicit Message(const std::string& encoded);
    // The response as a message, and as a part of a batch.
    grpc::Slice alone() const {
      return field_.sub(prefix_bytes_, field_.size());
    }
    const grpc::Slice& in_batch() const { return field_; }
    size_t size() const { return field_.size(); }

   private:
    size_t prefix_bytes_;
    grpc::Slice field_;
  };

  // `catalog` and `log` must outlive this.
  WatchHub(core::Catalog* catalog, core::ChangeLog* log, Options options);
  // All watchers must have been removed.
  ~WatchHub();

  // Returns UNAVAILABLE/OVERLOADED if there are too many watchers, and
  // UNAVAILABLE/SHUTTING_DOWN after EndAll().
  absl::Status Add(Watcher* watcher) ABSL_LOCKS_EXCLUDED(mutex_);
  void Remove(Watcher* watcher) ABSL_LOCKS_EXCLUDED(mutex_);
  // Ends all watches, and refuses new ones.
  void EndAll() ABSL_LOCKS_EXCLUDED(mutex_);

  // Returns the token of the position after `sequence`.
  std::string TokenAt(
      int64_t sequence, const std::string& view,
      std::optional<std::string> listed_through = std::nullopt) const;
  // Returns the token with which a watcher gets every change from now on.
  std::string TokenNow(const std::string& view) const {
    return TokenAt(log_->last(), view);
  }

  // Return the message about `change`. FindEncoded() returns nullopt if it is
  // not encoded yet: that may take milliseconds, which must not block gRPC's
  // own threads.
  std::optional<Message> FindEncoded(const core::LoggedChange& change,
                                     const std::string& view)
      ABSL_LOCKS_EXCLUDED(mutex_);
  Message Encode(const core::LoggedChange& change, const std::string& view)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Return messages that are not shared.
  Message EncodeListed(const core::Workspace& workspace,
                       const std::string& token) const;
  Message EncodeSynced(const std::string& token) const;

  // Returns the last change that watchers who take batches may send. Later ones
  // wait for the next round, so that a batch has all of them.
  int64_t released() const { return released_.load(); }

  core::Catalog& catalog() const { return *catalog_; }
  core::ChangeLog& log() const { return *log_; }
  const Options& options() const { return options_; }
  size_t watchers() const { return watchers_.size(); }
  // Returns the memory of encoded changes, in bytes.
  size_t encoded_bytes() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // The sequence of a change and the view of its token.
  using Key = std::pair<int64_t, std::string>;

  void Run();
  // Return false once the hub is to stop.
  bool WaitForWatchers() ABSL_LOCKS_EXCLUDED(mutex_);
  bool WaitUntil(SteadyClock::time_point time) ABSL_LOCKS_EXCLUDED(mutex_);
  // Encodes the changes after `seen` for watchers without a restriction, and
  // returns the last sequence.
  int64_t EncodeNew(int64_t seen);
  // Encodes the current state of a workspace.
  std::string EncodeState(pb::Change kind, const core::Workspace& workspace,
                          const std::string& token) const;

  core::Catalog* const catalog_;
  core::ChangeLog* const log_;
  const Options options_;
  LiveSet<Watcher> watchers_;
  std::atomic<int64_t> released_;
  mutable absl::Mutex mutex_;
  absl::flat_hash_map<Key, Message> encoded_ ABSL_GUARDED_BY(mutex_);
  // The keys of encoded_, the oldest first.
  std::deque<Key> encoded_order_ ABSL_GUARDED_BY(mutex_);
  size_t encoded_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t watcher_count_ ABSL_GUARDED_BY(mutex_) = 0;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_WATCH_HUB_H_
