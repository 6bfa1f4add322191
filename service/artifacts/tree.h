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

// The files of one workspace: finding them, and describing what they are.
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

// The opened directory of one workspace. It stays that workspace's, also when
// another gets its name. Thread-safe as fs::Dir is.
//
// All methods return errors of the contract: ARTIFACT_NOT_FOUND for a name that
// is missing, PATH_UNSUITABLE with the path as on the wire, NO_SPACE and
// IO_ERROR as fs::Dir.
class ArtifactTree {
 public:
  // NOT_FOUND/WORKSPACE_NOT_FOUND if there is no such directory.
  static absl::StatusOr<ArtifactTree> Open(const fs::Dir& base,
                                           const ProjectName& project);

  const ProjectName& project() const { return project_; }
  // The state of its directory when it was opened.
  const fs::FileStamp& stamp() const { return stamp_; }
  fs::Dir& root() const { return *root_; }

  // The directory that `path`, which must not be one of the five, is in.
  absl::StatusOr<std::unique_ptr<fs::Dir>> OpenParent(
      const RelativePath& path) const;
  // The state of what has the name itself, a symbolic link as such.
  absl::StatusOr<fs::FileStamp> Stat(const RelativePath& path) const;

  // For readers. These follow relative symbolic links, in `path` and at its
  // end, that stay inside the five directories; PATH_UNSUITABLE if a link leads
  // elsewhere or into a loop, or if one of the five directories is itself a
  // link, which nothing follows. A link to nothing is ARTIFACT_NOT_FOUND with a
  // message that says so. StatTarget() never returns the state of a link,
  // OpenFile() needs a regular file, OpenDir() a directory.
  absl::StatusOr<fs::FileStamp> StatTarget(const RelativePath& path) const;
  absl::StatusOr<std::unique_ptr<fs::FileReader>> OpenFile(
      const RelativePath& path) const;
  absl::StatusOr<std::unique_ptr<fs::Dir>> OpenDir(
      const RelativePath& path) const;

  // The workspace's hidden directory for what is not finished, which is made if
  // missing.
  absl::StatusOr<std::unique_ptr<fs::Dir>> OpenUploads() const;

  // Gives an error of the file system about `path`, which knows only the
  // server's paths, its place in the contract.
  absl::Status Error(const absl::Status& status,
                     const RelativePath& path) const;

 private:
  ArtifactTree(ProjectName project, std::unique_ptr<fs::Dir> root,
               const fs::FileStamp& stamp)
      : project_(std::move(project)), root_(std::move(root)), stamp_(stamp) {}

  absl::StatusOr<fs::FileStamp> StatOnDisk(absl::string_view on_disk) const;
  // Where `path` leads to, as on disk, by way of symbolic links; nothing in it
  // was one when it was looked at.
  absl::StatusOr<std::string> Resolve(const RelativePath& path) const;
  // Makes `call` with the path as on disk and, where links are in its way, with
  // what it leads to.
  template <typename Call>
  auto Following(const RelativePath& path, Call call) const
      -> decltype(call(absl::string_view()));

  ProjectName project_;
  std::unique_ptr<fs::Dir> root_;
  fs::FileStamp stamp_;
};

// Opens the directory `name` in `dir`, making it if it is missing. Errors as
// fs::Dir.
absl::StatusOr<std::unique_ptr<fs::Dir>> OpenOrMakeDir(fs::Dir& dir,
                                                       absl::string_view name);

// PATH_UNSUITABLE unless `stamp`, of what is at `path`, is a file's or a
// directory's.
absl::Status CheckSuitable(const ArtifactTree& tree, const RelativePath& path,
                           const fs::FileStamp& stamp);

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_ARTIFACTS_TREE_H_
