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
#include "service/core/leases.h"
#include "service/fs/dir.h"

namespace mlops::artifacts {

struct UploadState {
  std::string path;  // As on the wire.
  int64_t offset = 0;
  absl::Time expire_time;
  // Set once the upload is finished and its file is durable.
  std::optional<Artifact> artifact;
  // Path within the workspace of the staged file, and its etag.
  // "" if the upload cannot be resumed.
  std::string staged_path;
  std::string staged_etag;
};

struct UploadOptions {
  // How long the server keeps an unfinished upload after its last byte.
  absl::Duration part_ttl = absl::Hours(24);
  // How long the server remembers a finished upload.
  absl::Duration finished_ttl = absl::Hours(1);
  // Must agree with the timestamps of the file system.
  base::Clock clock = base::SystemClock();
  base::SteadyClock steady_clock = base::SystemSteadyClock();
  std::string boot_id = fs::BootId();
  // Health of the disk below the base.
  std::shared_ptr<core::DiskHealth> health =
      std::make_shared<core::DiskHealth>();
  // Counts usage against the quotas of workspaces. If null, quotas are not
  // enforced.
  std::shared_ptr<core::UsageLedger> ledger = nullptr;
  // Must outlive the objects that use it. If null, no lease prevents a change.
  const core::Leases* leases = nullptr;
};

// Files on their way into a workspace, staged in its hidden directory.
//
// An upload with an id consists of `<id>.part` and `<id>.json`, and can be
// resumed after a restart of the server. After a restart of the machine, which
// may have lost any unsynced bytes, it begins anew. An upload is finished once
// its artifact is durable, and is remembered for a while after that.
// Thread-safe.
class Uploads {
 public:
  // `placer` and `claims` must outlive this.
  Uploads(Placer* placer, Claims* claims, const UploadOptions& options);

  // Opens or resumes an upload. `hold` is null if the workspace has no quota.
  // Returns the errors of WriteArtifact that are known before the first byte.
  absl::StatusOr<std::unique_ptr<UploadWriter>> Open(
      ArtifactTree tree, const WriteArgs& args,
      std::unique_ptr<core::UsageLedger::Hold> hold, core::Cancelled cancelled);

  // Drops an upload that has an id; ignores the offset and the preconditions.
  // A finished upload stays and is returned; a missing one is not an error.
  // Returns INVALID_ARGUMENT/FIELD_INVALID if the upload has another path,
  // and ABORTED/WORKSPACE_BUSY while a stream writes it.
  absl::StatusOr<std::optional<Artifact>> Discard(const ArtifactTree& tree,
                                                  const WriteArgs& args);

  // Returns the state of an upload. Returns NOT_FOUND/UPLOAD_NOT_FOUND if there
  // is none.
  absl::StatusOr<UploadState> Get(const ArtifactTree& tree,
                                  const std::string& upload_id);

  struct Swept {
    int64_t entry_count = 0;
    bool more = false;  // Whether more can be removed now.
    // Number of unfinished uploads found; incomplete if `more`.
    int64_t unfinished_count = 0;
  };
  // Removes about `max_entries` entries of one workspace that have expired or
  // that a crash has orphaned.
  absl::StatusOr<Swept> Sweep(const ArtifactTree& tree, int64_t max_entries);

 private:
  // Returns whether the part is the file that the upload began with, with all
  // bytes that were written to it.
  bool IsWhole(const UploadRecord& record, const fs::FileStamp& part) const;

  // Remains of an upload.
  struct Found {
    std::optional<UploadRecord> record;
    std::optional<fs::FileStamp> part;
    std::optional<Artifact> finished;
  };
  // Looks for an upload, which the caller must have claimed. Returns
  // INVALID_ARGUMENT/FIELD_INVALID if the upload has another path.
  absl::StatusOr<Found> Find(const ArtifactTree& tree, const fs::Dir& dir,
                             const WriteArgs& args);

  // Fills `staged` for an upload that has an id. `existing` is the current file
  // of the artifact's name.
  absl::Status OpenResumable(const ArtifactTree& tree, const WriteArgs& args,
                             const absl::StatusOr<fs::FileStamp>& existing,
                             Staged& staged);
  // Creates a new part and removes the remains of an earlier one.
  absl::Status BeginPart(const WriteArgs& args,
                         const absl::StatusOr<fs::FileStamp>& existing,
                         Staged& staged);
  // Returns the artifact that an upload without a part has become, durable or
  // not. Returns nullopt if the path now holds another file.
  absl::StatusOr<std::optional<Artifact>> FindFinished(
      const ArtifactTree& tree, const UploadRecord& record) const;
  absl::StatusOr<UploadState> GetFinished(const ArtifactTree& tree,
                                          const fs::Dir& dir,
                                          const std::string& upload_id,
                                          const UploadRecord& record);
  // Makes the artifact of `record` durable, because the server may have been
  // killed between the rename and the sync.
  absl::Status SyncFinished(const ArtifactTree& tree,
                            const UploadRecord& record) const;

  // Removes up to about `max_entries` entries of deleted artifacts for which
  // the hidden directory had no room.
  absl::StatusOr<Swept> SweepRoot(const ArtifactTree& tree,
                                  int64_t max_entries);
  // Returns whether the entry should be swept unless it is in use. Sets `id` to
  // its name without the suffix. Ignores the age unless `may_expire`.
  bool IsDue(const fs::Dir& dir, absl::string_view name, bool may_expire,
             std::string* id) const;
  bool IsExpired(const fs::FileStamp& stamp, absl::Duration ttl) const;

  Placer* const placer_;
  Claims* const claims_;
  const std::shared_ptr<core::DiskHealth> health_;
  const absl::Duration part_ttl_;
  const absl::Duration finished_ttl_;
  const std::string boot_id_;
  ExpiryClock expiry_;
};

}  // namespace mlops::artifacts

#endif  // MLOPS_SERVICE_ARTIFACTS_UPLOADS_H_
