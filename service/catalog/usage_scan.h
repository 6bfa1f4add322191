#ifndef MLOPS_SERVICE_CATALOG_USAGE_SCAN_H_
#define MLOPS_SERVICE_CATALOG_USAGE_SCAN_H_

#include <memory>
#include <string>

#include "service/base/clock.h"
#include "service/core/usage.h"
#include "service/fs/dir.h"

namespace mlops::catalog {

// A scanner of workspaces, live or in the trash, below `base`, whose real
// absolute path is `base_path`. A directory that is a symbolic link or cannot
// be opened, or a part of it that cannot be, is Usage::problem; the rest is
// counted. Numbers of files are remembered by directory in bounded memory, so
// that to count an unchanged workspace again costs one look at each.
core::UsageScanner MakeUsageScanner(std::shared_ptr<const fs::Dir> base,
                                    std::string base_path, base::Clock clock);

}  // namespace mlops::catalog

#endif  // MLOPS_SERVICE_CATALOG_USAGE_SCAN_H_
