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
#include "service/artifacts/relative_path.h"
#include "service/artifacts/tree.h"
#include "service/core/disk_health.h"
#include "service/core/project_name.h"
#include "service/fs/dir.h"

// Gives files and directories of a workspace their names, and takes them away.
namespace mlops::core {

// What must hold of a name that a file is to get.
struct Precondition {
  bool create_only = false;
  std::string etag;  // If not "", of the file that has the name.
};

// Whether a file may get the name `path`, at which there is `existing` now.
// ALREADY_EXISTS/ARTIFACT_EXISTS, ABORTED/ETAG_MISMATCH,
// FAILED_PRECONDITION/PATH_UNSUITABLE if not.
absl::Status CheckReplaceable(const ArtifactTree& tree,
                              const RelativePath& path,
                              const absl::StatusOr<fs::FileStamp>& existing,
                              const Precondition& precondition);

// Puts things into their places. Thread-safe.
class Placer {
 public:
  // Both must outlive this.
  Placer(const fs::Dir* base, DiskHealth* health)
      : base_(base), health_(health) {}

  // Opens the directory that is to hold `path`, and makes those on the way that
  // are missing; null stands for the workspace itself. Their names are durable
  // then: a power cut takes none of them. Holds two descriptors at a time,
  // however deep `path` is. Errors as ArtifactTree, and WORKSPACE_NOT_FOUND.
  absl::StatusOr<std::unique_ptr<fs::Dir>> MakeParents(
      const ArtifactTree& tree, const RelativePath& path);

  // Renames what is `name` in `from` to `path`, durably. `check` is called
  // right before, while no other Place() or Change() of the project can come
  // between. If both names are links to one file, which rename(2) leaves alone,
  // the first name goes. Returns the state of what was placed. Errors as
  // CheckReplaceable() for a file; ALREADY_EXISTS/ARTIFACT_EXISTS also if a
  // directory that is not empty has the name; NOT_FOUND (no reason) if there is
  // nothing to be renamed; NOT_FOUND/WORKSPACE_NOT_FOUND if the workspace is
  // not there any more; ABORTED/WORKSPACE_BUSY if a directory on the way is
  // being removed.
  absl::StatusOr<fs::FileStamp> Place(const ArtifactTree& tree, fs::Dir& from,
                                      absl::string_view name,
                                      const RelativePath& path,
                                      const Precondition& precondition,
                                      absl::FunctionRef<absl::Status()> check);

  // Calls `change` while no Place() or other Change() of the project runs.
  absl::Status Change(const ArtifactTree& tree,
                      absl::FunctionRef<absl::Status()> change);

 private:
  absl::StatusOr<fs::FileStamp> PlaceLocked(const ArtifactTree& tree,
                                            fs::Dir& from,
                                            absl::string_view name, fs::Dir& to,
                                            const RelativePath& path,
                                            const Precondition& precondition);
  // NOT_FOUND/WORKSPACE_NOT_FOUND if the workspace's name is free, or another's
  // by now.
  absl::Status CheckCurrent(const ArtifactTree& tree) const;
  absl::StatusOr<fs::FileStamp> DropOtherLink(fs::Dir& from,
                                              absl::string_view name,
                                              fs::Dir& to,
                                              absl::string_view to_name);

  // What some of the projects share.
  struct Stripe {
    // Held across a few looks and a rename: etags and create_only are promises
    // between callers.
    absl::Mutex mutex;
    // The names of directories that were made durable, by hashes of where they
    // are and what they name, so that it is done once and not for each file.
    // Forgotten when a directory is moved, which might be moved back.
    absl::flat_hash_set<size_t> durable ABSL_GUARDED_BY(mutex);
    int64_t forgotten ABSL_GUARDED_BY(mutex) = 0;  // How often that was.
  };
  Stripe& StripeOf(const ProjectName& project);
  static bool IsDurable(Stripe& stripe, size_t key)
      ABSL_LOCKS_EXCLUDED(stripe.mutex);
  // Remembers the names unless directories were moved since `forgotten` was
  // looked at.
  static void RememberDurable(Stripe& stripe, int64_t forgotten,
                              const std::vector<size_t>& keys)
      ABSL_LOCKS_EXCLUDED(stripe.mutex);

  const fs::Dir* const base_;
  DiskHealth* const health_;
  std::array<Stripe, 64> stripes_;
};

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_ARTIFACTS_PLACER_H_
