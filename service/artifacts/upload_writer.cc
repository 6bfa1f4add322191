#include "service/artifacts/upload_writer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/status_macros.h"
#include "service/core/errors.h"

namespace mlops::artifacts {
namespace {

constexpr size_t kRehashBytes = 1 << 20;
constexpr int64_t kWritebackBytes = 8 * kRehashBytes;
constexpr uint32_t kOwnerWrites = 0600;

}  // namespace

absl::Status UploadBusy(const WriteArgs& args) {
  return core::WorkspaceBusy(args.project.str(),
                             absl::StrCat("upload ", args.upload_id));
}

absl::Status StageWithModeOf(const absl::StatusOr<fs::FileStamp>& existing,
                             fs::File& file) {
  if (!existing.ok() || existing->type != fs::EntryType::kFile)
    return absl::OkStatus();
  return file.SetMode(existing->mode | kOwnerWrites);
}

absl::Status Staged::Reserve(int64_t size_bytes, core::Cancelled cancelled) {
  if (hold == nullptr || finished) return absl::OkStatus();
  const core::Amount added = {.file_count = 1, .size_bytes = size_bytes};
  return hold->Reserve(added - replaced, cancelled);
}

UploadWriter::~UploadWriter() {
  staged_.file.reset();
  if (!resumable()) Drop().IgnoreError();
}

absl::Status UploadWriter::Drop() {
  staged_.file.reset();
  if (staged_.name.empty()) return absl::OkStatus();
  absl::Status removed =
      RemoveIfThere(*staged_.dir, std::exchange(staged_.name, ""));
  if (resumable())
    removed.Update(RemoveIfThere(*staged_.dir, RecordName(args_.upload_id)));
  return removed;
}

absl::StatusOr<std::optional<Artifact>> UploadWriter::Discard() {
  RETURN_IF_ERROR(Drop());
  return staged_.finished;
}

absl::StatusOr<bool> UploadWriter::Rehash() {
  if (staged_.to_rehash == nullptr) return false;
  // A client that appended by the path left dirty pages: write them back while
  // they are hashed, so that the final sync is short.
  if (rehashed_bytes_ % kWritebackBytes == 0)
    staged_.file->StartWriteback(rehashed_bytes_, kWritebackBytes);
  const auto buffer = std::make_unique_for_overwrite<char[]>(kRehashBytes);
  const size_t wanted = static_cast<size_t>(
      std::min<int64_t>(staged_.offset - rehashed_bytes_, kRehashBytes));
  ASSIGN_OR_RETURN(
      const size_t got,
      staged_.to_rehash->ReadAt(rehashed_bytes_, buffer.get(), wanted));
  sha256_.Update(absl::string_view(buffer.get(), got));
  rehashed_bytes_ += static_cast<int64_t>(got);
  if (got < wanted) return UploadBusy(args_);
  if (rehashed_bytes_ == staged_.offset) staged_.to_rehash.reset();
  return staged_.to_rehash != nullptr;
}

absl::Status UploadWriter::Write(absl::Span<const absl::string_view> pieces,
                                 core::Cancelled cancelled) {
  Hash(pieces);
  return Append(pieces, cancelled);
}

absl::Status UploadWriter::Append(absl::Span<const absl::string_view> pieces,
                                  core::Cancelled cancelled) {
  if (pieces.empty()) return absl::OkStatus();
  if (staged_.finished)
    return core::FieldInvalid(
        "data", "comes after the end of an upload that is finished");
  int64_t end = staged_.offset;
  for (absl::string_view piece : pieces)
    end += static_cast<int64_t>(piece.size());
  // Reserve first, so that a refusal leaves the staged file as it is.
  RETURN_IF_ERROR(staged_.Reserve(end, cancelled));
  RETURN_IF_ERROR(staged_.file->WritePieces(pieces));
  staged_.offset = end;
  return absl::OkStatus();
}

void UploadWriter::Hash(absl::Span<const absl::string_view> pieces) {
  for (absl::string_view piece : pieces) sha256_.Update(piece);
}

absl::Status UploadWriter::CheckSha256(const std::string& actual) const {
  if (expected_sha256_.empty() || actual == expected_sha256_)
    return absl::OkStatus();
  return core::ChecksumMismatch(args_.project.str(), args_.path.shown(),
                                expected_sha256_, actual);
}

absl::Status UploadWriter::CheckStaged() const {
  if (!staged_.before) return absl::OkStatus();
  ASSIGN_OR_RETURN(const fs::FileStamp now, staged_.dir->Stat(staged_.name));
  // If this stream has written, the time has changed anyway and proves nothing.
  const bool untouched = staged_.offset > staged_.before->size_bytes ||
                         now.modify_time == staged_.before->modify_time;
  return now.inode == staged_.before->inode &&
                 now.size_bytes == staged_.offset && untouched
             ? absl::OkStatus()
             : UploadBusy(args_);
}

absl::Status UploadWriter::Seal() {
  // After a failed sync the bytes may be lost, even if a later sync succeeds.
  absl::Status synced = staged_.file->Sync();
  if (!synced.ok()) Drop().IgnoreError();
  return synced;
}

absl::Status UploadWriter::RecordContent(const std::string& sha256) {
  if (!resumable()) return absl::OkStatus();
  const auto stamp = staged_.dir->Stat(staged_.name);
  if (absl::IsNotFound(stamp.status()))
    return core::UploadNotFound(args_.project.str(), args_.upload_id);
  RETURN_IF_ERROR(stamp.status());
  // A program on this machine may have replaced the part.
  if (!staged_.record.IsOf(*stamp)) return UploadBusy(args_);
  staged_.record.content =
      UploadRecord::Content{.sha256 = sha256,
                            .size_bytes = stamp->size_bytes,
                            .modify_ns = absl::ToUnixNanos(stamp->modify_time)};
  return WriteUploadRecord(*staged_.dir, args_.upload_id, staged_.record);
}

absl::StatusOr<Artifact> UploadWriter::Finish(core::Cancelled cancelled) {
  if (staged_.finished) {
    RETURN_IF_ERROR(CheckSha256(staged_.finished->sha256));
    return *staged_.finished;
  }
  const std::string actual = sha256_.Finish();
  if (absl::Status checked = CheckSha256(actual); !checked.ok()) {
    Drop().IgnoreError();
    return checked;
  }
  // The file to be replaced may have changed since the last reservation.
  // Place() checks once more, but must not scan.
  if (staged_.hold != nullptr)
    staged_.replaced = AmountOf(tree_.Stat(args_.path));
  RETURN_IF_ERROR(staged_.Reserve(staged_.offset, cancelled));
  // Keep this order: first the bytes become durable, then the record describes
  // them, then the file gets its name. If the server is killed in between,
  // the upload can be resumed, or is found finished.
  RETURN_IF_ERROR(Seal());
  RETURN_IF_ERROR(RecordContent(actual));
  const auto placed = placer_->Place(
      tree_, *staged_.dir, staged_.name, args_.path, args_.precondition,
      [this] { return CheckStaged(); },
      {.hold = staged_.hold.get(), .staged = staged_.file.get()});
  if (!placed.ok()) {
    // If the part was renamed, its new name may not be durable. Drop
    // the record, so that the upload does not count as finished later.
    if (absl::IsNotFound(staged_.dir->Stat(staged_.name).status()))
      Drop().IgnoreError();
    // NOT_FOUND without a reason means that the staged file is missing.
    if (!absl::IsNotFound(placed.status()) ||
        !base::GetReason(placed.status()).empty())
      return placed.status();
    return core::UploadNotFound(args_.project.str(), args_.upload_id);
  }
  staged_.name.clear();
  // Releasing the claim publishes the upload as finished.
  staged_.claim.reset();
  Artifact artifact = DescribeArtifact(args_.path.shown(), *placed);
  artifact.sha256 = actual;
  return artifact;
}

}  // namespace mlops::artifacts
