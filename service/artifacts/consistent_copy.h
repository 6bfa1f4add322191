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

// Reads files of a workspace while other programs write them, each in one of
// its states. Reads a SQLite database together with its journal or write-ahead
// log, under SQLite's own locks, so that the copy opens with every transaction
// that was committed before.
namespace mlops::artifacts {

// A file to be read, and the files that must be read with it.
//
// In rollback mode, the object holds a SHARED lock on the database: writers can
// prepare a transaction, but cannot commit it until the object is destroyed.
// In WAL mode, writers continue, and only checkpoints wait. The lock ranges are
// those of https://www.sqlite.org/lockingv3.html and walformat.html. All locks
// are shared, so that files which this process may not write can be read too.
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
  // Waits some milliseconds if the file was written just now. Returns ABORTED
  // without a reason if a program is writing the file at this moment, or has
  // locked the database: retry a little later. Returns the errors of fs::Dir.
  static absl::StatusOr<StableFile> Open(const fs::Dir& dir,
                                         absl::string_view name);

  // The file itself first.
  const std::vector<Part>& parts() const { return parts_; }
  bool is_database() const { return is_database_; }

  // Returns whether everything read since Open() belongs to the state
  // at that time.
  bool Unchanged() const;

 private:
  explicit StableFile(const fs::Dir& dir) : dir_(&dir) {}

  // Returns whether the name now belongs to another file, or to none.
  bool WasReplaced() const;
  absl::Status AddPart(std::string name);
  absl::Status LockDatabase();
  absl::Status AddLog();

  const fs::Dir* dir_;
  bool is_database_ = false;
  // Whether locks keep other programs from changing the database file.
  bool is_locked_ = false;
  std::vector<Part> parts_;
  // Holds the locks on the index of the write-ahead log.
  std::unique_ptr<fs::FileReader> log_index_;
};

// Returns whether `name` belongs to a SQLite database in `dir`: its journal,
// its write-ahead log, or the log's index. Such a file is copied with its
// database, or SQLite recreates it.
bool BelongsToDatabase(const fs::Dir& dir, absl::string_view name);

// Opens the file and calls `read`, and repeats both, for some seconds at most,
// until the file does not change meanwhile. `read` must start from scratch
// at each call. Returns OK, the error of `read`, CANCELLED once `cancelled`
// returns true, NOT_FOUND (no reason) if the file does not exist,
// and ABORTED/WORKSPACE_BUSY for `project` if the file or database changed
// during each attempt. `shown` is its path for that error.
absl::Status ReadConsistently(
    const fs::Dir& dir, absl::string_view name, absl::string_view project,
    absl::string_view shown, core::Cancelled cancelled,
    absl::FunctionRef<absl::Status(const StableFile& file)> read);

}  // namespace mlops::artifacts

#endif  // MLOPS_SERVICE_ARTIFACTS_CONSISTENT_COPY_H_
