#ifndef MLOPS_SERVICE_CORE_UPDATE_RULES_H_
#define MLOPS_SERVICE_CORE_UPDATE_RULES_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "service/core/workspace.h"

// The rules of what a workspace may be and how an update changes it. Pure and
// thread-safe.
namespace mlops::core {

// There are six paths, each of which may come once.
inline constexpr size_t kMaxMaskPaths = 16;
// Twice as many as the largest metadata can have.
inline constexpr size_t kMaxRemovedKeys = 32 * 1024;

// What UpdateWorkspace asks for.
struct UpdateSpec {
  Settings settings;
  Metadata metadata = Metadata::object();
  // Absent: set the settings that are present, merge the metadata. Present: the
  // fields that are replaced by what is given, cleared where nothing is: names
  // of settings, "metadata", or "*" alone for all of them, with which absent
  // settings get their defaults.
  std::optional<std::vector<std::string>> mask;
  std::vector<std::string> remove_metadata;
};

// What Create and Ensure ask for.
struct NewWorkspaceSpec {
  ProjectName project;
  std::string root_path;
  std::string uid;
  std::string request_id;
  Settings settings;
  Metadata metadata = Metadata::object();
};

// INVALID_ARGUMENT/FIELD_INVALID if a setting is longer than kMaxSettingBytes,
// or has control characters.
absl::Status CheckSettings(const Settings& settings);

// FIELD_INVALID if settings break CheckSettings() or metadata CheckMetadata(),
// a mask path is unknown, output only, or stands beside "*", a key is both in
// `metadata` and in `remove_metadata`, or there are too many of either.
absl::Status CheckUpdateSpec(const UpdateSpec& spec);

// The workspace that Create makes: absent settings have their defaults.
// FIELD_INVALID as CheckSettings(), CheckMetadata() and CheckReadable().
absl::StatusOr<Workspace> NewWorkspace(NewWorkspaceSpec spec, absl::Time now);

// `current` after the update, or nullopt if that is what it is already. Its
// update_time is `now`, and later than before also if the clock went back.
// FIELD_INVALID as CheckUpdateSpec(), and as CheckMetadata() and
// CheckReadable() of the result.
absl::StatusOr<std::optional<Workspace>> ApplyUpdate(const Workspace& current,
                                                     const UpdateSpec& spec,
                                                     absl::Time now);

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_UPDATE_RULES_H_
