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

// What spares a list of a large directory, which is read page by page, from
// reading the directory for each page.
namespace mlops::core {

// The names in a directory, or those of them behind one, with what each is; in
// some six bytes beside each name. Sorted as bytes once Sort() was called.
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
  // The index of the first name behind `name`; size() if there is none.
  size_t Behind(absl::string_view name) const;

  size_t bytes() const {
    return text_.size() + begins_.size() * sizeof(begins_[0]);
  }

 private:
  std::string text_;  // Of each its type, its name, and a NUL.
  std::vector<uint32_t> begins_;
};

// The names of the large directories listed last, in bounded memory. They are
// taken for what is there as long as the directory's stamp is the same.
// Thread-safe.
class DirNamesCache {
 public:
  // `clock` must tell the file system's time.
  DirNamesCache(size_t max_bytes, base::Clock clock)
      : max_bytes_(max_bytes), clock_(std::move(clock)), known_(max_bytes) {}

  // All names behind `after` in `dir`, and maybe others, or null if they are
  // not known.
  std::shared_ptr<const DirNames> Find(const fs::Dir& dir,
                                       absl::string_view after);

  // Keeps the names that one reading of a directory finds. For the sake of
  // memory one object at a time does, and others do nothing; nor are more names
  // kept than have room. Not thread-safe.
  class Collector {
   public:
    // To be made before the directory is read for the names behind `after`.
    Collector(DirNamesCache* cache, absl::string_view after)
        : cache_(cache), after_(after), begin_(cache->clock_()) {}
    ~Collector() { Stop(); }
    Collector(const Collector&) = delete;
    Collector& operator=(const Collector&) = delete;

    // To be called for each name.
    void Add(absl::string_view name, fs::EntryType type);
    // To be called once `dir` was read to its end.
    void Keep(const fs::Dir& dir);

   private:
    void Stop();

    DirNamesCache* const cache_;
    const std::string after_;
    const absl::Time begin_;
    bool begun_ = false;
    std::unique_ptr<DirNames> names_;  // Null if they are not collected.
  };

 private:
  struct Known {
    fs::FileStamp stamp;
    std::string after;
    std::shared_ptr<const DirNames> names;
  };

  const size_t max_bytes_;
  const base::Clock clock_;
  absl::Mutex mutex_;
  base::LruMap<Known> known_ ABSL_GUARDED_BY(mutex_);  // By device and inode.
  bool collecting_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_ARTIFACTS_DIR_NAMES_H_
