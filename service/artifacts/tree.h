#ifndef MLOPS_SERVICE_ARTIFACTS_TREE_H_
#define MLOPS_SERVICE_ARTIFACTS_TREE_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "service/artifacts/relative_path.h"
#include "service/core/disk_health.h"
#include "service/core/project_name.h"
#include "service/fs/dir.h"

// The files of one workspace: finding them, telling what they are, and putting them in their places.
namespace mlops::core {

// A file or directory of a workspace.
struct Artifact {
  std::string path;  // As on the wire.
  bool directory = false;
  int64_t size_bytes = 0;  // Of a file, as the next two.
  std::string sha256;      // "" if it was not asked for.
  std::string etag;
  absl::Time modify_time;
};

// What a file's stamp is to clients: changes with its inode, size and times.
std::string ArtifactEtag(const fs::FileStamp& stamp);

// `shown` is the path on the wire.
Artifact DescribeArtifact(std::string shown, const fs::FileStamp& stamp);

// What must hold of a name that a file is to get.
struct Precondition {
  bool create_only = false;
  std::string etag;  // If not "", of the file that has the name.
};

// The opened directory of one workspace. It stays that workspace's, also when another gets its name. Thread-safe as
// fs::Dir is.
//
// All methods return errors of the contract: ARTIFACT_NOT_FOUND for a name that is missing, PATH_UNSUITABLE with the
// path as on the wire, NO_SPACE and IO_ERROR as fs::Dir.
class ArtifactTree {
 public:
  // NOT_FOUND/WORKSPACE_NOT_FOUND if there is no such directory.
  static absl::StatusOr<ArtifactTree> Open(const fs::Dir& base, const ProjectName& project);

  const ProjectName& project() const { return project_; }
  fs::Dir& root() const { return *root_; }

  // The directory that `path`, which must not be one of the five, is in.
  absl::StatusOr<std::unique_ptr<fs::Dir>> OpenParent(const RelativePath& path) const;
  // The state of what has the name itself, a symbolic link as such.
  absl::StatusOr<fs::FileStamp> Stat(const RelativePath& path) const;

  // For those who read. These follow symbolic links, in `path` as at its end, that are relative and lead to something
  // in one of the five directories; PATH_UNSUITABLE if one is not, or is of a loop. StatTarget() never tells of a link,
  // OpenFile() needs a regular file, OpenDir() a directory.
  absl::StatusOr<fs::FileStamp> StatTarget(const RelativePath& path) const;
  absl::StatusOr<std::unique_ptr<fs::FileReader>> OpenFile(const RelativePath& path) const;
  absl::StatusOr<std::unique_ptr<fs::Dir>> OpenDir(const RelativePath& path) const;

  // A directory, opened, and the name by which it was found in the one before it, or in the workspace.
  struct Step {
    std::string name;
    std::unique_ptr<fs::Dir> dir;
  };
  using Chain = std::vector<Step>;
  // Where what comes behind the chain is: its last directory, or the workspace's.
  fs::Dir& EndOf(const Chain& chain) const { return chain.empty() ? *root_ : *chain.back().dir; }
  // Opens the directories on the way to `path`, from the workspace's on, making those that are missing.
  absl::StatusOr<Chain> MakeParents(const RelativePath& path) const;

  // The workspace's hidden directory for what is not finished, which is made if missing.
  absl::StatusOr<std::unique_ptr<fs::Dir>> OpenUploads() const;

  // Gives an error of the file system about `path`, which knows only the server's paths, its place in the contract.
  absl::Status Error(const absl::Status& status, const RelativePath& path) const;

 private:
  ArtifactTree(ProjectName project, std::unique_ptr<fs::Dir> root)
      : project_(std::move(project)), root_(std::move(root)) {}

  absl::StatusOr<fs::FileStamp> StatOnDisk(absl::string_view on_disk) const;
  // Where `path` leads to, as on disk, by way of symbolic links; nothing in it was one when it was looked at.
  absl::StatusOr<std::string> Resolve(const RelativePath& path) const;
  // Makes `call` with the path as on disk and, where links are in its way, with what it leads to.
  template <typename Call>
  auto Following(const RelativePath& path, Call call) const -> decltype(call(absl::string_view()));

  ProjectName project_;
  std::unique_ptr<fs::Dir> root_;
};

// PATH_UNSUITABLE unless `stamp`, of what is at `path`, is a file's or a directory's.
absl::Status CheckSuitable(const ArtifactTree& tree, const RelativePath& path, const fs::FileStamp& stamp);

// Whether a file may get the name `path`, at which there is `existing` now.
// ALREADY_EXISTS/ARTIFACT_EXISTS, ABORTED/ETAG_MISMATCH, FAILED_PRECONDITION/PATH_UNSUITABLE if not.
absl::Status CheckReplaceable(const ArtifactTree& tree, const RelativePath& path,
                              const absl::StatusOr<fs::FileStamp>& existing, const Precondition& precondition);

// Puts things into their places. Thread-safe.
class Placer {
 public:
  // Both must outlive this.
  Placer(const fs::Dir* base, DiskHealth* health) : base_(base), health_(health) {}

  // Opens the directories on the way to `path`, and makes those that are missing. Their names are durable then: a power
  // cut takes none of them. Errors as ArtifactTree::MakeParents(), and WORKSPACE_NOT_FOUND.
  absl::StatusOr<ArtifactTree::Chain> MakeParents(const ArtifactTree& tree, const RelativePath& path);

  // Renames what is `name` in `from` to `path`, durably. `check` is called right before, while no other Place() or
  // Change() of the project can come between. Returns the state of what was placed.
  // Errors as CheckReplaceable() for a file; ALREADY_EXISTS/ARTIFACT_EXISTS also if a directory that is not empty has
  // the name; NOT_FOUND (no reason) if there is nothing to be renamed; NOT_FOUND/WORKSPACE_NOT_FOUND if the workspace
  // is not there any more; ABORTED/WORKSPACE_BUSY if a directory on the way is being removed.
  absl::StatusOr<fs::FileStamp> Place(const ArtifactTree& tree, fs::Dir& from, absl::string_view name,
                                      const RelativePath& path, const Precondition& precondition,
                                      absl::FunctionRef<absl::Status()> check);

  // Calls `change` while no Place() or other Change() of the project runs.
  absl::Status Change(const ArtifactTree& tree, absl::FunctionRef<absl::Status()> change);

 private:
  absl::StatusOr<fs::FileStamp> PlaceLocked(const ArtifactTree& tree, fs::Dir& from, absl::string_view name,
                                            fs::Dir& to, const RelativePath& path, const Precondition& precondition);
  absl::Status CheckCurrent(const ArtifactTree& tree) const;

  // What some of the projects share.
  struct Stripe {
    // Held across a few looks and a rename: etags and create_only are promises between callers.
    absl::Mutex mutex;
    // The names of directories that were made durable, by hashes of where they are and what they name, so that it is
    // done once and not for each file. Forgotten when a directory is moved, which might be moved back.
    absl::flat_hash_set<size_t> durable ABSL_GUARDED_BY(mutex);
    int64_t forgotten ABSL_GUARDED_BY(mutex) = 0;  // How often that was.
  };
  Stripe& StripeOf(const ProjectName& project);

  const fs::Dir* const base_;
  DiskHealth* const health_;
  std::array<Stripe, 64> stripes_;
};

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_ARTIFACTS_TREE_H_
