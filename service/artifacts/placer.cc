#include "service/artifacts/placer.h"

#include <optional>
#include <utility>
#include <vector>

#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "proto/cpp/base/id.h"
#include "proto/cpp/base/status_macros.h"
#include "service/core/errors.h"
#include "service/core/layout.h"
#include "service/fs/move_tree.h"

namespace mlops::artifacts {
namespace {

// Per stripe.
constexpr size_t kMaxDurableNames = 1024;

// Returns the key for the name `name` of the directory `child` in the directory
// `parent`. Returns nullopt if one of them has no identity.
std::optional<size_t> NameKey(const fs::FileStamp& parent,
                              absl::string_view name,
                              const fs::FileStamp& child) {
  const auto from = fs::IdentityOf(parent), to = fs::IdentityOf(child);
  if (!from || !to) return std::nullopt;
  return absl::HashOf(*from, name, *to);
}

bool IsSameFile(const fs::FileStamp& a, const fs::FileStamp& b) {
  return a.inode == b.inode && a.device == b.device;
}

// Whether `name` in `from` and `to_name` in `to`, which both refer to one file,
// are two directory entries. In a case-insensitive directory they may be one
// entry, which must not be removed.
absl::StatusOr<bool> AreTwoEntries(const fs::Dir& from, absl::string_view name,
                                   const fs::Dir& to,
                                   absl::string_view to_name) {
  ASSIGN_OR_RETURN(const fs::FileStamp from_stamp, from.StatSelf());
  ASSIGN_OR_RETURN(const fs::FileStamp to_stamp, to.StatSelf());
  if (!IsSameFile(from_stamp, to_stamp)) return true;
  int found = 0;
  RETURN_IF_ERROR(
      from.ForEachEntry([&](absl::string_view entry, fs::EntryType) {
        if (entry == name || entry == to_name) ++found;
        return found < 2;
      }));
  return found == 2;
}

// Counts a change right before it happens: `source` gets the name that
// `existing` has.
absl::Status Count(const Placement& placement, const fs::FileStamp& source,
                   const absl::StatusOr<fs::FileStamp>& existing) {
  if (placement.hold == nullptr) return absl::OkStatus();
  core::Amount change;
  if (placement.staged != nullptr) change += AmountOf(source);
  change -= AmountOf(existing);
  return placement.hold->Place(change);
}

// Gives a staged file the permissions of the file that it is about to replace,
// durably, and closes it. It was staged with them, so they differ only if they
// have changed since, or do not let the owner write.
absl::Status CloseStaged(const Placement& placement,
                         const fs::FileStamp& source,
                         const absl::StatusOr<fs::FileStamp>& existing) {
  if (placement.staged == nullptr) return absl::OkStatus();
  if (existing.ok() && existing->type == fs::EntryType::kFile &&
      existing->mode != source.mode) {
    RETURN_IF_ERROR(placement.staged->SetMode(existing->mode));
    RETURN_IF_ERROR(placement.staged->Sync());
  }
  return placement.staged->Close();
}

}  // namespace

core::Amount AmountOf(const absl::StatusOr<fs::FileStamp>& stamp) {
  if (!stamp.ok() || stamp->type != fs::EntryType::kFile) return {};
  return {.file_count = 1, .size_bytes = stamp->size_bytes};
}

absl::Status CheckReplaceable(const ArtifactTree& tree,
                              const RelativePath& path,
                              const absl::StatusOr<fs::FileStamp>& existing,
                              const Precondition& precondition) {
  const std::string& project = tree.project().str();
  if (absl::IsNotFound(existing.status())) {
    if (precondition.etag.empty()) return absl::OkStatus();
    return core::ArtifactEtagMismatch(project, path.shown(), precondition.etag,
                                      "");
  }
  if (!existing.ok()) return tree.Error(existing.status(), path);
  if (precondition.create_only)
    return core::ArtifactExists(project, path.shown());
  RETURN_IF_ERROR(CheckSuitable(tree, path, *existing));
  if (existing->type == fs::EntryType::kDirectory)
    return core::PathUnsuitable(project, path.shown(), "is a directory");
  const std::string etag = ArtifactEtag(*existing);
  if (precondition.etag.empty() || precondition.etag == etag)
    return absl::OkStatus();
  return core::ArtifactEtagMismatch(project, path.shown(), precondition.etag,
                                    etag);
}

Placer::Stripe& Placer::StripeOf(const core::ProjectName& project) {
  return stripes_[absl::HashOf(project) % stripes_.size()];
}

absl::Status Placer::CheckCurrent(const ArtifactTree& tree) const {
  // The opened directory may have moved to the trash, where a change would
  // be lost.
  const auto named = base_->Stat(tree.project().str());
  if (named.ok() && IsSameFile(*named, tree.stamp())) return absl::OkStatus();
  // Other failures say nothing about the workspace.
  const bool gone = named.ok() || absl::IsNotFound(named.status()) ||
                    absl::IsFailedPrecondition(named.status());
  return gone ? core::WorkspaceNotFound(tree.project().str()) : named.status();
}

absl::Status Placer::Change(const ArtifactTree& tree,
                            absl::FunctionRef<absl::Status()> change) {
  absl::MutexLock lock(&StripeOf(tree.project()).mutex);
  RETURN_IF_ERROR(CheckCurrent(tree));
  // The lease may have changed since the call began, for example during
  // an upload.
  if (leases_ != nullptr) {
    const ArtifactTree::Permit& permit = tree.permit();
    RETURN_IF_ERROR(leases_->Check(tree.project(), permit.uid, permit.fence));
  }
  return change();
}

void Placer::AwaitChanges(const core::ProjectName& project) {
  // Every change holds this lock from its checks to its end.
  absl::MutexLock lock(&StripeOf(project).mutex);
}

bool Placer::IsDurable(Stripe& stripe, size_t key) {
  absl::MutexLock lock(&stripe.mutex);
  return stripe.durable.contains(key);
}

void Placer::RememberDurable(Stripe& stripe, int64_t forgotten,
                             const std::vector<size_t>& keys) {
  absl::MutexLock lock(&stripe.mutex);
  // If a directory was moved in the meantime, the sync may have been
  // for its old place.
  if (stripe.forgotten != forgotten) return;
  // Forgetting names costs only another sync.
  if (stripe.durable.size() >= kMaxDurableNames) stripe.durable.clear();
  stripe.durable.insert(keys.begin(), keys.end());
}

absl::StatusOr<std::unique_ptr<fs::Dir>> Placer::MakeParents(
    const ArtifactTree& tree, const RelativePath& path) {
  std::unique_ptr<fs::Dir> parent;
  if (path.is_top()) return parent;
  Stripe& stripe = StripeOf(tree.project());
  // Read the counter before the syncs, so that RememberDurable()
  // notices a move.
  int64_t forgotten = 0;
  {
    absl::MutexLock lock(&stripe.mutex);
    forgotten = stripe.forgotten;
  }
  std::vector<size_t> synced;
  fs::FileStamp stamp = tree.stamp();
  for (absl::string_view name : absl::StrSplit(path.parent(), '/')) {
    fs::Dir& dir = parent == nullptr ? tree.root() : *parent;
    auto child = dir.OpenDir(name);
    // A new directory is a change like any other.
    if (absl::IsNotFound(child.status())) {
      RETURN_IF_ERROR(Change(tree, [&] {
        child = OpenOrMakeDir(dir, name);
        return absl::OkStatus();
      }));
    }
    // In a workspace that is being deleted, nothing can be created;
    // report that.
    if (!child.ok()) RETURN_IF_ERROR(CheckCurrent(tree));
    if (!child.ok()) return tree.Error(child.status(), path);
    ASSIGN_OR_RETURN(const fs::FileStamp child_stamp, (*child)->StatSelf());
    // If the directory is not remembered, its creator may not have synced
    // its name.
    const std::optional<size_t> key = NameKey(stamp, name, child_stamp);
    if (!key || !IsDurable(stripe, *key)) {
      RETURN_IF_ERROR(health_->Sync(dir));
      if (key) synced.push_back(*key);
    }
    stamp = child_stamp;
    parent = *std::move(child);
  }
  if (!synced.empty()) RememberDurable(stripe, forgotten, synced);
  return parent;
}

absl::StatusOr<fs::FileStamp> Placer::DropOtherLink(fs::Dir& from,
                                                    absl::string_view name,
                                                    fs::Dir& to,
                                                    absl::string_view to_name) {
  // The remaining name may not be durable yet, so sync it before the other
  // one is removed.
  RETURN_IF_ERROR(health_->Sync(to));
  RETURN_IF_ERROR(from.RemoveFile(name));
  return to.Stat(to_name);
}

absl::Status Placer::Rebuild(const ArtifactTree& tree, fs::Dir& from,
                             absl::string_view name, fs::Dir& to,
                             absl::string_view to_name, fs::RenameMode mode) {
  ASSIGN_OR_RETURN(const auto uploads, tree.OpenUploads());
  const std::string id = base::RandomId();
  // Otherwise the sweep would take the copy for what a crash left.
  const auto claim = claims_->TryClaim(tree, id);
  return fs::MoveTree(
      {.from = from,
       .name = std::string(name),
       .to = to,
       .to_name = std::string(to_name),
       .mode = mode,
       .staging = *uploads,
       .staging_name = absl::StrCat(id, core::layout::kTempSuffix)},
      [&] { return health_->Sync(to); });
}

absl::StatusOr<fs::FileStamp> Placer::PlaceLocked(
    const ArtifactTree& tree, fs::Dir& from, absl::string_view name,
    fs::Dir& to, const RelativePath& path, const Precondition& precondition,
    const Placement& placement) {
  ASSIGN_OR_RETURN(const fs::FileStamp source, from.Stat(name));
  const auto existing = to.Stat(path.name());
  const bool onto_directory =
      existing.ok() && existing->type == fs::EntryType::kDirectory;
  // A directory may replace only an empty one, which rename(2) checks.
  if (source.type != fs::EntryType::kDirectory || !onto_directory ||
      precondition.create_only) {
    RETURN_IF_ERROR(CheckReplaceable(tree, path, existing, precondition));
  }
  // Count before the rename, because the quota may refuse it.
  RETURN_IF_ERROR(Count(placement, source, existing));
  // A directory that is moved away and back would seem durable at its old name,
  // so forget the remembered names.
  if (source.type == fs::EntryType::kDirectory) {
    Stripe& stripe = StripeOf(tree.project());
    stripe.mutex.AssertHeld();
    stripe.durable.clear();
    ++stripe.forgotten;
  }
  // rename(2) does nothing if both names are links to one file.
  if (source.type == fs::EntryType::kFile && existing.ok() &&
      IsSameFile(source, *existing)) {
    ASSIGN_OR_RETURN(const bool two_entries,
                     AreTwoEntries(from, name, to, path.name()));
    if (two_entries) return DropOtherLink(from, name, to, path.name());
  }
  // Last, so that a refusal leaves the staged file writable for its owner.
  RETURN_IF_ERROR(CloseStaged(placement, source, existing));
  const fs::RenameMode mode = precondition.create_only
                                  ? fs::RenameMode::kNoReplace
                                  : fs::RenameMode::kReplace;
  absl::Status renamed = from.Rename(name, to, path.name(), mode);
  if (fs::IsCrossDevice(renamed) && source.type == fs::EntryType::kDirectory)
    renamed = Rebuild(tree, from, name, to, path.name(), mode);
  if (absl::IsAlreadyExists(renamed))
    return core::ArtifactExists(tree.project().str(), path.shown());
  // The source still exists, so a directory of the destination is missing.
  if (absl::IsNotFound(renamed) && from.Stat(name).ok()) {
    return core::WorkspaceBusy(tree.project().str(),
                               "a parent directory is being removed");
  }
  // Do not convert this error: the source is missing, not `path`.
  if (absl::IsNotFound(renamed)) return renamed;
  if (!renamed.ok()) return tree.Error(renamed, path);
  return to.Stat(path.name());
}

absl::StatusOr<fs::FileStamp> Placer::Place(
    const ArtifactTree& tree, fs::Dir& from, absl::string_view name,
    const RelativePath& path, const Precondition& precondition,
    absl::FunctionRef<absl::Status()> check, const Placement& placement) {
  RETURN_IF_ERROR(health_->Check());
  // The parents are made durable before the rename. Otherwise a power cut right
  // after it could lose the file together with a new directory.
  ASSIGN_OR_RETURN(const auto parent, MakeParents(tree, path));
  fs::Dir& to = parent == nullptr ? tree.root() : *parent;
  absl::StatusOr<fs::FileStamp> placed;
  RETURN_IF_ERROR(Change(tree, [&] {
    RETURN_IF_ERROR(check());
    placed = PlaceLocked(tree, from, name, to, path, precondition, placement);
    if (placed.ok() && placement.hold != nullptr) placement.hold->Placed();
    return placed.status();
  }));
  RETURN_IF_ERROR(health_->Sync(to));
  return placed;
}

}  // namespace mlops::artifacts
