#ifndef MLOPS_SERVICE_ARTIFACTS_DIR_NAMES_H_
#define MLOPS_SERVICE_ARTIFACTS_DIR_NAMES_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "service/base/clock.h"
#include "service/base/lru_map.h"
#include "service/fs/dir.h"

// Caches the names of large directories, so that a paged list does not read
// the whole directory again for each page.
namespace mlops::artifacts {

// The names in a directory, or those after a given name, with their types.
// Needs about six bytes per name in addition to the name. Sorted as bytes
// after Sort().
class DirNames {
 public:
  void Add(absl::string_view name, fs::EntryType type);
  void Sort();

  size_t size() const { return begins_.size(); }
  absl::string_view name(size_t index) const {
    return text_.data() + begins_[index] + 1;
  }
  fs::EntryType type(size_t index) const {
    return static_cast<fs::EntryType>(text_[begins_[index]]);
  }
  // Returns the index of the first name greater than `name`; size() if there
  // is none. Requires Sort().
  size_t Behind(absl::string_view name) const;

  // The memory used, in bytes.
  size_t bytes() const {
    return text_.size() + begins_.size() * sizeof(begins_[0]);
  }

 private:
  // For each entry: its type, its name, and a NUL.
  std::string text_;
  // Offsets of the entries in text_.
  std::vector<uint32_t> begins_;
};

// The names of the most recently listed large directories, in bounded memory.
// An entry is valid while the stamp of its directory is unchanged. Thread-safe.
class DirNamesCache {
 public:
  // `clock` must return the file system's time.
  DirNamesCache(size_t max_bytes, base::Clock clock)
      : max_bytes_(max_bytes), clock_(std::move(clock)), known_(max_bytes) {}

  // Returns all names after `after` in `dir`, and possibly others;
  // null if they are not cached.
  std::shared_ptr<const DirNames> Find(const fs::Dir& dir,
                                       absl::string_view after);

  // Returns the memory in use, in bytes, without what a collector holds.
  size_t bytes() const {
    absl::MutexLock lock(&mutex_);
    return known_.bytes();
  }

  // Collects the names found while a directory is read. To limit memory,
  // only one collector is active at a time; the others do nothing.
  // A collector stops when the names exceed the cache's size. Not thread-safe.
  class Collector {
   public:
    // Must be created before the directory is read for the names after `after`.
    Collector(DirNamesCache* cache, absl::string_view after)
        : cache_(cache), after_(after), begin_(cache->clock_()) {}
    ~Collector() { Stop(); }
    Collector(const Collector&) = delete;
    Collector& operator=(const Collector&) = delete;

    // Must be called for each name found.
    void Add(absl::string_view name, fs::EntryType type);
    // Must be called once `dir` has been read to its end. Stores the names
    // in the cache.
    void Keep(const fs::Dir& dir);

   private:
    void Stop();

    DirNamesCache* const cache_;
    const std::string after_;
    const absl::Time begin_;
    bool begun_ = false;
    // Null if this object does not collect.
    std::unique_ptr<DirNames> names_;
  };

 private:
  struct Known {
    fs::FileStamp stamp;
    std::string after;
    std::shared_ptr<const DirNames> names;
  };

  const size_t max_bytes_;
  const base::Clock clock_;
  mutable absl::Mutex mutex_;
  // Keyed by device and inode.
  base::LruMap<Known> known_ ABSL_GUARDED_BY(mutex_);
  bool collecting_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace mlops::artifacts

#endif  // MLOPS_SERVICE_ARTIFACTS_DIR_NAMES_H_
