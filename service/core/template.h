#ifndef MLOPS_SERVICE_CORE_TEMPLATE_H_
#define MLOPS_SERVICE_CORE_TEMPLATE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "service/core/quota.h"
#include "service/core/usage.h"
#include "service/core/workspace.h"
#include "service/core/yaml_tree.h"

// Templates define the initial content of a workspace.
// `<base>/.templates/<name>/` has template.yaml, which this file parses, and
// `files/`, a tree to copy. Texts in template.yaml and names in `files/` may
// contain the variables `${project}`, `${date}` (YYYY-MM-DD, UTC) and, except
// in names, `${root}`; `$$` stands for `$`.
namespace mlops::core {

// The limits of a template.
inline constexpr int64_t kMaxTemplateYamlBytes = 256 * 1024;
inline constexpr size_t kMaxTemplateDescriptionBytes = 1024;
inline constexpr size_t kMaxTemplateDirectories = 1000;
inline constexpr size_t kMaxListedPaths = 1000;
inline constexpr int64_t kMaxTemplateFiles = 10'000;
inline constexpr int64_t kMaxTemplateFileBytes = int64_t{1} << 30;

// A template with the values of template.yaml, before variables are replaced.
struct Template {
  std::string name;
  std::string description;
  Settings settings;
  Metadata metadata = Metadata::object();
  Quota quota;
  // Directories below the five, as paths relative to the workspace.
  std::vector<std::string> directories;

  // An entry of `files/`. A directory comes before its content.
  struct File {
    enum class Kind { kFile, kDirectory, kLink };
    // Relative to the workspace, before variables are replaced.
    std::string path;
    Kind kind = Kind::kFile;
    // Only for a link.
    std::string target;
    // Only for a file.
    int64_t size_bytes = 0;
  };
  std::vector<File> files;
};
using TemplatePtr = std::shared_ptr<const Template>;

// Returns the paths of the directories and files, sorted, at most
// kMaxListedPaths.
std::vector<std::string> ListedPaths(const Template& tmpl);

// Returns how much the template's files count against a quota.
Amount AmountOf(const Template& tmpl);

// The values of the variables.
struct TemplateVariables {
  std::string project;
  std::string root;
  std::string date;
};
TemplateVariables VariablesFor(const ProjectName& project,
                               absl::string_view root_path, absl::Time now);

// Parses template.yaml into `result`, and checks everything that does not
// depend on the variables' values. Rejects unknown keys.
std::optional<yaml::Problem> ParseTemplate(absl::string_view text,
                                           Template* result);

// Check a path below the workspace, or the target of a relative link at that
// path, before variables are replaced. Return the problem, or "" if there is
// none. Every name must be allowed for artifacts, the first one must be one of
// the five directories, and links must stay inside those.
std::string CheckTemplatePath(absl::string_view path);
std::string CheckTemplateLink(absl::string_view path, absl::string_view target);

// Replaces the variables in a text that ParseTemplate() or CheckTemplatePath()
// has accepted.
std::string Substitute(absl::string_view text,
                       const TemplateVariables& variables);

// Adds the template's values to those of a request, which take precedence: sets
// absent settings and limits, and adds missing top-level metadata keys.
void ApplyTemplate(const Template& tmpl, const TemplateVariables& variables,
                   Settings* settings, Metadata* metadata, Quota* quota);

// A directory below `.staging` with the files of a workspace to be created. The
// destructor removes it unless it has become a workspace.
class StagedFiles {
 public:
  StagedFiles() = default;
  StagedFiles(const StagedFiles&) = delete;
  StagedFiles& operator=(const StagedFiles&) = delete;
  virtual ~StagedFiles() = default;
  // For CreateChange::staged.
  virtual const std::string& name() const = 0;
};

// Loads templates. Thread-safe. Methods read the files on each call, because
// operators edit them by hand.
class TemplateSource {
 public:
  virtual ~TemplateSource() = default;
  // Returns the template `name`. Returns INVALID_ARGUMENT/FIELD_INVALID if no
  // template can have that name, NOT_FOUND/TEMPLATE_NOT_FOUND if it does not
  // exist, and FAILED_PRECONDITION/TEMPLATE_INVALID if it cannot be used.
  virtual absl::StatusOr<TemplatePtr> Load(absl::string_view name) = 0;
  // Stages the template's directories and files durably for a new workspace.
  // Returns null if the template has none. Returns TEMPLATE_INVALID also if the
  // template has changed since Load(), and the errors of fs::Dir.
  virtual absl::StatusOr<std::unique_ptr<StagedFiles>> Fill(
      const Template& tmpl, const TemplateVariables& variables) = 0;
};

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_TEMPLATE_H_
