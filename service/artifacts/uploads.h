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
#include "service/artifacts/claims.h"
#include "service/artifacts/expiry_clock.h"
#include "service/artifacts/placer.h"
#include "service/artifacts/tree.h"
#include "service/artifacts/upload_record.h"
#include "service/artifacts/upload_writer.h"
#include "service/base/clock.h"
#include "service/core/disk_health.h"
#include "service/fs/dir.h"

namespace mlops::core {

struct UploadState {
  std::string path;  // As on the wire.
  int64_t offset = 0;
  absl::Time expire_time;
  // Once it is finished, and as durable as it was acknowledged to be.
  std::optional<Artifact> artifact;
  // In the workspace, of what can be gone on with; else "", as the etag.
  std::string staged_path;
  std::string staged_etag;
};

struct UploadOptions {
  // How long what came is kept after its last byte.
  absl::Duration part_ttl = absl::Hours(24);
  // How long a finished upload is remembered.
  absl::Duration finished_ttl = absl::Hours(1);
  // Must tell the file system's time.
  base::Clock clock = base::SystemClock();
  base::SteadyClock steady_clock = base::SystemSteadyClock();
  std::string boot_id = fs::BootId();
  // Of the disk below the base.
  std::shared_ptr<DiskHealth> health = std::make_shared<DiskHealth>();
};

// Files on their way into a workspace, staged in its hidden directory. One that
// has an id is the file `<id>.part`, with
// `<id>.json` beside it, and can be resumed after a restart of the server;
// after one of the machine, which may have lost any part of what was not
// synced, it begins anew. An upload is finished once its artifact is durable,
// and is known to be for a while after that. Thread-safe.
class Uploads {
 public:
  // `placer` must outlive this.
  Uploads(Placer* placer, const UploadOptions& options);

  // Errors as WriteArtifact's, of what can be told before the first byte.
  absl::StatusOr<std::unique_ptr<UploadWriter>> Open(ArtifactTree tree,
                                                     const WriteArgs& args);

  // Drops what is staged for an upload that has an id, whatever its offset and
  // preconditions. A finished one stays and is returned; a missing one is no
  // error. INVALID_ARGUMENT/FIELD_INVALID if it is an upload to another path;
  // ABORTED/WORKSPACE_BUSY while a stream writes it.
  absl::StatusOr<std::optional<Artifact>> Discard(const ArtifactTree& tree,
                                                  const WriteArgs& args);

  // NOT_FOUND/UPLOAD_NOT_FOUND if there is none.
  absl::StatusOr<UploadState> Get(const ArtifactTree& tree,
                                  const std::string& upload_id);

  struct Swept {
    int64_t entry_count = 0;
    bool more = false;  // Whether there is more to remove now.
  };
  // Removes up to about `max_entries` entries of what has expired, or was left
  // by a crash, in one workspace.
  absl::StatusOr<Swept> Sweep(const ArtifactTree& tree, int64_t max_entries);

  // Claims a name in the hidden directory; null if this process uses it
  // already. `tree` must outlive the claim.
  std::unique_ptr<Claims::Claim> TryClaim(const ArtifactTree& tree,
                                          absl::string_view id);

 private:
  // Whether the part is the file that the upload began with, and has all that
  // was written to it.
  bool IsWhole(const UploadRecord& record, const fs::FileStamp& part) const;

  // What there is of an upload.
  struct Found {
    std::optional<UploadRecord> record;
    std::optional<fs::FileStamp> part;
    std::optional<Artifact> finished;
  };
  // To be called by the one who has claimed the upload.
  // INVALID_ARGUMENT/FIELD_INVALID if it is one to another path.
  absl::StatusOr<Found> Find(const ArtifactTree& tree, const fs::Dir& dir,
                             const WriteArgs& args);

  // `existing` is the state of what has the artifact's name now.
  absl::Status OpenResumable(const ArtifactTree& tree, const WriteArgs& args,
                             const absl::StatusOr<fs::FileStamp>& existing,
                             Staged& staged);
  // Makes a new part; what is left of an earlier one goes.
  absl::Status BeginPart(const WriteArgs& args,
                         const absl::StatusOr<fs::FileStamp>& existing,
                         Staged& staged);
  // The artifact that an upload without a part has become; nullopt if its file
  // is not the one at the path any more. Whether it is durable is another
  // question.
  absl::StatusOr<std::optional<Artifact>> FindFinished(
      const ArtifactTree& tree, const UploadRecord& record) const;
  absl::StatusOr<UploadState> GetFinished(const ArtifactTree& tree,
                                          const fs::Dir& dir,
                                          const std::string& upload_id,
                                          const UploadRecord& record);
  // Makes it durable that `record` is finished: the server may have been killed
  // between the rename and the sync.
  absl::Status SyncFinished(const ArtifactTree& tree,
                            const UploadRecord& record) const;

  // Removes up to about `max_entries` entries of artifacts to be removed that
  // had no room in the hidden directory.
  absl::StatusOr<Swept> SweepRoot(const ArtifactTree& tree,
                                  int64_t max_entries);
  // Whether the entry is to be swept unless it is in use; sets `id` to its name
  // without the suffix. Nothing is due for its age unless `may_expire`.
  bool IsDue(const fs::Dir& dir, absl::string_view name, bool may_expire,
             std::string* id) const;
  bool IsExpired(const fs::FileStamp& stamp, absl::Duration ttl) const;

  Placer* const placer_;
  const std::shared_ptr<DiskHealth> health_;
  const absl::Duration part_ttl_;
  const absl::Duration finished_ttl_;
  const std::string boot_id_;
  ExpiryClock expiry_;
  Claims claims_;
};

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_ARTIFACTS_UPLOADS_H_
