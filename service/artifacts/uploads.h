#ifndef MLOPS_SERVICE_ARTIFACTS_UPLOADS_H_
#define MLOPS_SERVICE_ARTIFACTS_UPLOADS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "proto/cpp/base/sha256.h"
#include "service/artifacts/tree.h"
#include "service/base/clock.h"
#include "service/base/lru_map.h"
#include "service/core/disk_health.h"
#include "service/fs/dir.h"

namespace mlops::core {

// The SHA-256 of files by their stamps, in bounded memory. Thread-safe.
class ChecksumCache {
 public:
  explicit ChecksumCache(size_t max_bytes) : known_(max_bytes) {}

  // "" if it is not known.
  std::string Find(const fs::FileStamp& stamp);
  // `read_time` is from before the file was read, by the clock of the file system: what may have changed since without
  // a trace in the stamp is not kept.
  void Put(const fs::FileStamp& stamp, absl::Time read_time, const std::string& sha256);

 private:
  absl::Mutex mutex_;
  base::LruMap<std::string> known_ ABSL_GUARDED_BY(mutex_);
};

struct WriteArgs {
  ProjectName project;
  RelativePath path;
  std::string upload_id;  // "": what is not finished is not kept.
  int64_t offset = 0;
  Precondition precondition;
};

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

class UploadWriter;

// Files on their way into a workspace, staged in its hidden directory. One that has an id is the file `<id>.part`, with
// `<id>.json` beside it, and can be written on after a restart of the server; after one of the machine, which may have
// lost any part of what was not synced, it begins anew. Thread-safe.
class Uploads {
 public:
  // All must outlive this.
  Uploads(const fs::Dir* base, Placer* placer, ChecksumCache* checksums, UploadOptions options);

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

  // A name in the hidden directory that is in use by this process, until this object is destroyed.
  class Claim {
   public:
    Claim(Uploads* uploads, std::string key) : uploads_(uploads), key_(std::move(key)) {}
    ~Claim();
    Claim(const Claim&) = delete;
    Claim& operator=(const Claim&) = delete;

   private:
    Uploads* const uploads_;
    const std::string key_;
  };
  // Null if it is in use already.
  std::unique_ptr<Claim> TryClaim(const ProjectName& project, absl::string_view id) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  friend class UploadWriter;

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

  absl::Status OpenResumable(UploadWriter& writer, const WriteArgs& args);
  // Makes a new part; what is left of an earlier one goes.
  absl::Status BeginPart(UploadWriter& writer, const WriteArgs& args);
  // What a finished upload became, if that is still there.
  absl::StatusOr<Artifact> Finished(const ArtifactTree& tree, const std::string& id, const About& about);
  // Whether the entry is to be swept unless it is in use; sets `id` to its name without the suffix.
  bool IsDue(const fs::Dir& dir, absl::string_view name, std::string* id) const;
  bool IsExpired(const fs::FileStamp& stamp, absl::Duration ttl) const;

  const fs::Dir* const base_;
  Placer* const placer_;
  ChecksumCache* const checksums_;
  UploadOptions options_;  // Constant once constructed.
  absl::Mutex mutex_;
  absl::flat_hash_set<std::string> claimed_ ABSL_GUARDED_BY(mutex_);
};

// One stream that writes a file. Not thread-safe. Destroying it removes what nobody can resume.
class UploadWriter {
 public:
  ~UploadWriter();

  // Where the upload stands.
  int64_t offset() const { return offset_; }
  const WriteArgs& args() const { return args_; }

  // Reads some more of what was staged before this stream, whose checksum has to be continued. To be called until it
  // returns false, before anything is written. ABORTED/WORKSPACE_BUSY if it became shorter.
  absl::StatusOr<bool> Rehash();

  // What the whole must have; 64 lower-case digits.
  void ExpectSha256(std::string sha256) { expected_sha256_ = std::move(sha256); }

  // Appends the pieces. RESOURCE_EXHAUSTED/NO_SPACE, INTERNAL/IO_ERROR if that fails; then nothing may be called any
  // more. INVALID_ARGUMENT/FIELD_INVALID if the upload is finished.
  absl::Status Write(absl::Span<const absl::string_view> pieces);

  // The two halves of Write(), which may run on two threads at once: the second is to be called for whatever the first
  // is called for.
  absl::Status Append(absl::Span<const absl::string_view> pieces);
  void Hash(absl::Span<const absl::string_view> pieces);

  // Makes the file visible, durably. An upload that was finished before is answered again. Nothing may be called
  // afterwards. ABORTED/WORKSPACE_BUSY if what was staged before this stream is not what was hashed any more.
  absl::StatusOr<Artifact> Finish();

  // Removes what was staged, to be resumed or not. An upload that was finished before stays and is returned. Nothing
  // may be called afterwards.
  absl::StatusOr<std::optional<Artifact>> Discard();

 private:
  friend class Uploads;

  UploadWriter(Uploads* uploads, ArtifactTree tree, WriteArgs args)
      : uploads_(uploads), tree_(std::move(tree)), args_(std::move(args)) {}

  bool resumable() const { return !args_.upload_id.empty(); }
  // Removes what was staged. What stays after a failure is swept.
  absl::Status Drop();
  absl::Status CheckSha256(const std::string& actual) const;
  // Whether what is staged is still what was hashed, though others may write there, too.
  absl::Status CheckStaged() const;
  absl::Status StagedChanged() const;

  Uploads* const uploads_;
  const ArtifactTree tree_;
  const WriteArgs args_;
  std::unique_ptr<Uploads::Claim> claim_;
  std::unique_ptr<fs::Dir> dir_;  // The hidden one.
  std::string staged_name_;       // In it; "" once there is nothing to be removed any more.
  std::unique_ptr<fs::File> file_;
  std::unique_ptr<fs::FileReader> to_rehash_;  // Null once all is hashed.
  std::optional<fs::FileStamp> rehashed_;      // What was, or is to be: its state before.
  int64_t rehashed_bytes_ = 0;
  int64_t offset_ = 0;
  base::Sha256 sha256_;
  std::string expected_sha256_;
  std::optional<Artifact> finished_;  // Of an upload that was finished before.
};

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_ARTIFACTS_UPLOADS_H_
