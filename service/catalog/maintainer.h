#ifndef MLOPS_SERVICE_CATALOG_MAINTAINER_H_
#define MLOPS_SERVICE_CATALOG_MAINTAINER_H_

#include <functional>
#include <memory>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "service/catalog/file_catalog.h"
#include "service/fs/watch.h"

namespace mlops::catalog {

// The thread that keeps a FileCatalog fresh: new and vanished directories within half a second; edited records within
// as much where the watcher tells of them, else as fast as a bounded number of stats a second allows; the trash swept
// in small steps; the checkpoint saved now and then.
class Maintainer {
 public:
  // `catalog` must outlive this.
  // `watcher` hears of records in the catalog's base directory.
  // `chore`, if given, is called five times a second, and should take little of that time.
  Maintainer(FileCatalog* catalog, std::unique_ptr<fs::Watcher> watcher, std::function<void()> chore = nullptr);
  // Ends the thread and saves a last checkpoint.
  ~Maintainer();

 private:
  void Run();
  void RefreshRecords();
  // Waits; true when it is time to stop.
  bool StopWithin(absl::Duration duration);

  FileCatalog* const catalog_;
  const std::unique_ptr<fs::Watcher> watcher_;
  const std::function<void()> chore_;
  absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace mlops::catalog

#endif  // MLOPS_SERVICE_CATALOG_MAINTAINER_H_
