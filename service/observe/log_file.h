#ifndef MLOPS_SERVICE_OBSERVE_LOG_FILE_H_
#define MLOPS_SERVICE_OBSERVE_LOG_FILE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "proto/cpp/base/unique_fd.h"

namespace mlops::observe {

// An append-only file of lines. Before it would exceed its maximum size, it is
// renamed to "<name>.1", replacing an older one, and a new file is started. The
// file stays in the directory in which it was opened, even if that directory is
// moved; nothing is ever created under the old path. Not thread-safe.
class LogFile {
 public:
  struct Options {
    int64_t max_bytes = 10 << 20;
    // If false, the file must be a regular file with a single name, not a link.
    bool follow_links = true;
  };

  // Opens `path`, and creates it if it is missing; its directory must exist.
  // Returns FAILED_PRECONDITION, as a sentence for the operator, if the file
  // cannot be opened. A full disk is not an error: Write() opens the file
  // later.
  static absl::StatusOr<std::unique_ptr<LogFile>> Open(const std::string& path,
                                                       Options options);

  // Appends whole lines. Drops them if the disk is full.
  void Write(absl::string_view lines);

 private:
  LogFile(base::UniqueFd dir, std::string name, Options options)
      : dir_(std::move(dir)), name_(std::move(name)), options_(options) {}

  // Opens the file if it is not open. Returns 0 or an errno.
  int OpenFile();
  // Renames the file to "<name>.1", so that OpenFile() creates a new one.
  void Rotate();

  const base::UniqueFd dir_;
  const std::string name_;
  const Options options_;
  base::UniqueFd file_;
  // Size of a regular file; 0 for other files.
  int64_t size_bytes_ = 0;
  bool is_regular_ = false;
};

}  // namespace mlops::observe

#endif  // MLOPS_SERVICE_OBSERVE_LOG_FILE_H_
