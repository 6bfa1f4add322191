#ifndef MLOPS_SERVICE_ARTIFACTS_TREE_H_
#define MLOPS_SERVICE_ARTIFACTS_TREE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "service/artifacts/relative_path.h"
#include "service/core/project_name.h"
#include "service/fs/dir.h"

// Finds and describes the files of one workspace.
namespace mlops::artifacts {

// A file or directory of a workspace.
struct Artifact {
  // The path as on the wire.
  std::string path;
  bool directory = false;
  // 0 for a directory, whose checksum and etag are "".
  int64_t size_bytes = 0;
  // "" unless it was requested.
  std::string sha256;
  std::string etag;
  absl::Time modify_time;
};

// Returns the etag that clients see for a file's stamp. It changes with the
// inode, size and times.
std::string ArtifactEtag(const fs::FileStamp& stamp);

// Describes an artifact; `shown` is its path on the wire.
Artifact DescribeArtifact(std::string shown, const fs::FileStamp& stamp);

// The opened directory of one workspace. It keeps referring to that workspace
// even if another one gets its name. As thread-safe as fs::Dir.
//
// All methods return errors of the contract: ARTIFACT_NOT_FOUND for a missing
// name, PATH_UNSUITABLE with the path as on the wire, and NO_SPACE and
// IO_ERROR as fs::Dir.
class ArtifactTree {
 public:
  // Returns NOT_FOUND/WORKSPACE_NOT_FOUND if the directory does not exist.
  static absl::StatusOr<ArtifactTree> Open(const fs::Dir& base,
                                           const core::ProjectName& project);

  const core::ProjectName& project() const { return project_; }
  // The state of the directory when it was opened.
  const fs::FileStamp& stamp() const { return stamp_; }
  fs::Dir& root() const { return *root_; }

  // The lease under which the caller changes the workspace; Placer checks it.
  struct Permit {
    std::string uid;    // Of the workspace.
    int64_t fence = 0;  // 0 if the caller has no lease.
  };
  const Permit& permit() const { return permit_; }
  void set_permit(Permit permit) { permit_ = std::move(permit); }

  // Opens the parent directory of `path`, which must not be one of the five
  // directories.
  absl::StatusOr<std::unique_ptr<fs::Dir>> OpenParent(
      const RelativePath& path) const;
  // Returns the state of the entry itself, without following a symbolic link.
  absl::StatusOr<fs::FileStamp> Stat(const RelativePath& path) const;
  // Does the same with the errors of fs::Dir, which cost less than those of
  // the contract: a new file is expected to be missing. Error() converts them.
  absl::StatusOr<fs::FileStamp> StatOnDisk(absl::string_view on_disk) const;

  // For reads. These methods follow relative symbolic links in `path`,
  // including its last name, that stay inside the five directories.
  // PATH_UNSUITABLE if a link leads elsewhere or into a loop, or if one
  // of the five directories is itself a link, which is never followed.
  // ARTIFACT_NOT_FOUND, with a message that says so, if a link is broken.
  // StatTarget() never returns the state of a link, OpenFile() requires
  // a regular file, and OpenDir() a directory.
  absl::StatusOr<fs::FileStamp> StatTarget(const RelativePath& path) const;
  absl::StatusOr<std::unique_ptr<fs::FileReader>> OpenFile(
      const RelativePath& path) const;
  absl::StatusOr<std::unique_ptr<fs::Dir>> OpenDir(
      const RelativePath& path) const;

  // Opens the workspace's hidden directory for unfinished files,
  // creating it if missing.
  absl::StatusOr<std::unique_ptr<fs::Dir>> OpenUploads() const;

  // Converts an error of fs::Dir, which knows only the server's paths,
  // to an error of the contract about `path`.
  absl::Status Error(const absl::Status& status,
                     const RelativePath& path) const;

 private:
  ArtifactTree(core::ProjectName project, std::unique_ptr<fs::Dir> root,
               const fs::FileStamp& stamp)
      : project_(std::move(project)), root_(std::move(root)), stamp_(stamp) {}

  // Returns the path on disk that `path` leads to through symbolic links.
  // No part of the result was a link when it was resolved.
  absl::StatusOr<std::string> Resolve(const RelativePath& path) const;
  // Calls `call` with the path on disk and, if links prevent that,
  // with the path that they lead to.
  template <typename Call>
  auto Following(const RelativePath& path, Call call) const
      -> decltype(call(absl::string_view()));

  core::ProjectName project_;
  std::unique_ptr<fs::Dir> root_;
  fs::FileStamp stamp_;
  Permit permit_;
};

// Opens the directory `name` in `dir`, creating it if it is missing.
// Errors as fs::Dir.
absl::StatusOr<std::unique_ptr<fs::Dir>> OpenOrMakeDir(fs::Dir& dir,
                                                       absl::string_view name);

// Returns PATH_UNSUITABLE unless `stamp`, the state at `path`,
// is that of a file or a directory.
absl::Status CheckSuitable(const ArtifactTree& tree, const RelativePath& path,
                           const fs::FileStamp& stamp);

}  // namespace mlops::artifacts

#endif  // MLOPS_SERVICE_ARTIFACTS_TREE_H_
