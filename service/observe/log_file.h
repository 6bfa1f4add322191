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

// A file that lines are appended to. When it would grow beyond its size, it is
// renamed to "<name>.1", in place of an older one, and begun anew. It stays in
// the directory in which it was opened, wherever that is moved; nothing is ever
// made under its old path. Not thread-safe.
class LogFile {
 public:
  struct Options {
    int64_t max_bytes = 10 << 20;
    // If not, the file must be a regular one with one name, or it is refused.
    bool follow_links = true;
  };

  // Opens `path`, which is made if it is missing; its directory must exist.
  // FAILED_PRECONDITION, as a sentence, if it cannot be opened, but not for
  // want of space.
  static absl::StatusOr<std::unique_ptr<LogFile>> Open(const std::string& path,
                                                       Options options);

  // Appends whole lines, which are lost if the disk is full.
  void Write(absl::string_view lines);

 private:
  LogFile(base::UniqueFd dir, std::string name, Options options)
      : dir_(std::move(dir)), name_(std::move(name)), options_(options) {}

  // Opens the file if it is not open. Returns 0 or an errno.
  int OpenFile();
  void Rotate();

  const base::UniqueFd dir_;
  const std::string name_;
  const Options options_;
  base::UniqueFd file_;
  int64_t size_bytes_ = 0;  // Of a regular file; of others 0, for ever.
  bool is_regular_ = false;
};

}  // namespace mlops::observe

#endif  // MLOPS_SERVICE_OBSERVE_LOG_FILE_H_
