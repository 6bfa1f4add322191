#ifndef MLOPS_SERVICE_FS_WATCH_H_
#define MLOPS_SERVICE_FS_WATCH_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "service/fs/dir.h"

namespace mlops::fs {

// Hears from the operating system which of many directories had an entry of one
// name written, added or removed. A help, not a promise: events get lost where
// too many come at once, and a change made by another machine on a shared file
// system makes none. Who needs certainty looks for himself now and then. Not
// thread-safe.
class Watcher {
 public:
  virtual ~Watcher() = default;

  // Watches the directory `name` from now on, until it is moved or removed.
  // False if it cannot be: there is no such directory, the system has no way to
  // watch, or as many are watched as this user may.
  virtual bool Add(absl::string_view name) = 0;

  // The directories that changed since the last call, each once. Does not wait.
  virtual std::vector<std::string> TakeChanged() = 0;

  // Whether events were lost since the last call, because too many came at
  // once.
  virtual bool TakeOverflow() { return false; }
};

// A watcher of directories in `base_path` for their entry `entry`: inotify(7)
// on Linux, using at most half of the watches that the system grants a user;
// elsewhere, and where `options.portable`, one whose Add() is always false.
std::unique_ptr<Watcher> MakeWatcher(const std::string& base_path,
                                     absl::string_view entry,
                                     OpenOptions options = {});

}  // namespace mlops::fs

#endif  // MLOPS_SERVICE_FS_WATCH_H_
