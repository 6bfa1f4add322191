#ifndef MLOPS_SERVICE_ARCHIVE_MANIFEST_H_
#define MLOPS_SERVICE_ARCHIVE_MANIFEST_H_

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "service/core/workspace.h"

namespace mlops::archive {

// Maximum size of a manifest: metadata and settings of the greatest size fit
// even if each of their characters is escaped.
inline constexpr int64_t kMaxManifestBytes = 1 << 20;

// A setting as an archive stores it, in a form that fits the imported
// workspace, whatever its name and place.
struct ArchivedSetting {
  enum class Kind {
    // The workspace has no such setting.
    kAbsent,
    // The default, which follows from the workspace's name and place.
    kDefault,
    // `text` follows the path of the workspace's directory.
    kBelowRoot,
    kText,
  };
  Kind kind = Kind::kAbsent;
  std::string text;
};

// The content of manifest.json. Depends only on the workspace's content,
// not on its place, its uid or the time.
struct Manifest {
  core::ProjectName project;
  // In the order of core::kSettingFields.
  std::array<ArchivedSetting, core::kSettingFields.size()> settings;
  core::Metadata metadata = core::Metadata::object();
  core::Quota quota;
  // The directories whose content is in the archive.
  std::vector<std::string> directories;
};

Manifest MakeManifest(const core::Workspace& workspace,
                      std::vector<std::string> directories);

// Returns the settings of a workspace at `root_path`.
core::Settings SettingsFor(const Manifest& manifest,
                           const core::ProjectName& project,
                           absl::string_view root_path);

// Returns the manifest as JSON: the same bytes for the same manifest.
std::string EncodeManifest(const Manifest& manifest);

// Returns INVALID_ARGUMENT/ARCHIVE_INVALID {entry, problem} if `text` is not
// the manifest of an archive that this version can read. Settings and metadata
// have correct types, but are not checked otherwise.
absl::StatusOr<Manifest> DecodeManifest(absl::string_view text);

}  // namespace mlops::archive

#endif  // MLOPS_SERVICE_ARCHIVE_MANIFEST_H_
