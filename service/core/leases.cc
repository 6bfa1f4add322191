#include "service/core/leases.h"

#include <algorithm>
#include <utility>

#include "proto/cpp/base/status_macros.h"
#include "service/core/errors.h"
#include "service/core/iso_time.h"

namespace mlops::core {

Leases::Leases(Options options) : options_(std::move(options)) {}

// --- The table ---------------------------------------------------------------

void Leases::Store(const ProjectName& project, Held held) {
  absl::MutexLock lock(&mutex_);
  // An earlier lease may still be in the table, if EndExpired() has not run.
  const auto found = held_.find(project);
  if (found != held_.end()) expiries_.erase({found->second.expiry, project});
  expiries_.emplace(held.expiry, project);
  held_.insert_or_assign(project, std::move(held));
  count_.store(held_.size(), std::memory_order_release);
}

std::optional<Lease> Leases::Extend(const ProjectName& project, int64_t fence,
                                    absl::Duration ttl,
                                    absl::Duration stored_ttl) {
  absl::MutexLock lock(&mutex_);
  const auto found = held_.find(project);
  if (found == held_.end()) return std::nullopt;
  Held& held = found->second;
  if (held.lease.fence != fence || held.expiry <= options_.steady_clock())
    return std::nullopt;
  // The expiry is part of the set's key, so take it out before changing it.
  expiries_.erase({held.expiry, project});
  SetExpiry(held, ttl);
  expiries_.emplace(held.expiry, project);
  held.stored_ttl = stored_ttl;
  return held.lease;
}

bool Leases::Erase(const ProjectName& project) {
  absl::MutexLock lock(&mutex_);
  const auto found = held_.find(project);
  if (found == held_.end()) return false;
  expiries_.erase({found->second.expiry, project});
  held_.erase(found);
  count_.store(held_.size(), std::memory_order_release);
  return true;
}

std::optional<Leases::Held> Leases::FindLive(const ProjectName& project,
                                             absl::string_view uid) const {
  if (count() == 0) return std::nullopt;
  absl::ReaderMutexLock lock(&mutex_);
  const auto found = held_.find(project);
  if (found == held_.end()) return std::nullopt;
  const Held& held = found->second;
  if (!uid.empty() && held.uid != uid) return std::nullopt;
  if (held.expiry <= options_.steady_clock()) return std::nullopt;
  return held;
}

void Leases::SetExpiry(Held& held, absl::Duration ttl) const {
  held.expiry = options_.steady_clock() + ttl;
  held.lease.expire_time = WholeMicros(options_.clock() + ttl);
}

void Leases::NoteChange(const ProjectName& project) const {
  if (options_.on_change) options_.on_change(project);
}

// --- The store ---------------------------------------------------------------

absl::Status Leases::Save(const ProjectName& project, const Held& held) const {
  if (options_.store == nullptr) return absl::OkStatus();
  return options_.store->Save({.project = project,
                               .uid = held.uid,
                               .holder = held.lease.holder,
                               .fence = held.lease.fence,
                               .acquire_time = held.lease.acquire_time,
                               .ttl = held.stored_ttl});
}

absl::Status Leases::RemoveStored(const ProjectName& project) const {
  return options_.store == nullptr ? absl::OkStatus()
                                   : options_.store->Remove(project);
}

void Leases::Restore(const StoredLease& stored) {
  Held held{.uid = stored.uid,
            .lease = {.holder = stored.holder,
                      .fence = stored.fence,
                      .acquire_time = stored.acquire_time},
            .stored_ttl = stored.ttl};
  SetExpiry(held, std::clamp(stored.ttl, kMinLeaseTtl, kMaxLeaseTtl));
  Store(stored.project, std::move(held));
}

// --- Requests ----------------------------------------------------------------

absl::Status Leases::HeldError(const ProjectName& project, const Held& held,
                               bool for_change) const {
  // The lease may have expired since the caller looked, but a retry delay must
  // be positive.
  const absl::Duration rest = held.expiry - options_.steady_clock();
  return LeaseHeld(project.str(), held.lease.holder, held.lease.expire_time,
                   std::max(rest, absl::Milliseconds(1)), for_change);
}

absl::Status Leases::Check(const ProjectName& project, absl::string_view uid,
                           int64_t fence) const {
  if (options_.read_only) return absl::OkStatus();
  const std::optional<Held> held = FindLive(project, uid);
  // Without a lease, only requests without a fence may change the workspace: a
  // fence then belongs to a lease that was lost.
  const int64_t current = held ? held->lease.fence : 0;
  if (fence == current) return absl::OkStatus();
  if (fence == 0) return HeldError(project, *held, /*for_change=*/true);
  return LeaseLost(project.str(), fence, current);
}

std::optional<Lease> Leases::Find(const ProjectName& project,
                                  absl::string_view uid) const {
  std::optional<Held> held = FindLive(project, uid);
  if (!held) return std::nullopt;
  return std::move(held->lease);
}

absl::StatusOr<Leases::Acquired> Leases::Acquire(const ProjectName& project,
                                                 const std::string& uid,
                                                 const std::string& holder,
                                                 absl::Duration ttl) {
  std::optional<Held> held = FindLive(project, uid);
  if (held && held->lease.holder != holder)
    return HeldError(project, *held, /*for_change=*/false);
  if (held) {
    // A restart must not shorten the lease, so save a longer ttl first. Other
    // renewals cost no I/O.
    if (ttl > held->stored_ttl) {
      held->stored_ttl = ttl;
      RETURN_IF_ERROR(Save(project, *held));
    }
    // The lease may have expired during the save. It then needs a new fence,
    // because others may have changed the workspace since.
    std::optional<Lease> extended =
        Extend(project, held->lease.fence, ttl, held->stored_ttl);
    if (extended)
      return Acquired{.lease = *std::move(extended), .renewed = true};
  }
  return Grant(project, {.uid = uid, .lease = {.holder = holder}}, ttl);
}

absl::StatusOr<Leases::Acquired> Leases::Grant(const ProjectName& project,
                                               Held held, absl::Duration ttl) {
  if (options_.store == nullptr) {
    held.lease.fence = ++last_fence_;
  } else {
    ASSIGN_OR_RETURN(held.lease.fence, options_.store->NextFence());
  }
  held.lease.acquire_time = WholeMicros(options_.clock());
  held.stored_ttl = ttl;
  // Save before granting: a lease that a client relies on must survive a crash.
  // The ttl starts after the save, which may take long.
  RETURN_IF_ERROR(Save(project, held));
  SetExpiry(held, ttl);
  // From here on, Check() refuses every other fence. Wait for the changes that
  // it has permitted before, because the caller then relies on the lease.
  Store(project, held);
  if (options_.await_changes) options_.await_changes(project);
  NoteChange(project);
  return Acquired{.lease = std::move(held.lease)};
}

absl::StatusOr<bool> Leases::Release(const ProjectName& project,
                                     absl::string_view uid,
                                     absl::string_view holder, bool force) {
  const std::optional<Held> held = FindLive(project, uid);
  if (!held) {
    // A read-only server knows no leases, but the server that writes to the
    // base may have one. Let the store refuse, instead of denying the lease.
    if (options_.read_only) RETURN_IF_ERROR(RemoveStored(project));
    return false;
  }
  if (!force && held->lease.holder != holder)
    return HeldError(project, *held, /*for_change=*/false);
  RETURN_IF_ERROR(RemoveStored(project));
  Erase(project);
  NoteChange(project);
  return true;
}

void Leases::End(const ProjectName& project) {
  if (count() == 0 || !Erase(project)) return;
  // Best effort: a stored lease that survives belongs to the uid of a workspace
  // that no longer exists.
  RemoveStored(project).IgnoreError();
}

std::vector<ProjectName> Leases::Expired(size_t max_count) const {
  std::vector<ProjectName> projects;
  if (count() == 0) return projects;
  absl::ReaderMutexLock lock(&mutex_);
  const absl::Duration now = options_.steady_clock();
  // The set is sorted by expiry, so stop at the first live lease.
  for (const auto& [expiry, project] : expiries_) {
    if (expiry > now || projects.size() == max_count) break;
    projects.push_back(project);
  }
  return projects;
}

void Leases::EndExpired(const ProjectName& project) {
  // The holder may have renewed it since Expired() returned it.
  {
    absl::ReaderMutexLock lock(&mutex_);
    const auto found = held_.find(project);
    if (found == held_.end() || found->second.expiry > options_.steady_clock())
      return;
  }
  Erase(project);
  // Best effort: a stored lease that survives expires again after a restart.
  RemoveStored(project).IgnoreError();
  NoteChange(project);
}

}  // namespace mlops::core
