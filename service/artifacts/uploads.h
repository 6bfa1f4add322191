#ifndef MLOPS_SERVICE_ARTIFACTS_UPLOADS_H_
#define MLOPS_SERVICE_ARTIFACTS_UPLOADS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "service/artifacts/checksum_cache.h"
#include "service/artifacts/claims.h"
#include "service/artifacts/placer.h"
#include "service/artifacts/tree.h"
#include "service/artifacts/upload_writer.h"
#include "service/base/clock.h"
#include "service/core/disk_health.h"
#include "service/fs/dir.h"

namespace mlops::core {

struct UploadState {
  std::string path;  // As on the wire.
  int64_t offset = 0;
  absl::Time expire_time;
  std::optional<Artifact> artifact;  // Once it is finished.
  std::string staged_path;           // In the workspace, of what can be gone on with; else "", as the etag.
  std::string staged_etag;
};

struct UploadOptions {
  absl::Duration part_ttl = absl::Hours(24);     // How long what came is kept after its last byte.
  absl::Duration finished_ttl = absl::Hours(1);  // How long a finished upload is remembered.
  base::Clock clock = base::SystemClock();       // Must tell the file system's time.
  std::string boot_id = fs::BootId();
  std::shared_ptr<DiskHealth> health = std::make_shared<DiskHealth>();  // Of the disk below the base.
};

// Files on their way into a workspace, staged in its hidden directory. One that has an id is the file `<id>.part`, with
// `<id>.json` beside it, and can be written on after a restart of the server; after one of the machine, which may have
// lost any part of what was not synced, it begins anew. Thread-safe.
class Uploads {
 public:
  // Both must outlive this.
  Uploads(Placer* placer, ChecksumCache* checksums, UploadOptions options);

  // Errors as WriteArtifact's, of what can be told before the first byte.
  absl::StatusOr<std::unique_ptr<UploadWriter>> Open(ArtifactTree tree, const WriteArgs& args);

  // Drops what is staged for an upload that has an id, and whose offset and preconditions count for nothing. One that
  // is finished stays and is returned; of one that is not there nothing is to be done. INVALID_ARGUMENT/FIELD_INVALID
  // if it is one to another path; ABORTED/WORKSPACE_BUSY while a stream writes it.
  absl::StatusOr<std::optional<Artifact>> Discard(const ArtifactTree& tree, const WriteArgs& args);

  // NOT_FOUND/UPLOAD_NOT_FOUND if there is none.
  absl::StatusOr<UploadState> Get(const ArtifactTree& tree, const std::string& upload_id);

  // Removes up to about `max_entries` entries of what has expired, or was left by a crash, in one workspace. True if
  // there is more to do.
  absl::StatusOr<bool> Sweep(const ArtifactTree& tree, int64_t max_entries);

  // Claims a name in the hidden directory; null if this process uses it already.
  std::unique_ptr<Claims::Claim> TryClaim(const ArtifactTree& tree, absl::string_view id);

 private:
  // What stands in `<id>.json`.
  struct About {
    std::string path;  // As on the wire.
    std::string boot_id;
    uint64_t inode = 0;  // Of the part, and so of the file it becomes.
  };
  static std::optional<About> ReadAbout(const fs::Dir& dir, absl::string_view id);
  // Whether the part is the file that the upload began with, and has all that was written to it.
  bool IsWhole(const About& about, const fs::FileStamp& part) const;

  // What there is of an upload.
  struct Found {
    std::optional<About> about;
    std::optional<fs::FileStamp> part;
    std::optional<Artifact> finished;
  };
  // INVALID_ARGUMENT/FIELD_INVALID if it is one to another path.
  absl::StatusOr<Found> Find(const ArtifactTree& tree, const fs::Dir& dir, const WriteArgs& args);

  absl::Status OpenResumable(const ArtifactTree& tree, const WriteArgs& args, Staged& staged);
  // Makes a new part; what is left of an earlier one goes.
  absl::Status BeginPart(const WriteArgs& args, Staged& staged);
  // What a finished upload became, if that is still there.
  absl::StatusOr<Artifact> Finished(const ArtifactTree& tree, const std::string& id, const About& about);
  // Whether the entry is to be swept unless it is in use; sets `id` to its name without the suffix.
  bool IsDue(const fs::Dir& dir, absl::string_view name, std::string* id) const;
  bool IsExpired(const fs::FileStamp& stamp, absl::Duration ttl) const;

  Placer* const placer_;
  ChecksumCache* const checksums_;
  UploadOptions options_;  // Constant once constructed.
  Claims claims_;
};

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_ARTIFACTS_UPLOADS_H_
