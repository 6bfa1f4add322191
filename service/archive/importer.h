#ifndef MLOPS_SERVICE_ARCHIVE_IMPORTER_H_
#define MLOPS_SERVICE_ARCHIVE_IMPORTER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "proto/cpp/base/sha256.h"
#include "service/archive/entry_rules.h"
#include "service/archive/manifest.h"
#include "service/archive/tar_reader.h"
#include "service/artifacts/stage.h"
#include "service/core/authority.h"
#include "service/core/usage.h"
#include "service/fs/dir.h"

namespace mlops::archive {

struct ImportArgs {
  core::ProjectName project;
  std::string request_id;
};

// Creates a workspace from an archive that arrives in chunks. Stages
// everything; the destructor removes what has not become a workspace.
// Holds a manifest, a list of checksums, and hashes of the names in open
// directories (kMaxOpenNames). Not thread-safe.
class Importer : private TarVisitor {
 public:
  // `authority` must outlive this. `root_path` is where the workspace will be.
  Importer(core::Authority* authority,
           std::unique_ptr<artifacts::StagedTree> staged, ImportArgs args,
           std::string root_path);
  ~Importer() override;

  const ImportArgs& args() const { return args_; }
  // Number of bytes of the archive read so far.
  int64_t offset() const { return offset_; }

  // Stages the next bytes of the archive. After an error, nothing else may
  // be called. Returns
  // - INVALID_ARGUMENT/ARCHIVE_INVALID if it is not such an archive;
  // - INVALID_ARGUMENT/FIELD_INVALID if a setting or the metadata is invalid;
  // - RESOURCE_EXHAUSTED/NO_SPACE if the disk or the quota has no room for
  //   an entry, before its content arrives;
  // - the errors of fs::Dir.
  absl::Status Feed(absl::Span<const absl::string_view> pieces);

  // Creates the workspace, after the whole archive was fed. Also returns
  // the errors of core::Authority::Create(). Returns CANCELLED once `cancelled`
  // returns true.
  absl::StatusOr<core::WorkspacePtr> Finish(
      core::Cancelled cancelled = core::NeverCancelled);

 private:
  // The kind of the current entry.
  enum class Kind { kNone, kManifest, kChecksums, kFile };
  // A directory whose content may follow.
  struct Level {
    // With a final '/'.
    std::string path;
    // Null while closed.
    std::unique_ptr<fs::Dir> dir;
    uint32_t mode;
    absl::Time modify_time;
  };

  absl::Status Begin(const TarEntry& entry) override;
  absl::Status Data(absl::string_view bytes) override;
  absl::Status End() override;

  // Begin a file of text that is kept in memory, not on disk.
  absl::Status BeginManifest(const TarEntry& entry);
  absl::Status BeginChecksums(const TarEntry& entry);
  absl::Status BeginFile(const TarEntry& entry);
  absl::Status BeginDirectory(const TarEntry& entry);
  absl::Status AddLink(const TarEntry& entry);
  absl::Status EndManifest();
  absl::Status EndChecksums();
  absl::Status EndFile();
  // Returns an error if there is no room for a file.
  absl::Status CheckRoom(const TarEntry& file) const;
  // Finishes the directories that do not contain `path`.
  absl::Status LeaveDirectories(absl::string_view path);
  // Returns the directory to create the next entry in.
  absl::StatusOr<fs::Dir*> Parent();
  absl::StatusOr<fs::Dir*> OpenLevel(Level& level);
  core::CreateArgs NewWorkspace() const;

  core::Authority* const authority_;
  const std::unique_ptr<artifacts::StagedTree> staged_;
  const ImportArgs args_;
  const std::string root_path_;
  TarReader reader_;
  int64_t offset_ = 0;

  std::optional<Manifest> manifest_;
  EntryOrder order_;
  ChecksumList checksums_;
  int lists_ = 0;
  std::vector<Level> levels_;
  int64_t size_bytes_ = 0;
  int64_t file_count_ = 0;

  Kind kind_ = Kind::kNone;
  TarEntry entry_;
  std::string text_;
  std::unique_ptr<fs::File> file_;
  std::unique_ptr<base::Sha256> sha256_;
};

}  // namespace mlops::archive

#endif  // MLOPS_SERVICE_ARCHIVE_IMPORTER_H_
