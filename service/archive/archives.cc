#include "service/archive/archives.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/cpp/base/status_macros.h"
#include "service/artifacts/tree.h"
#include "service/core/errors.h"

namespace mlops::archive {

absl::StatusOr<std::unique_ptr<Exporter>> Archives::Export(
    const ExportArgs& args) {
  ASSIGN_OR_RETURN(core::WorkspacePtr workspace, authority_->Get(args.project));
  ASSIGN_OR_RETURN(artifacts::ArtifactTree tree,
                   artifacts::ArtifactTree::Open(*base_, args.project));
  return std::make_unique<Exporter>(std::move(tree), std::move(workspace),
                                    args.directories, stage_, clock_);
}

absl::StatusOr<ImportStart> Archives::Import(const ImportArgs& args) {
  ASSIGN_OR_RETURN(core::WorkspacePtr existing,
                   authority_->FindRepeated(args.project, args.request_id));
  if (existing != nullptr) return ImportStart{.existing = std::move(existing)};
  // Fail now, before the client sends the archive.
  if (base_->Stat(args.project.str()).ok()) {
    return core::PathUnsuitable(
        args.project.str(), args.project.str(),
        "is a directory without a workspace.yaml; move it away, then retry");
  }
  ASSIGN_OR_RETURN(auto staged, stage_->Begin());
  return ImportStart{.importer = std::make_unique<Importer>(
                         authority_, std::move(staged), args,
                         absl::StrCat(base_path_, "/", args.project.str()))};
}

}  // namespace mlops::archive
