#ifndef MLOPS_SERVICE_BASE_RELOADED_FILE_H_
#define MLOPS_SERVICE_BASE_RELOADED_FILE_H_

#include <sys/stat.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "service/base/clock.h"

namespace mlops::base {

// A configuration file that is applied at the start and again whenever
// it changes. If new contents are refused, the previous ones stay in force.
// Follows symbolic links, so that it also notices when a link is redirected,
// as Kubernetes does with mounted secrets. Only one thread at a time may call
// Load() and Check(); the other methods are thread-safe.
class ReloadedFile {
 public:
  // Puts the contents `text` into force, or returns why they are refused.
  using Apply = std::function<absl::Status(absl::string_view text)>;

  struct Options {
    // The kind of file, for error texts: "tokens file".
    std::string what;
    std::string path;
    // A larger file is refused.
    size_t max_bytes = size_t{1} << 20;
    // A file whose mode has one of these bits is refused. The default
    // refuses files that everyone can write, because their content decides
    // who may use the server.
    mode_t refused_mode = S_IWOTH;
    Clock clock = SystemClock();
  };

  ReloadedFile(Options options, Apply apply);

  // Reads the file and applies it unless it has the same contents as the last
  // time. Returns whether it applied them. Errors begin with what the file is
  // and its path:
  // - FAILED_PRECONDITION if the file cannot be read, is not a regular file,
  //   is too large, or has a refused mode;
  // - the error of Apply.
  absl::StatusOr<bool> Load();

  // Like Load(), but reads the file only if it has changed. Waits
  // until the file is the same at two calls in a row, because whoever writes
  // it in place may not be done. Returns each error once, and then false
  // until the file changes again. Meant to be called a few times a second;
  // costs one stat(2) if nothing has changed.
  absl::StatusOr<bool> Check();

  const std::string& what() const { return options_.what; }
  const std::string& path() const { return options_.path; }
  // The number of times that contents were applied, and that an error
  // occurred. The same error several times in a row counts once.
  int64_t loads() const { return loads_; }
  int64_t failures() const { return failures_; }
  // Returns whether the contents last read are not in force.
  bool failing() const { return failing_; }

 private:
  // Tells versions of a file apart. All zero if there is no file.
  struct Stamp {
    uint64_t device = 0;
    uint64_t inode = 0;
    int64_t size_bytes = 0;
    int64_t modify_nanos = 0;
    int64_t change_nanos = 0;

    bool operator==(const Stamp&) const = default;
  };

  static Stamp StampOf(const struct stat& state);
  Stamp CurrentStamp() const;
  absl::StatusOr<std::string> Read();
  absl::StatusOr<bool> ReadAndApply();

  const Options options_;
  const Apply apply_;
  // State of the file when it was last read.
  Stamp read_;
  // Whether the file may have changed after it was read without a new stamp.
  bool racy_ = false;
  // State of the file at the last Check().
  Stamp seen_;
  // Hash of the contents that were last applied or refused.
  std::string tried_;
  // The last error of Load(), or "" if it succeeded.
  std::string last_error_;
  std::atomic<int64_t> loads_ = 0;
  std::atomic<int64_t> failures_ = 0;
  std::atomic<bool> failing_ = false;
};

}  // namespace mlops::base

#endif  // MLOPS_SERVICE_BASE_RELOADED_FILE_H_
