#include "service/artifacts/reader.h"

#include <algorithm>
#include <utility>

#include "proto/cpp/base/status_macros.h"
#include "service/core/errors.h"

namespace mlops::artifacts {

absl::StatusOr<OpenedArtifact> OpenArtifact(const ArtifactTree& tree,
                                            const RelativePath& path) {
  ASSIGN_OR_RETURN(auto file, tree.OpenFile(path));
  auto stamp = file->Stat();
  if (!stamp.ok()) return tree.Error(stamp.status(), path);
  return OpenedArtifact{.project = tree.project(),
                        .file = std::move(file),
                        .stamp = *stamp,
                        .artifact = DescribeArtifact(path.shown(), *stamp)};
}

ArtifactReader::ArtifactReader(OpenedArtifact opened)
    : opened_(std::move(opened)), end_(opened_.stamp.size_bytes) {}

ArtifactReader::ArtifactReader(OpenedArtifact opened, int64_t offset,
                               int64_t size)
    : opened_(std::move(opened)), offset_(offset), end_(offset + size) {}

absl::Status ArtifactReader::Changed() const {
  const auto now = opened_.file->Stat();
  return core::ArtifactEtagMismatch(
      opened_.project.str(), opened_.artifact.path, opened_.artifact.etag,
      now.ok() ? ArtifactEtag(*now) : "");
}

absl::Status ArtifactReader::CheckUnchanged() const {
  ASSIGN_OR_RETURN(const fs::FileStamp now, opened_.file->Stat());
  // ctime is too strict: it also changes when the file loses its name,
  // which does not affect the content.
  const bool appended = now.size_bytes > opened_.stamp.size_bytes;
  return appended || now.modify_time == opened_.stamp.modify_time
             ? absl::OkStatus()
             : Changed();
}

absl::Status ArtifactReader::Advance(int64_t bytes) {
  offset_ += bytes;
  return remaining_bytes() == 0 ? CheckUnchanged() : absl::OkStatus();
}

absl::StatusOr<size_t> ArtifactReader::Read(char* buffer, size_t size) {
  const size_t wanted = static_cast<size_t>(
      std::min<int64_t>(remaining_bytes(), static_cast<int64_t>(size)));
  ASSIGN_OR_RETURN(const size_t got,
                   opened_.file->ReadAt(offset_, buffer, wanted));
  // The file was truncated after it was opened.
  if (got < wanted) return Changed();
  RETURN_IF_ERROR(Advance(static_cast<int64_t>(got)));
  return got;
}

absl::Status ArtifactReader::CopyTo(fs::File& to, int64_t size) {
  const int64_t wanted = std::min(remaining_bytes(), size);
  ASSIGN_OR_RETURN(const int64_t copied,
                   to.CopyFrom(*opened_.file, offset_, wanted));
  // The file was truncated after it was opened.
  if (copied < wanted) return Changed();
  return Advance(copied);
}

}  // namespace mlops::artifacts
