#ifndef MLOPS_SERVICE_OBSERVE_AUDIT_FILE_H_
#define MLOPS_SERVICE_OBSERVE_AUDIT_FILE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/cpp/base/unique_fd.h"

namespace mlops::observe {

// The file of the audit log: only appended to, and set aside when it is full:
// "<name>" is renamed to "<name>.1", "<name>.1" to "<name>.2" and so on, and
// the oldest is replaced. Another program may rename or remove the file too; a
// new one is then created. Not thread-safe.
//
// Errors are RESOURCE_EXHAUSTED/NO_SPACE {path, available_bytes} if the disk, a
// quota or a limit on file sizes is exceeded, otherwise INTERNAL/IO_ERROR
// {path, errno}.
class AuditFile {
 public:
  struct Options {
    int64_t max_bytes = int64_t{100} << 20;
    // How many older files are kept; at least 1.
    int older_files = 9;
  };

  // Opens `path`, or creates it with mode 0640 less the umask; its directory
  // must exist. It must be a regular file with a single name, not a link, and
  // not in use by another process. Returns FAILED_PRECONDITION, as a sentence
  // for the operator, if any of that fails. A full disk is no error:
  // EnsureOpen() then opens the file later.
  static absl::StatusOr<std::unique_ptr<AuditFile>> Open(
      const std::string& path, const Options& options);

  // Opens or creates the file, unless it is open and still has its name.
  absl::Status EnsureOpen();

  // Whether the file can take `bytes` more bytes within its maximum size. Also
  // true in the middle of a line, and if it is empty.
  bool HasRoom(size_t bytes) const;

  // Sets the current file aside. The lines that it has must be synced, or be
  // appended again.
  absl::Status StartNew();

  // Appends `lines`, which begin with the rest of a line if the last call ended
  // in the middle of it. Ends a line that a crash has cut off. Returns how many
  // bytes it appended; unless that is all, sets `problem`.
  size_t Append(absl::string_view lines, absl::Status* problem);

  // Makes all appended lines durable. After an error they may be lost, and
  // later success proves nothing: call StartNew() and append them again.
  absl::Status Sync();

 private:
  AuditFile(base::UniqueFd dir, std::string path, std::string name,
            const Options& options)
      : dir_(std::move(dir)),
        path_(std::move(path)),
        name_(std::move(name)),
        options_(options) {}

  // Returns 0, an errno, or kUnsuitable.
  int OpenFile();
  // Whether the open file still has its name.
  bool IsStillNamed() const;
  // Returns the name of the older file `number`; 0 is the current one.
  std::string NameOf(int number) const;
  absl::Status Error(int error) const;

  const base::UniqueFd dir_;
  const std::string path_;
  const std::string name_;
  const Options options_;
  base::UniqueFd file_;
  int64_t size_bytes_ = 0;
  // How many of them are known to be durable.
  int64_t durable_bytes_ = 0;
  // Whether the file ends with a line that a crash has cut off.
  bool is_cut_off_ = false;
  // Whether the last call of Append() ended in the middle of a line.
  bool is_mid_line_ = false;
  // Whether lines, and the names of files, may not be durable yet.
  bool is_unsynced_ = false;
  bool are_names_unsynced_ = false;
};

}  // namespace mlops::observe

#endif  // MLOPS_SERVICE_OBSERVE_AUDIT_FILE_H_
