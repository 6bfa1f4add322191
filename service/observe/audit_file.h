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

// The append-only file of the audit log. When it is full, it is set aside:
// "<name>" becomes "<name>.1", "<name>.1" becomes "<name>.2" and so on, and the
// oldest file is replaced. If another program renames or removes the file, a
// new one is created. Not thread-safe.
//
// Errors are RESOURCE_EXHAUSTED/NO_SPACE {path, available_bytes} if the disk is
// full or a quota or file-size limit is exceeded, otherwise INTERNAL/IO_ERROR
// {path, errno}.
class AuditFile {
 public:
  struct Options {
    int64_t max_bytes = int64_t{100} << 20;
    // Number of older files to keep; at least 1.
    int older_files = 9;
  };

  // Opens `path`, or creates it with mode 0640 less the umask. Its directory
  // must exist. It must be a regular file with a single name, not a link, and
  // not in use by another process. Returns FAILED_PRECONDITION, as a sentence
  // for the operator, if any of these fails. A full disk is not an error:
  // EnsureOpen() opens the file later.
  static absl::StatusOr<std::unique_ptr<AuditFile>> Open(
      const std::string& path, const Options& options);

  // Opens or creates the file, unless it is open and still has its name.
  absl::Status EnsureOpen();

  // Whether `bytes` more bytes fit into the file's maximum size. Also true in
  // the middle of a line, and if the file is empty.
  bool HasRoom(size_t bytes) const;

  // Sets the current file aside. Its lines must be synced before, or appended
  // again afterwards.
  absl::Status StartNew();

  // Appends `lines`. If the last call ended in the middle of a line, they begin
  // with its rest. First ends a line that a crash has cut off. Returns the
  // number of appended bytes; sets `problem` unless that is all of them.
  size_t Append(absl::string_view lines, absl::Status* problem);

  // Makes all appended lines durable. After an error they may be lost, and a
  // later success proves nothing, so call StartNew() and append them again.
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
  // Number of bytes known to be durable.
  int64_t durable_bytes_ = 0;
  // Whether the file ends with a line that a crash has cut off.
  bool is_cut_off_ = false;
  // Whether the last Append() ended in the middle of a line.
  bool is_mid_line_ = false;
  // Whether lines, or the names of files, may not be durable yet.
  bool is_unsynced_ = false;
  bool are_names_unsynced_ = false;
};

}  // namespace mlops::observe

#endif  // MLOPS_SERVICE_OBSERVE_AUDIT_FILE_H_
