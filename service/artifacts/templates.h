#ifndef MLOPS_SERVICE_ARTIFACTS_TEMPLATES_H_
#define MLOPS_SERVICE_ARTIFACTS_TEMPLATES_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "service/artifacts/stage.h"
#include "service/core/template.h"
#include "service/fs/dir.h"

namespace mlops::artifacts {

// A template in a list.
struct ListedTemplate {
  // Only the name is set if there is a `problem`.
  core::TemplatePtr tmpl;
  // Why the template cannot be used; OK if it can.
  absl::Status problem;
};

struct TemplatePage {
  std::vector<ListedTemplate> templates;
  std::string next_page_token;
};

// The templates in `<base>/.templates`. Reads the files at each call,
// up to the limits in core/template.h. Thread-safe.
class Templates : public core::TemplateSource {
 public:
  // `stage` must outlive this.
  Templates(std::shared_ptr<const fs::Dir> base, Stage* stage)
      : base_(std::move(base)), stage_(stage) {}

  absl::StatusOr<core::TemplatePtr> Load(absl::string_view name) override;
  absl::StatusOr<std::unique_ptr<core::StagedFiles>> Fill(
      const core::Template& tmpl,
      const core::TemplateVariables& variables) override;

  // Returns one page in byte order of the names. Omits hidden entries
  // of `.templates` and files; a symbolic link is listed with a problem.
  // Returns INVALID_ARGUMENT/FIELD_INVALID or TOKEN_INVALID if the arguments
  // are ill-formed, CANCELLED once `cancelled` returns true, and the errors
  // of fs::Dir.
  absl::StatusOr<TemplatePage> List(int page_size, absl::string_view page_token,
                                    core::Cancelled cancelled);

 private:
  absl::StatusOr<std::unique_ptr<fs::Dir>> Open(absl::string_view name) const;
  absl::Status CopyFiles(const fs::Dir& from, const core::Template& tmpl,
                         const core::TemplateVariables& variables,
                         StagedTree& to) const;

  const std::shared_ptr<const fs::Dir> base_;
  Stage* const stage_;
};

}  // namespace mlops::artifacts

#endif  // MLOPS_SERVICE_ARTIFACTS_TEMPLATES_H_
