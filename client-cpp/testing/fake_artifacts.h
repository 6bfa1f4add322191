#ifndef MLOPS_CLIENT_CPP_TESTING_FAKE_ARTIFACTS_H_
#define MLOPS_CLIENT_CPP_TESTING_FAKE_ARTIFACTS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "mlops/workspace/v1/workspace_service.pb.h"

namespace mlops::testing {

// Keeps the files of any number of workspaces in memory. The uid identifies the
// workspace; only errors use the project in a request. Methods return the
// errors of the contract. Thread-safe.
class FakeArtifacts {
 public:
  using Content = std::shared_ptr<const std::string>;

  struct File {
    workspace::v1::Artifact artifact;
    Content content;  // Null if it is a directory.
  };

  // A number of regular files and their total size.
  struct Amount {
    int64_t file_count = 0;
    int64_t size_bytes = 0;
  };
  // The limits of a workspace, and its usage.
  struct Quota {
    std::optional<int64_t> max_size_bytes;
    std::optional<int64_t> max_file_count;
    // The usage to assume instead of counting the files.
    std::optional<Amount> used;
  };

  absl::StatusOr<workspace::v1::Artifact> Get(
      const std::string& uid, const workspace::v1::GetArtifactRequest& request);
  absl::StatusOr<workspace::v1::ListArtifactsResponse> List(
      const std::string& uid,
      const workspace::v1::ListArtifactsRequest& request);
  absl::StatusOr<workspace::v1::DeleteArtifactResponse> Delete(
      const std::string& uid,
      const workspace::v1::DeleteArtifactRequest& request);
  absl::StatusOr<workspace::v1::Artifact> Move(
      const std::string& uid,
      const workspace::v1::MoveArtifactRequest& request);
  // Returns the error of CheckRoom() if the copy exceeds the quota.
  absl::StatusOr<workspace::v1::Artifact> Copy(
      const std::string& uid, const Quota& quota,
      const workspace::v1::CopyArtifactRequest& request);
  absl::StatusOr<workspace::v1::Artifact> MakeDirectory(
      const std::string& uid,
      const workspace::v1::MakeDirectoryRequest& request);
  absl::StatusOr<workspace::v1::Upload> GetUpload(
      const std::string& uid, const workspace::v1::GetUploadRequest& request);

  // Returns the usage of a workspace, keyed by the name of the directory.
  std::map<std::string, Amount> Usage(const std::string& uid);

  // Returns RESOURCE_EXHAUSTED/NO_SPACE {quota, limit, used, wanted} if a file
  // of `size_bytes` at `path`, which may replace one, would exceed the quota.
  absl::Status CheckRoom(const std::string& uid, const std::string& project,
                         const Quota& quota, const std::string& path,
                         int64_t size_bytes);
  // Like CheckRoom(), as if all files of the workspace were added to an empty
  // one.
  absl::Status CheckRoomForAll(const std::string& uid,
                               const std::string& project, const Quota& quota);

  // Copies the files of one workspace to another, new one. Copies only
  // `directories`, or all if it is empty.
  void Clone(const std::string& from_uid, const std::string& to_uid,
             const std::vector<std::string>& directories);

  // Starts a ReadArtifact call. Returns the file if the requested range is
  // valid.
  absl::StatusOr<File> OpenForRead(
      const std::string& uid,
      const workspace::v1::ReadArtifactRequest& request);

  // Starts a WriteArtifact call with the message `first`. Returns the data of
  // the upload so far, to which the call appends.
  absl::StatusOr<std::string> OpenForWrite(
      const std::string& uid, const workspace::v1::WriteArtifactRequest& first);
  // Stores the data of an interrupted upload. A no-op without an upload id.
  void Keep(const std::string& uid,
            const workspace::v1::WriteArtifactRequest& first,
            const std::string& content);
  // Verifies `sha256`, unless it is empty, and makes the file visible. Marks
  // the upload as finished if it has an id. Returns the error of CheckRoom() if
  // the file exceeds the quota.
  absl::StatusOr<workspace::v1::Artifact> Finish(
      const std::string& uid, const Quota& quota,
      const workspace::v1::WriteArtifactRequest& first, std::string content,
      const std::string& sha256);
  // Drops the data of an unfinished upload. Keeps a finished upload and returns
  // its file.
  std::optional<workspace::v1::Artifact> Discard(const std::string& uid,
                                                 const std::string& upload_id);

 private:
  // Sorts '/' before all other characters, so that a directory comes right
  // before its contents.
  struct Before {
    bool operator()(const std::string& a, const std::string& b) const;
  };
  struct Upload {
    workspace::v1::Upload state;
    std::string content;
  };
  struct Tree {
    Tree();
    std::map<std::string, File, Before> files;  // By path.
    std::map<std::string, Upload> uploads;      // By id.
  };

  // Returns the file or directory at `path`.
  absl::StatusOr<File*> Find(Tree& tree, const std::string& project,
                             const std::string& path)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Returns the file at `path`, after comparing `etag` unless it is empty.
  absl::StatusOr<File*> FindFile(Tree& tree, const std::string& project,
                                 const std::string& path,
                                 const std::string& etag)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static Amount Total(const Tree& tree);
  static absl::Status CheckRoomIn(const Tree& tree, const std::string& project,
                                  const Quota& quota, const std::string& path,
                                  int64_t size_bytes);
  // Creates the parent directories of `path`. Returns an error if one of them
  // is a file, or if `create_only` is true and `path` exists.
  absl::Status MakeWay(Tree& tree, const std::string& project,
                       const std::string& path, bool create_only)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Returns an error unless a write that starts with `first` may create or
  // replace its file. Creates the parent directories.
  absl::Status CheckReplaceable(
      Tree& tree, const workspace::v1::WriteArtifactRequest& first)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Creates or replaces the file at `path`, with a new etag.
  const workspace::v1::Artifact& Put(Tree& tree, const std::string& path,
                                     Content content)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  absl::Mutex mutex_;
  std::map<std::string, Tree> trees_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_etag_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace mlops::testing

#endif  // MLOPS_CLIENT_CPP_TESTING_FAKE_ARTIFACTS_H_
