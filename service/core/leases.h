#ifndef MLOPS_SERVICE_CORE_LEASES_H_
#define MLOPS_SERVICE_CORE_LEASES_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "service/base/clock.h"
#include "service/core/lease.h"
#include "service/core/project_name.h"

namespace mlops::core {

inline constexpr absl::Duration kMinLeaseTtl = absl::Seconds(1);
inline constexpr absl::Duration kMaxLeaseTtl = absl::Hours(24);
inline constexpr absl::Duration kDefaultLeaseTtl = absl::Seconds(60);
inline constexpr size_t kMaxHolderBytes = 128;

// A lease as stored on disk. It has no expiry: after a restart it lasts for
// `ttl` again, because the steady clock of an earlier process means nothing and
// the wall clock may have jumped.
struct StoredLease {
  ProjectName project;
  // Uid of the workspace.
  std::string uid;
  std::string holder;
  int64_t fence = 0;
  absl::Time acquire_time;
  absl::Duration ttl;
};

// Preserves leases across restarts. Thread-safe, but two calls for one project
// must not run at once.
class LeaseStore {
 public:
  virtual ~LeaseStore() = default;

  // Returns a larger number than any earlier call has returned, including calls
  // before a restart or crash.
  virtual absl::StatusOr<int64_t> NextFence() = 0;
  // Saves the lease durably, in place of any other lease of the project.
  virtual absl::Status Save(const StoredLease& lease) = 0;
  // Removes the lease of a project durably. No-op if there is none.
  virtual absl::Status Remove(const ProjectName& project) = 0;
};

// The live leases. A lease belongs to one workspace, and does not apply to a
// later workspace of the same name. It expires by the steady clock alone. An
// expired lease no longer counts, even before EndExpired() removes it.
//
// Thread-safe, but two methods that change the leases of one project must not
// run at once. Authority's lock stripes prevent that.
class Leases {
 public:
  struct Options {
    // If null, a restart forgets all leases. Must outlive this object.
    LeaseStore* store = nullptr;
    base::Clock clock = base::SystemClock();
    base::SteadyClock steady_clock = base::SystemSteadyClock();
    // Waits until every artifact change in the project that Check() has
    // permitted is done. Acquire() calls it before it returns a new lease. May
    // be null.
    std::function<void(const ProjectName&)> await_changes;
    // Called when a lease begins or ends, but not when it is renewed. Must not
    // call this object's methods that change leases. May be null.
    std::function<void(const ProjectName&)> on_change;
    // Whether another process owns the leases. Check() then permits every
    // change, because DiskHealth refuses all of them.
    bool read_only = false;
  };

  Leases() : Leases(Options()) {}
  explicit Leases(Options options);
  Leases(const Leases&) = delete;
  Leases& operator=(const Leases&) = delete;

  // Adds a lease from an earlier process. It lasts for its whole ttl again.
  void Restore(const StoredLease& stored) ABSL_LOCKS_EXCLUDED(mutex_);

  // Returns OK if a request with `fence` may change the workspace; 0 means no
  // fence. Call it under the lock that the change is committed under. Returns
  // FAILED_PRECONDITION/LEASE_HELD if somebody holds a lease and `fence` is 0,
  // and FAILED_PRECONDITION/LEASE_LOST if `fence` is not the fence of the
  // current lease.
  absl::Status Check(const ProjectName& project, absl::string_view uid,
                     int64_t fence) const ABSL_LOCKS_EXCLUDED(mutex_);

  // Returns the live lease of a workspace. Costs one atomic load if there are
  // no leases at all.
  std::optional<Lease> Find(const ProjectName& project,
                            absl::string_view uid) const
      ABSL_LOCKS_EXCLUDED(mutex_);

  struct Acquired {
    Lease lease;
    bool renewed = false;
  };
  // Grants a lease, or renews the lease of `holder`, which keeps its fence.
  // Writes to disk only to grant a lease, or to renew it for a longer ttl than
  // the stored one. Returns FAILED_PRECONDITION/LEASE_HELD if another holder
  // has the lease, and the errors of the store.
  absl::StatusOr<Acquired> Acquire(const ProjectName& project,
                                   const std::string& uid,
                                   const std::string& holder,
                                   absl::Duration ttl)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Ends the lease of `holder` or, with `force`, of any holder. Returns whether
  // there was a lease. Returns FAILED_PRECONDITION/LEASE_HELD if another holder
  // has it, and the errors of the store.
  absl::StatusOr<bool> Release(const ProjectName& project,
                               absl::string_view uid, absl::string_view holder,
                               bool force) ABSL_LOCKS_EXCLUDED(mutex_);

  // Ends the project's lease, because its workspace was deleted.
  void End(const ProjectName& project) ABSL_LOCKS_EXCLUDED(mutex_);

  // Returns up to `max_count` projects whose leases have expired.
  std::vector<ProjectName> Expired(size_t max_count) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Removes the project's lease if it has expired.
  void EndExpired(const ProjectName& project) ABSL_LOCKS_EXCLUDED(mutex_);

  // Returns the number of leases, including expired ones that EndExpired() has
  // not removed yet.
  size_t count() const { return count_.load(std::memory_order_acquire); }

 private:
  struct Held {
    std::string uid;
    Lease lease;
    // By the steady clock.
    absl::Duration expiry;
    // The ttl of the stored copy.
    absl::Duration stored_ttl;
  };

  // Returns a copy of the project's lease if it is live and belongs to the
  // workspace `uid`. "" matches any workspace, because the uid of one with a
  // corrupt record is unknown.
  std::optional<Held> FindLive(const ProjectName& project,
                               absl::string_view uid) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status HeldError(const ProjectName& project, const Held& held,
                         bool for_change) const;
  absl::StatusOr<Acquired> Grant(const ProjectName& project, Held held,
                                 absl::Duration ttl)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Saves the lease, if there is a store.
  absl::Status Save(const ProjectName& project, const Held& held) const;
  absl::Status RemoveStored(const ProjectName& project) const;
  void SetExpiry(Held& held, absl::Duration ttl) const;
  // Extends the lease with that fence in one step, so that no other thread sees
  // it expire in between. Returns nullopt if it has expired or ended.
  std::optional<Lease> Extend(const ProjectName& project, int64_t fence,
                              absl::Duration ttl, absl::Duration stored_ttl)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Store(const ProjectName& project, Held held) ABSL_LOCKS_EXCLUDED(mutex_);
  // Returns whether there was a lease.
  bool Erase(const ProjectName& project) ABSL_LOCKS_EXCLUDED(mutex_);
  void NoteChange(const ProjectName& project) const;

  const Options options_;
  // Used only if there is no store.
  std::atomic<int64_t> last_fence_ = 0;
  std::atomic<size_t> count_ = 0;
  mutable absl::Mutex mutex_;
  absl::flat_hash_map<ProjectName, Held> held_ ABSL_GUARDED_BY(mutex_);
  // The expiry of each lease in held_.
  absl::btree_set<std::pair<absl::Duration, ProjectName>> expiries_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_LEASES_H_
