#ifndef MLOPS_SERVICE_ARTIFACTS_UPLOAD_WRITER_H_
#define MLOPS_SERVICE_ARTIFACTS_UPLOAD_WRITER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "proto/cpp/base/sha256.h"
#include "service/artifacts/claims.h"
#include "service/artifacts/placer.h"
#include "service/artifacts/tree.h"
#include "service/artifacts/upload_record.h"
#include "service/fs/dir.h"

namespace mlops::core {

struct WriteArgs {
  ProjectName project;
  RelativePath path;
  std::string upload_id;  // "": what is not finished is not kept.
  int64_t offset = 0;
  Precondition precondition;
};

// What a stream finds of its upload: the file that it appends to, or the
// artifact that the upload has become already.
struct Staged {
  std::unique_ptr<Claims::Claim> claim;  // On the upload.
  std::unique_ptr<fs::Dir> dir;          // The hidden directory.
  // Of the file in it; "" once there is nothing to be removed any more.
  std::string name;
  std::unique_ptr<fs::File> file;
  int64_t offset = 0;  // Its size.
  // If it was begun by an earlier stream: reads the file, whose state was
  // `before`, to continue the checksum.
  std::unique_ptr<fs::FileReader> to_rehash;
  std::optional<fs::FileStamp> before;
  UploadRecord record;  // Of an upload that has an id.
  std::optional<Artifact> finished;
};

// One stream that writes a file. Not thread-safe. Destroying it removes what
// nobody can resume.
class UploadWriter {
 public:
  // `placer` must outlive this.
  UploadWriter(Placer* placer, ArtifactTree tree, WriteArgs args, Staged staged)
      : placer_(placer),
        tree_(std::move(tree)),
        args_(std::move(args)),
        staged_(std::move(staged)) {}
  ~UploadWriter();

  // The size of the upload so far.
  int64_t offset() const { return staged_.offset; }
  const WriteArgs& args() const { return args_; }

  // Reads some more of what was staged before this stream, whose checksum has
  // to be continued. To be called until it returns false, before anything is
  // written. ABORTED/WORKSPACE_BUSY if the staged file became shorter.
  absl::StatusOr<bool> Rehash();

  // Declares the checksum of the whole; 64 lower-case digits.
  void ExpectSha256(std::string sha256) {
    expected_sha256_ = std::move(sha256);
  }

  // Appends the pieces. RESOURCE_EXHAUSTED/NO_SPACE, INTERNAL/IO_ERROR if that
  // fails; then nothing may be called any more. INVALID_ARGUMENT/FIELD_INVALID
  // if the upload is finished.
  absl::Status Write(absl::Span<const absl::string_view> pieces);

  // The two halves of Write(), which may run on two threads at once: the second
  // is to be called for whatever the first is called for.
  absl::Status Append(absl::Span<const absl::string_view> pieces);
  void Hash(absl::Span<const absl::string_view> pieces);

  // Makes the file visible, durably, with the permissions of the file that it
  // replaces. An upload that was finished before is answered again, its
  // checksum compared. Nothing may be called afterwards. ABORTED/WORKSPACE_BUSY
  // if what was staged before this stream is not what was hashed any more.
  absl::StatusOr<Artifact> Finish();

  // Removes what was staged, to be resumed or not. An upload that was finished
  // before stays and is returned. Nothing may be called afterwards.
  absl::StatusOr<std::optional<Artifact>> Discard();

 private:
  bool resumable() const { return !args_.upload_id.empty(); }
  // Removes what was staged. What stays after a failure is swept.
  absl::Status Drop();
  absl::Status CheckSha256(const std::string& actual) const;
  // Makes the staged file complete and durable, and closes it.
  absl::Status Seal();
  // Writes down what the upload is about to become.
  absl::Status RecordContent(const std::string& sha256);
  // Whether what is staged is still what was hashed, though others may write
  // there, too.
  absl::Status CheckStaged() const;

  Placer* const placer_;
  const ArtifactTree tree_;
  const WriteArgs args_;
  Staged staged_;
  int64_t rehashed_bytes_ = 0;
  base::Sha256 sha256_;
  std::string expected_sha256_;
};

// ABORTED/WORKSPACE_BUSY: another writes to the upload.
absl::Status UploadBusy(const WriteArgs& args);

// Gives a new staged file the permissions of the file that it is to replace, if
// there is one, so that nobody can read it meanwhile who could not read that.
// Its owner can write it all the same.
absl::Status StageWithModeOf(const absl::StatusOr<fs::FileStamp>& existing,
                             fs::File& file);

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_ARTIFACTS_UPLOAD_WRITER_H_
