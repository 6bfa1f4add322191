#ifndef MLOPS_SERVICE_CATALOG_LEASE_FILES_H_
#define MLOPS_SERVICE_CATALOG_LEASE_FILES_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "service/base/clock.h"
#include "service/core/disk_health.h"
#include "service/core/leases.h"
#include "service/fs/dir.h"

namespace mlops::catalog {

// Number of fences that one write to the fences file reserves, so that few
// grants write it. A restart skips the rest of a block.
inline constexpr int64_t kFencesPerBlock = 100;

// Stores leases below `<base>/.workspaced`: one file per lease, and the fences
// file with a number larger than every fence so far. See core/layout.h.
//
// Methods return the errors of fs::Dir and DiskHealth::Check(). As thread-safe
// as LeaseStore requires.
class LeaseFiles : public core::LeaseStore {
 public:
  LeaseFiles(std::shared_ptr<fs::Dir> base,
             std::shared_ptr<core::DiskHealth> health,
             base::Clock clock = base::SystemClock());

  // Returns the stored leases, and removes orphaned temporary files. Passes
  // each unreadable file to `report` and skips it: its holder then gets
  // LEASE_LOST, because the fence no longer matches a lease.
  absl::StatusOr<std::vector<core::StoredLease>> Load(
      const std::function<void(const absl::Status&)>& report)
      ABSL_LOCKS_EXCLUDED(fences_mutex_);

  // Returns INTERNAL/IO_ERROR {path} if the fences file is damaged.
  absl::StatusOr<int64_t> NextFence() override
      ABSL_LOCKS_EXCLUDED(fences_mutex_);
  absl::Status Save(const core::StoredLease& lease) override;
  absl::Status Remove(const core::ProjectName& project) override;

 private:
  // The server's directory and the leases directory, created and durable.
  struct Dirs {
    std::unique_ptr<fs::Dir> server;
    std::unique_ptr<fs::Dir> leases;
  };
  absl::StatusOr<Dirs*> OpenDirs() ABSL_LOCKS_EXCLUDED(dirs_mutex_);
  // Replaces `name` in `dir` atomically and durably, through the file `temp`.
  absl::Status Replace(fs::Dir& dir, const std::string& name,
                       const std::string& temp, absl::string_view text);
  // Returns the number in the fences file. If the file is missing, for example
  // after a backup was restored, returns the number of milliseconds since 1970:
  // fewer fences than that can have been granted.
  absl::StatusOr<int64_t> ReadFences(const fs::Dir& server) const;

  const std::shared_ptr<fs::Dir> base_;
  const std::shared_ptr<core::DiskHealth> health_;
  const base::Clock clock_;

  absl::Mutex dirs_mutex_;
  // Set once; null until then.
  std::unique_ptr<Dirs> dirs_ ABSL_GUARDED_BY(dirs_mutex_);

  // Held while a block of fences is reserved on disk.
  absl::Mutex fences_mutex_;
  // The largest fence of a lease that Load() returned.
  int64_t last_known_fence_ ABSL_GUARDED_BY(fences_mutex_) = 0;
  // 0 until the file has been read.
  int64_t next_fence_ ABSL_GUARDED_BY(fences_mutex_) = 0;
  // The number in the file. Every fence granted so far is smaller.
  int64_t reserved_ ABSL_GUARDED_BY(fences_mutex_) = 0;
};

}  // namespace mlops::catalog

#endif  // MLOPS_SERVICE_CATALOG_LEASE_FILES_H_
