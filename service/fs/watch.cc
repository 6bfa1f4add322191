#include "service/fs/watch.h"

#ifdef __linux__
#include <sys/inotify.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "proto/cpp/base/unique_fd.h"
#endif

namespace mlops::fs {
namespace {

class NoWatcher final : public Watcher {
 public:
  bool Add(absl::string_view) override { return false; }
  std::vector<std::string> TakeChanged() override { return {}; }
};

#ifdef __linux__

// Leaves half of the user's watches to other programs, such as editors.
size_t MaxWatches() {
  size_t granted = 0;
  std::ifstream("/proc/sys/fs/inotify/max_user_watches") >> granted;
  return granted / 2;
}

class InotifyWatcher final : public Watcher {
 public:
  InotifyWatcher(base::UniqueFd fd, std::string base_path,
                 absl::string_view entry)
      : fd_(std::move(fd)),
        base_path_(std::move(base_path)),
        entry_(entry),
        max_watches_(MaxWatches()) {}

  bool Add(absl::string_view name) override {
    if (watches_.contains(name)) return true;
    if (watches_.size() >= max_watches_) return false;
    constexpr uint32_t kEvents = IN_CLOSE_WRITE | IN_MODIFY | IN_CREATE |
                                 IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO |
                                 IN_MOVE_SELF | IN_DELETE_SELF | IN_ONLYDIR |
                                 IN_DONT_FOLLOW | IN_EXCL_UNLINK;
    const std::string path = absl::StrCat(base_path_, "/", name);
    const int watch = ::inotify_add_watch(fd_.get(), path.c_str(), kEvents);
    if (watch < 0) {
      // Other programs have exhausted the limit, so make do with the current
      // watches.
      if (errno == ENOSPC) max_watches_ = watches_.size();
      return false;
    }
    // A directory that was moved here under another name keeps its old watch,
    // so drop that name first.
    Forget(watch);
    names_[watch] = std::string(name);
    watches_[name] = watch;
    return true;
  }

  std::vector<std::string> TakeChanged() override {
    absl::flat_hash_set<std::string> changed;
    alignas(inotify_event) char buffer[64 * 1024];
    // The descriptor is non-blocking, so the loop ends with the last event.
    for (ssize_t size;
         (size = ::read(fd_.get(), buffer, sizeof(buffer))) > 0;) {
      for (ssize_t at = 0; at < size;) {
        const auto* event = reinterpret_cast<const inotify_event*>(buffer + at);
        at += static_cast<ssize_t>(sizeof(inotify_event) + event->len);
        Hear(*event, changed);
      }
    }
    return {changed.begin(), changed.end()};
  }

  bool TakeOverflow() override { return std::exchange(overflow_, false); }

 private:
  void Hear(const inotify_event& event,
            absl::flat_hash_set<std::string>& changed) {
    if ((event.mask & IN_Q_OVERFLOW) != 0) overflow_ = true;
    const auto it = names_.find(event.wd);
    if (it == names_.end()) return;
    // The directory has lost its name, so its watch is useless.
    const bool left =
        (event.mask & (IN_MOVE_SELF | IN_DELETE_SELF | IN_IGNORED)) != 0;
    if (left || (event.len > 0 && entry_ == event.name))
      changed.insert(it->second);
    if (!left) return;
    // The kernel ends the watch of a deleted directory, but not of a moved one.
    if ((event.mask & IN_MOVE_SELF) != 0)
      ::inotify_rm_watch(fd_.get(), event.wd);
    Forget(event.wd);
  }

  void Forget(int watch) {
    const auto it = names_.find(watch);
    if (it == names_.end()) return;
    watches_.erase(it->second);
    names_.erase(it);
  }

  const base::UniqueFd fd_;
  const std::string base_path_;
  const std::string entry_;
  size_t max_watches_;
  bool overflow_ = false;
  // By watch. The inverse of watches_.
  absl::flat_hash_map<int, std::string> names_;
  absl::flat_hash_map<std::string, int> watches_;  // By name.
};

#endif  // __linux__

}  // namespace

std::unique_ptr<Watcher> MakeWatcher(
    [[maybe_unused]] const std::string& base_path,
    [[maybe_unused]] absl::string_view entry,
    [[maybe_unused]] OpenOptions options) {
#ifdef __linux__
  base::UniqueFd fd(
      options.portable ? -1 : ::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (fd.ok())
    return std::make_unique<InotifyWatcher>(std::move(fd), base_path, entry);
#endif
  return std::make_unique<NoWatcher>();
}

}  // namespace mlops::fs
