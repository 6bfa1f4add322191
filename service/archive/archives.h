#ifndef MLOPS_SERVICE_ARCHIVE_ARCHIVES_H_
#define MLOPS_SERVICE_ARCHIVE_ARCHIVES_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "service/archive/exporter.h"
#include "service/archive/importer.h"
#include "service/artifacts/stage.h"
#include "service/base/clock.h"
#include "service/core/authority.h"
#include "service/fs/dir.h"

// Whole workspaces as tar archives:
//
//   manifest.json                 the workspace: settings, metadata, quota
//   dvc/, mlflow/, models/, ...   its directories, files and links
//   checksums/000001.sha256       the SHA-256 of the files before it
//
// The format is ustar with the extended headers of POSIX.1-2001 (pax).
// Owners and the times of links are not kept. The same content gives the same
// bytes, wherever the workspace is.
namespace mlops::archive {

struct ExportArgs {
  core::ProjectName project;
  // A subset of core::kDirectories; empty means all.
  std::vector<std::string> directories;
};

// The beginning of an import: exactly one member is set.
struct ImportStart {
  // Receives the archive.
  std::unique_ptr<Importer> importer;
  // The workspace that an earlier call with the same request_id created.
  core::WorkspacePtr existing;
};

// Exports and imports the workspaces of one base directory. Thread-safe.
class Archives {
 public:
  // `authority` and `stage` must outlive this and the objects that it returns.
  // `base` is the base directory, and `base_path` its real path.
  Archives(core::Authority* authority, artifacts::Stage* stage,
           std::shared_ptr<fs::Dir> base, std::string base_path,
           base::Clock clock = base::SystemClock())
      : authority_(authority),
        stage_(stage),
        base_(std::move(base)),
        base_path_(std::move(base_path)),
        clock_(std::move(clock)) {}

  // Returns the errors of core::Authority::Get().
  absl::StatusOr<std::unique_ptr<Exporter>> Export(const ExportArgs& args);

  // Returns ALREADY_EXISTS/WORKSPACE_EXISTS if the name is taken,
  // FAILED_PRECONDITION/PATH_UNSUITABLE if it belongs to something other than
  // a workspace, and the errors of artifacts::Stage::Begin().
  absl::StatusOr<ImportStart> Import(const ImportArgs& args);

 private:
  core::Authority* const authority_;
  artifacts::Stage* const stage_;
  const std::shared_ptr<fs::Dir> base_;
  const std::string base_path_;
  const base::Clock clock_;
};

}  // namespace mlops::archive

#endif  // MLOPS_SERVICE_ARCHIVE_ARCHIVES_H_
