#ifndef MLOPS_CLIENT_CPP_TESTING_FAKE_ARTIFACTS_H_
#define MLOPS_CLIENT_CPP_TESTING_FAKE_ARTIFACTS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "mlops/workspace/v1/workspace_service.pb.h"

namespace mlops::testing {

// Files in memory, of any number of workspaces: each known by its uid. Requests
// have the project for errors alone. Errors as the contract's. Thread-safe.
class FakeArtifacts {
 public:
  using Content = std::shared_ptr<const std::string>;

  struct File {
    workspace::v1::Artifact artifact;
    Content content;  // Null if it is a directory.
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
  absl::StatusOr<workspace::v1::Artifact> Copy(
      const std::string& uid,
      const workspace::v1::CopyArtifactRequest& request);
  absl::StatusOr<workspace::v1::Artifact> MakeDirectory(
      const std::string& uid,
      const workspace::v1::MakeDirectoryRequest& request);
  absl::StatusOr<workspace::v1::Upload> GetUpload(
      const std::string& uid, const workspace::v1::GetUploadRequest& request);

  // What ReadArtifact begins with: the file, if its range is one.
  absl::StatusOr<File> OpenForRead(
      const std::string& uid,
      const workspace::v1::ReadArtifactRequest& request);

  // What a stream of WriteArtifact that begins with `first` has to go on from.
  absl::StatusOr<std::string> OpenForWrite(
      const std::string& uid, const workspace::v1::WriteArtifactRequest& first);
  // Keeps what came for an upload that has an id.
  void Keep(const std::string& uid,
            const workspace::v1::WriteArtifactRequest& first,
            const std::string& content);
  absl::StatusOr<workspace::v1::Artifact> Finish(
      const std::string& uid, const workspace::v1::WriteArtifactRequest& first,
      std::string content, const std::string& sha256);
  // Drops what was kept for an upload. One that is finished stays, and is
  // returned.
  std::optional<workspace::v1::Artifact> Discard(const std::string& uid,
                                                 const std::string& upload_id);

 private:
  // '/' before all else: a directory stands right before what is in it.
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

  absl::StatusOr<File*> Find(Tree& tree, const std::string& project,
                             const std::string& path)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<File*> FindFile(Tree& tree, const std::string& project,
                                 const std::string& path,
                                 const std::string& etag)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Makes the directories on the way to `path`. Errors if what is there may not
  // be replaced by a file.
  absl::Status MakeWay(Tree& tree, const std::string& project,
                       const std::string& path, bool create_only)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckReplaceable(
      Tree& tree, const workspace::v1::WriteArtifactRequest& first)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  const workspace::v1::Artifact& Put(Tree& tree, const std::string& path,
                                     Content content)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  absl::Mutex mutex_;
  std::map<std::string, Tree> trees_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_etag_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace mlops::testing

#endif  // MLOPS_CLIENT_CPP_TESTING_FAKE_ARTIFACTS_H_
