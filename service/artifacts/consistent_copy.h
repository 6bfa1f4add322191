#ifndef MLOPS_SERVICE_ARTIFACTS_CONSISTENT_COPY_H_
#define MLOPS_SERVICE_ARTIFACTS_CONSISTENT_COPY_H_

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "service/core/usage.h"
#include "service/fs/dir.h"

// Reads files of a workspace that other programs write meanwhile, each in one
// of its states. A SQLite database is read together with its journal or its
// write-ahead log, under SQLite's own locks, so that the copy opens with every
// transaction that was committed before.
namespace mlops::artifacts {

// A file to be read, and the files that must be read with it.
//
// A database in rollback mode is under a SHARED lock: writers can prepare
// a transaction, but commit only once the object is destroyed. In WAL mode,
// writers continue, and only checkpoints wait. The locks are those of
// https://www.sqlite.org/lockingv3.html and walformat.html; all are shared
// locks, so that files which this process may not write can be read too.
// Not thread-safe.
class StableFile {
 public:
  struct Part {
    // The name, in the same directory.
    std::string name;
    std::unique_ptr<fs::FileReader> reader;
    // The state before it was read.
    fs::FileStamp stamp;
  };

  // Opens the regular file `name` in `dir`, which must outlive the object.
  // Waits for some milliseconds if it was written just now.
  // Returns ABORTED without a reason if the file is being written at this
  // moment, or the database is locked: try again a little later. Returns
  // the errors of fs::Dir.
  static absl::StatusOr<StableFile> Open(const fs::Dir& dir,
                                         absl::string_view name);

  // The file itself first.
  const std::vector<Part>& parts() const { return parts_; }
  bool is_database() const { return is_database_; }

  // Returns whether what was read since Open() is the state at that time.
  bool Unchanged() const;

 private:
  explicit StableFile(const fs::Dir& dir) : dir_(&dir) {}

  // Whether another file has the name now, or none.
  bool WasReplaced() const;
  absl::Status AddPart(std::string name);
  absl::Status LockDatabase();
  absl::Status AddLog();

  const fs::Dir* dir_;
  bool is_database_ = false;
  // Whether locks keep the database as it is.
  bool is_locked_ = false;
  std::vector<Part> parts_;
  // Holds locks of a write-ahead log.
  std::unique_ptr<fs::FileReader> log_index_;
};

// Returns whether `name` is a file that belongs to a SQLite database in `dir`:
// its journal, its write-ahead log, or the index of that. It is copied with
// the database, or made again.
bool BelongsToDatabase(const fs::Dir& dir, absl::string_view name);

// Calls `read` with the opened file until it has seen an unchanged one, at most
// a few times. `read` must begin anew at each call. Returns OK, the error
// of `read`, CANCELLED once `cancelled` returns true, NOT_FOUND (no reason) if
// the file does not exist, and ABORTED/WORKSPACE_BUSY for `project` if the file
// or database was written each time. `shown` is its path for that error.
absl::Status ReadConsistently(
    const fs::Dir& dir, absl::string_view name, absl::string_view project,
    absl::string_view shown, core::Cancelled cancelled,
    absl::FunctionRef<absl::Status(const StableFile& file)> read);

}  // namespace mlops::artifacts

#endif  // MLOPS_SERVICE_ARTIFACTS_CONSISTENT_COPY_H_
