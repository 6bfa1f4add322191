#ifndef MLOPS_SERVICE_CATALOG_USAGE_SCAN_H_
#define MLOPS_SERVICE_CATALOG_USAGE_SCAN_H_

#include <memory>
#include <string>

#include "service/base/clock.h"
#include "service/core/usage.h"
#include "service/fs/dir.h"

namespace mlops::catalog {

// Returns a scanner of workspaces, live or in the trash, below `base`, whose
// real absolute path is `base_path`. It reports directories that are symbolic
// links or cannot be opened in Usage::problem, and counts everything else. It
// remembers the number of files in each directory, in bounded memory, so that
// counting an unchanged workspace again costs one stat per directory.
core::UsageScanner MakeUsageScanner(std::shared_ptr<const fs::Dir> base,
                                    std::string base_path, base::Clock clock);

}  // namespace mlops::catalog

#endif  // MLOPS_SERVICE_CATALOG_USAGE_SCAN_H_
