#ifndef MLOPS_SERVICE_FS_WATCH_H_
#define MLOPS_SERVICE_FS_WATCH_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "service/fs/dir.h"

namespace mlops::fs {

// Reports which of many directories had an entry of a given name written,
// added or removed, using the operating system's events. Best effort:
// events are lost if too many arrive at once, and changes by another machine on
// a shared file system cause none. Callers that need certainty must also poll.
// Not thread-safe.
class Watcher {
 public:
  virtual ~Watcher() = default;

  // Watches the directory `name` from now on, until it is moved or removed.
  // Returns false if that is impossible: the directory does not exist,
  // the system cannot watch, or the limit on watches is reached.
  virtual bool Add(absl::string_view name) = 0;

  // Returns the directories that changed since the last call, each once.
  // Does not wait.
  virtual std::vector<std::string> TakeChanged() = 0;

  // Returns whether events were lost since the last call because too many
  // arrived at once.
  virtual bool TakeOverflow() { return false; }
};

// Returns a watcher of directories in `base_path` for their entry `entry`.
// On Linux it uses inotify(7) and at most half of the watches that the system
// grants a user. Elsewhere, and with `options.portable`, Add() always
// returns false.
std::unique_ptr<Watcher> MakeWatcher(const std::string& base_path,
                                     absl::string_view entry,
                                     OpenOptions options = {});

}  // namespace mlops::fs

#endif  // MLOPS_SERVICE_FS_WATCH_H_
