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
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "grpcpp/support/slice.h"
#include "mlops/workspace/v1/workspace_service.pb.h"
#include "service/core/catalog.h"
#include "service/core/change_log.h"
#include "service/core/lease.h"
#include "service/core/project_name.h"
#include "service/rpc/live_set.h"
#include "service/rpc/steady_clock.h"

namespace mlops::rpc {

namespace pb = mlops::workspace::v1;

// State shared by all watches: one thread that wakes them when something has
// changed, and the encoded changes. Each change is encoded once for all
// watchers with the same view. Thread-safe.
class WatchHub {
 public:
  struct Options {
    // An idle watcher gets SYNCED this often.
    absl::Duration synced_interval = absl::Seconds(10);
    size_t max_watchers = 4096;
    // Memory for encoded changes. Evicted ones are encoded again when a watcher
    // needs them.
    size_t max_encoded_bytes = size_t{8} << 20;
    // Returns the live lease on a workspace. May be null.
    std::function<std::optional<core::Lease>(const core::Workspace&)> lease_of;
    // Returns whether a workspace is known to exceed its quota. May be null.
    std::function<bool(const core::Workspace&)> is_over_quota;
  };

  // One watch. Only one thread at a time calls its methods. Remove() waits
  // until they have returned.
  class Watcher {
   public:
    // Looks for new changes, and sends SYNCED if it is due.
    virtual void Wake() = 0;
    // Ends the watch with SHUTTING_DOWN. Called repeatedly until the watch has
    // ended.
    virtual void End() = 0;

   protected:
    ~Watcher() = default;
  };

  // An encoded response. Copies share its bytes.
  class Message {
   public:
    explicit Message(const std::string& encoded);
    // The response as a message on its own, and as an element of a batch.
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
  // All watchers must have been removed before.
  ~WatchHub();

  // The projects that a watcher wants; empty means all.
  using Projects = std::vector<core::ProjectName>;

  // Wakes `watcher` when one of `projects` has changed, and about once a second
  // in any case. Returns UNAVAILABLE/OVERLOADED if there are too many watchers,
  // and UNAVAILABLE/SHUTTING_DOWN after EndAll().
  absl::Status Add(Watcher* watcher, const Projects& projects)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Ends what Add() of the same arguments has begun.
  void Remove(Watcher* watcher, const Projects& projects)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Ends all watches and refuses new ones.
  void EndAll() ABSL_LOCKS_EXCLUDED(mutex_);

  // Returns the resume token for the position after `sequence`.
  std::string TokenAt(
      int64_t sequence, const std::string& view,
      std::optional<std::string> listed_through = std::nullopt) const;
  // Returns the resume token for every change from now on.
  std::string TokenNow(const std::string& view) const {
    return TokenAt(log_->last(), view);
  }

  // Return the message about `change`. FindEncoded() returns nullopt if the
  // change is not encoded yet, because encoding may take milliseconds, which
  // must not block gRPC's own threads.
  std::optional<Message> FindEncoded(const core::LoggedChange& change,
                                     const std::string& view)
      ABSL_LOCKS_EXCLUDED(mutex_);
  Message Encode(const core::LoggedChange& change, const std::string& view)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Return messages that other watchers do not share.
  Message EncodeListed(const core::Workspace& workspace,
                       const std::string& token) const;
  Message EncodeSynced(const std::string& token) const;

  // Returns the sequence of the last change that batching watchers may send.
  // Later changes wait for the next round, so that one batch contains all of
  // them.
  int64_t released() const { return released_.load(); }

  core::Catalog& catalog() const { return *catalog_; }
  core::ChangeLog& log() const { return *log_; }
  const Options& options() const { return options_; }
  size_t watchers() const { return watchers_.size(); }
  // Returns the size of the encoded changes in bytes.
  size_t encoded_bytes() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // A change's sequence, and the view of its token.
  using Key = std::pair<int64_t, std::string>;
  using Group = absl::flat_hash_set<Watcher*>;

  // The changes for which the watchers must wake.
  struct Round {
    // The newest change.
    int64_t last = 0;
    // What has changed. Meaningless if `everybody` is set.
    absl::flat_hash_set<std::string> projects;
    // Whether all watchers must wake, whatever they want.
    bool everybody = false;
  };

  void Run();
  // Return false once the hub must stop.
  bool WaitForWatchers() ABSL_LOCKS_EXCLUDED(mutex_);
  bool WaitUntil(SteadyClock::time_point time) ABSL_LOCKS_EXCLUDED(mutex_);
  // Encodes the changes after `seen` that somebody watches, for watchers whose
  // view is not restricted.
  Round EncodeNew(int64_t seen);
  void Wake(const Round& round) ABSL_LOCKS_EXCLUDED(mutex_);
  bool IsWatched(const core::ProjectName& project) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Returns the watchers that want one of `projects`.
  std::vector<Watcher*> WatchersOf(
      const absl::flat_hash_set<std::string>& projects) const
      ABSL_LOCKS_EXCLUDED(mutex_);
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
  // Keys of encoded_, oldest first.
  std::deque<Key> encoded_order_ ABSL_GUARDED_BY(mutex_);
  size_t encoded_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t watcher_count_ ABSL_GUARDED_BY(mutex_) = 0;
  // The watchers of everything, and those of each watched project. They may
  // have left watchers_ already.
  Group of_everything_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::string, Group> of_project_ ABSL_GUARDED_BY(mutex_);
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_WATCH_HUB_H_
