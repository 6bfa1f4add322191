#ifndef MLOPS_CLIENT_CPP_TESTING_FAKE_STREAMS_H_
#define MLOPS_CLIENT_CPP_TESTING_FAKE_STREAMS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client-cpp/src/connection.h"
#include "client-cpp/testing/fake_artifacts.h"
#include "mlops/workspace/v1/workspace_service.pb.h"

namespace mlops::testing {

// Sends a file in messages of 1 MiB. Not thread-safe.
class FakeReadStream final : public internal::ReadStream {
 public:
  // Read() returns the error of `file`, if it has one.
  FakeReadStream(const workspace::v1::ReadArtifactRequest& request,
                 absl::StatusOr<FakeArtifacts::File> file);

  absl::StatusOr<bool> Read(workspace::v1::ReadArtifactResponse* head,
                            wire::Data* data) override;

 private:
  const absl::StatusOr<FakeArtifacts::File> file_;
  size_t offset_;
  const int64_t limit_;
  size_t end_ = 0;
  bool described_ = false;
};

// Receives a written file and acknowledges each message. If the stream ends
// early, keeps the data for a resumed upload, like the server. Not thread-safe.
class FakeWriteStream final : public internal::WriteStream {
 public:
  using First = workspace::v1::WriteArtifactRequest;
  // The workspace that a change is for, and its quota.
  struct Target {
    std::string uid;
    FakeArtifacts::Quota quota;
  };
  using TargetOf = std::function<absl::StatusOr<Target>(const First&)>;

  // `target_of` returns the workspace that the first message may change, or the
  // error if it may not. `still` does the same again at the end. `artifacts`,
  // and objects to which these functions refer, must outlive this object.
  FakeWriteStream(FakeArtifacts* artifacts, TargetOf target_of, TargetOf still);
  ~FakeWriteStream() override;

  bool Write(const First& head, const grpc::Slice& data) override;
  void WritesDone() override {}
  absl::StatusOr<bool> Read(
      workspace::v1::WriteArtifactResponse* response) override;

 private:
  absl::Status Begin(const First& first);
  absl::Status Finish(const std::string& sha256);
  bool Discard();

  FakeArtifacts* const artifacts_;
  const TargetOf target_of_;
  const TargetOf still_;
  bool begun_ = false;
  absl::Status status_;
  First first_;
  Target target_;
  std::string content_;
  bool unread_ = false;  // Whether there is a response to read.
  bool ended_ = false;
  std::optional<workspace::v1::Artifact> artifact_;
};

}  // namespace mlops::testing

#endif  // MLOPS_CLIENT_CPP_TESTING_FAKE_STREAMS_H_
