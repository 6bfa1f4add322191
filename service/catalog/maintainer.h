#ifndef MLOPS_SERVICE_CATALOG_MAINTAINER_H_
#define MLOPS_SERVICE_CATALOG_MAINTAINER_H_

#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "service/catalog/file_catalog.h"

namespace mlops::catalog {

// The thread that keeps a FileCatalog fresh: new and vanished directories within half a second, edited records as fast
// as a bounded number of stats a second allows, the trash swept in small steps, the checkpoint saved now and then.
class Maintainer {
 public:
  // `catalog` must outlive this.
  explicit Maintainer(FileCatalog* catalog);
  // Ends the thread and saves a last checkpoint.
  ~Maintainer();

 private:
  void Run();
  // Waits; true when it is time to stop.
  bool StopWithin(absl::Duration duration);

  FileCatalog* const catalog_;
  absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace mlops::catalog

#endif  // MLOPS_SERVICE_CATALOG_MAINTAINER_H_
