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
#include "service/core/usage.h"
#include "service/core/usage_ledger.h"
#include "service/fs/dir.h"

namespace mlops::artifacts {

struct WriteArgs {
  core::ProjectName project;
  RelativePath path;
  std::string upload_id;  // "" if an unfinished upload is not kept.
  int64_t offset = 0;
  Precondition precondition;
  int64_t fence = 0;
};

// State of an upload when a stream opens it: the file to append to,
// or the artifact if the upload is finished.
struct Staged {
  std::unique_ptr<Claims::Claim> claim;  // On the upload.
  std::unique_ptr<fs::Dir> dir;          // The hidden directory.
  // Name of the file in `dir`; "" once there is nothing left to remove.
  std::string name;
  std::unique_ptr<fs::File> file;
  int64_t offset = 0;  // Size of `file`.
  // Reads the bytes that an earlier stream staged, to continue the checksum.
  // `before` is the state of the file when this stream opened it.
  std::unique_ptr<fs::FileReader> to_rehash;
  std::optional<fs::FileStamp> before;
  UploadRecord record;  // Unused without an upload id.
  // Reserves room in the quota; null if the workspace has none.
  std::unique_ptr<core::UsageLedger::Hold> hold;
  // Usage of the file to be replaced when this stream last looked.
  core::Amount replaced;

  // Reserves room in the quota for a file of `size_bytes`. No-op if the upload
  // is finished.
  absl::Status Reserve(int64_t size_bytes, core::Cancelled cancelled);
  std::optional<Artifact> finished;
};

// Writes the file of one stream. Destroying it removes what it has staged
// unless the upload can be resumed. Not thread-safe.
class UploadWriter {
 public:
  // `placer` must outlive this.
  UploadWriter(Placer* placer, ArtifactTree tree, WriteArgs args, Staged staged)
      : placer_(placer),
        tree_(std::move(tree)),
        args_(std::move(args)),
        staged_(std::move(staged)) {}
  ~UploadWriter();

  // Number of bytes staged so far.
  int64_t offset() const { return staged_.offset; }
  const WriteArgs& args() const { return args_; }

  // Hashes a chunk of the bytes that an earlier stream staged. Call until it
  // returns false, before the first write. Returns ABORTED/WORKSPACE_BUSY if
  // the staged file became shorter.
  absl::StatusOr<bool> Rehash();

  // Declares the checksum of the whole file: 64 lower-case digits.
  void ExpectSha256(std::string sha256) {
    expected_sha256_ = std::move(sha256);
  }

  // Appends the pieces. Returns RESOURCE_EXHAUSTED/NO_SPACE or
  // INTERNAL/IO_ERROR if writing fails; the writer can then only be destroyed.
  // Returns INVALID_ARGUMENT/FIELD_INVALID if the upload is finished. Writes
  // nothing if the quota has no room. Polls `cancelled` while it determines
  // whether there is room.
  absl::Status Write(absl::Span<const absl::string_view> pieces,
                     core::Cancelled cancelled = core::NeverCancelled);

  // The two halves of Write(), which may run concurrently. Every piece needs
  // both.
  absl::Status Append(absl::Span<const absl::string_view> pieces,
                      core::Cancelled cancelled = core::NeverCancelled);
  void Hash(absl::Span<const absl::string_view> pieces);

  // Makes the file visible and durable, with the permissions of the file that
  // it replaces. Idempotent for a finished upload, whose checksum is compared.
  // The writer can then only be destroyed. Returns ABORTED/WORKSPACE_BUSY
  // if someone else changed the staged file, and RESOURCE_EXHAUSTED/NO_SPACE
  // if the quota has no room.
  absl::StatusOr<Artifact> Finish(
      core::Cancelled cancelled = core::NeverCancelled);

  // Removes the staged file, even if the upload can be resumed. A finished
  // upload stays and is returned. The writer can then only be destroyed.
  absl::StatusOr<std::optional<Artifact>> Discard();

 private:
  bool resumable() const { return !args_.upload_id.empty(); }
  // Removes the staged file. If that fails, a sweep removes it later.
  absl::Status Drop();
  absl::Status CheckSha256(const std::string& actual) const;
  // Syncs the staged file.
  absl::Status Seal();
  // Records the content that the artifact will have.
  absl::Status RecordContent(const std::string& sha256);
  // Returns an error unless the staged file is still the one that was hashed:
  // clients on the same machine may write to it.
  absl::Status CheckStaged() const;

  Placer* const placer_;
  const ArtifactTree tree_;
  const WriteArgs args_;
  Staged staged_;
  int64_t rehashed_bytes_ = 0;
  base::Sha256 sha256_;
  std::string expected_sha256_;
};

// Returns ABORTED/WORKSPACE_BUSY: someone else is writing to the upload.
absl::Status UploadBusy(const WriteArgs& args);

// Gives a new staged file the permissions of the file that it will replace, if
// any, so that no additional users can read it. Its owner can always write it.
absl::Status StageWithModeOf(const absl::StatusOr<fs::FileStamp>& existing,
                             fs::File& file);

}  // namespace mlops::artifacts

#endif  // MLOPS_SERVICE_ARTIFACTS_UPLOAD_WRITER_H_
