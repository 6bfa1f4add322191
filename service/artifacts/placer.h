#ifndef MLOPS_SERVICE_ARTIFACTS_PLACER_H_
#define MLOPS_SERVICE_ARTIFACTS_PLACER_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "service/artifacts/claims.h"
#include "service/artifacts/relative_path.h"
#include "service/artifacts/tree.h"
#include "service/core/disk_health.h"
#include "service/core/leases.h"
#include "service/core/project_name.h"
#include "service/core/usage_ledger.h"
#include "service/fs/dir.h"

// Changes the names of files and directories in a workspace, and checks etags,
// leases and quotas at that moment.
namespace mlops::artifacts {

// The preconditions on the name that a file is about to get.
struct Precondition {
  bool create_only = false;
  // If not "", must be the etag of the file that has the name.
  std::string etag;
};

// The quota and the staged file that a change of names affects.
struct Placement {
  // Counts the change; null if the workspace has no quota.
  core::UsageLedger::Hold* hold = nullptr;
  // The open and synced file that gets the name; null if an entry is moved that
  // already counts against the quota. Place() gives it the permissions of
  // the file that it replaces, and closes it.
  fs::File* staged = nullptr;
};

// Returns what a file counts against a quota: nothing if it does not exist,
// or is not a file.
core::Amount AmountOf(const absl::StatusOr<fs::FileStamp>& stamp);

// Checks whether a file may get the name `path`; `existing` is the current
// state of that name. Returns ALREADY_EXISTS/ARTIFACT_EXISTS,
// ABORTED/ETAG_MISMATCH or FAILED_PRECONDITION/PATH_UNSUITABLE if not.
absl::Status CheckReplaceable(const ArtifactTree& tree,
                              const RelativePath& path,
                              const absl::StatusOr<fs::FileStamp>& existing,
                              const Precondition& precondition);

// Renames files and directories into place. Thread-safe.
class Placer {
 public:
  // All must outlive this. If `leases` is null, no lease prevents a change.
  Placer(const fs::Dir* base, core::DiskHealth* health,
         const core::Leases* leases, Claims* claims)
      : base_(base), health_(health), leases_(leases), claims_(claims) {}

  // Opens the parent directory of `path`, creating missing directories
  // on the way; null stands for the workspace itself. On return the names
  // of all parents are durable: they survive a power cut. Holds two
  // descriptors at a time, however deep `path` is. Errors as ArtifactTree,
  // NOT_FOUND/WORKSPACE_NOT_FOUND, and if a directory is missing those
  // of Leases::Check().
  absl::StatusOr<std::unique_ptr<fs::Dir>> MakeParents(
      const ArtifactTree& tree, const RelativePath& path);

  // Renames the entry `name` of `from` to `path`, durably, and returns the new
  // state. `check` is called right before the rename, while no other Place() or
  // Change() of the project can intervene. If both names are links to one file,
  // which rename(2) leaves unchanged, the old name is removed.
  // RESOURCE_EXHAUSTED/NO_SPACE if the workspace's quota has no room.
  //
  // Errors as CheckReplaceable() for a file, and
  //   ALREADY_EXISTS/ARTIFACT_EXISTS also if a directory that is not empty has
  //     the name;
  //   NOT_FOUND (no reason) if there is nothing to rename;
  //   NOT_FOUND/WORKSPACE_NOT_FOUND if the workspace no longer exists;
  //   ABORTED/WORKSPACE_BUSY if a parent directory is being removed;
  //   those of Leases::Check() for the permit of `tree`.
  absl::StatusOr<fs::FileStamp> Place(const ArtifactTree& tree, fs::Dir& from,
                                      absl::string_view name,
                                      const RelativePath& path,
                                      const Precondition& precondition,
                                      absl::FunctionRef<absl::Status()> check,
                                      const Placement& placement = {});

  // Calls `change` while no Place() and no other Change() of the project is
  // running. NOT_FOUND/WORKSPACE_NOT_FOUND if the workspace no longer exists;
  // the errors of Leases::Check() for the permit of `tree`.
  absl::Status Change(const ArtifactTree& tree,
                      absl::FunctionRef<absl::Status()> change);

  // Waits until every Place() and Change() of the project that is now past
  // its checks is done.
  void AwaitChanges(const core::ProjectName& project);

 private:
  // Performs the rename, with the stripe's mutex held.
  absl::StatusOr<fs::FileStamp> PlaceLocked(const ArtifactTree& tree,
                                            fs::Dir& from,
                                            absl::string_view name, fs::Dir& to,
                                            const RelativePath& path,
                                            const Precondition& precondition,
                                            const Placement& placement);
  // Returns NOT_FOUND/WORKSPACE_NOT_FOUND if the workspace's name is free or
  // now belongs to another workspace.
  absl::Status CheckCurrent(const ArtifactTree& tree) const;
  // Moves a directory that cannot be renamed, as one of an overlay's lower
  // layer, by rebuilding it from hard links.
  absl::Status Rebuild(const ArtifactTree& tree, fs::Dir& from,
                       absl::string_view name, fs::Dir& to,
                       absl::string_view to_name, fs::RenameMode mode);
  // Removes `name`, a second link to the file at `to_name`.
  absl::StatusOr<fs::FileStamp> DropOtherLink(fs::Dir& from,
                                              absl::string_view name,
                                              fs::Dir& to,
                                              absl::string_view to_name);

  // The state shared by the projects of one stripe.
  struct Stripe {
    // Held across the checks and the rename: etags and create_only
    // are guarantees between callers.
    absl::Mutex mutex;
    // The directory names known to be durable, as hashes of their parent,
    // name and identity, so that each is synced once and not for every file.
    // Cleared when a directory is moved, because it might be moved back.
    absl::flat_hash_set<size_t> durable ABSL_GUARDED_BY(mutex);
    // Number of times that a directory of these projects was moved.
    int64_t forgotten ABSL_GUARDED_BY(mutex) = 0;
  };
  Stripe& StripeOf(const core::ProjectName& project);
  static bool IsDurable(Stripe& stripe, size_t key)
      ABSL_LOCKS_EXCLUDED(stripe.mutex);
  // Remembers the names, unless a directory was moved after `forgotten` was
  // read.
  static void RememberDurable(Stripe& stripe, int64_t forgotten,
                              const std::vector<size_t>& keys)
      ABSL_LOCKS_EXCLUDED(stripe.mutex);

  const fs::Dir* const base_;
  core::DiskHealth* const health_;
  const core::Leases* const leases_;
  Claims* const claims_;
  std::array<Stripe, 64> stripes_;
};

}  // namespace mlops::artifacts

#endif  // MLOPS_SERVICE_ARTIFACTS_PLACER_H_
