#include "service/artifacts/placer.h"

#include <optional>
#include <utility>
#include <vector>

#include "absl/hash/hash.h"
#include "proto/cpp/base/status_macros.h"
#include "service/core/errors.h"

namespace mlops::core {
namespace {

constexpr size_t kMaxDurableNames = 1024;  // In each stripe.

// For each directory of the chain, what tells this name of this directory in this other one from everything else; none
// where the file system does not tell.
std::vector<std::optional<size_t>> NameKeys(const ArtifactTree& tree, const ArtifactTree::Chain& chain) {
  std::vector<std::optional<size_t>> keys;
  std::string parent = tree.root().Identity();
  for (const ArtifactTree::Step& step : chain) {
    std::string child = step.dir->Identity();
    const bool known = !parent.empty() && !child.empty();
    keys.push_back(known ? std::optional(absl::HashOf(parent, step.name, child)) : std::nullopt);
    parent = std::move(child);
  }
  return keys;
}

}  // namespace

absl::Status CheckReplaceable(const ArtifactTree& tree, const RelativePath& path,
                              const absl::StatusOr<fs::FileStamp>& existing, const Precondition& precondition) {
  const std::string& project = tree.project().str();
  if (absl::IsNotFound(existing.status())) {
    if (precondition.etag.empty()) return absl::OkStatus();
    return ArtifactEtagMismatch(project, path.shown(), precondition.etag, "");
  }
  if (!existing.ok()) return tree.Error(existing.status(), path);
  if (precondition.create_only) return ArtifactExists(project, path.shown());
  RETURN_IF_ERROR(CheckSuitable(tree, path, *existing));
  if (existing->type == fs::EntryType::kDirectory) return PathUnsuitable(project, path.shown(), "is a directory");
  const std::string etag = ArtifactEtag(*existing);
  if (precondition.etag.empty() || precondition.etag == etag) return absl::OkStatus();
  return ArtifactEtagMismatch(project, path.shown(), precondition.etag, etag);
}

Placer::Stripe& Placer::StripeOf(const ProjectName& project) {
  return stripes_[absl::HashOf(project) % stripes_.size()];
}

absl::Status Placer::CheckCurrent(const ArtifactTree& tree) const {
  const auto named = base_->Stat(tree.project().str());
  ASSIGN_OR_RETURN(const fs::FileStamp opened, tree.root().StatSelf());
  if (named.ok() && named->inode == opened.inode && named->device == opened.device) return absl::OkStatus();
  return WorkspaceNotFound(tree.project().str());
}

absl::Status Placer::Change(const ArtifactTree& tree, absl::FunctionRef<absl::Status()> change) {
  absl::MutexLock lock(&StripeOf(tree.project()).mutex);
  RETURN_IF_ERROR(CheckCurrent(tree));
  return change();
}

absl::StatusOr<ArtifactTree::Chain> Placer::MakeParents(const ArtifactTree& tree, const RelativePath& path) {
  Stripe& stripe = StripeOf(tree.project());
  int64_t forgotten = 0;
  {
    absl::MutexLock lock(&stripe.mutex);
    forgotten = stripe.forgotten;
  }
  auto chain = tree.MakeParents(path);
  // In a workspace that is being deleted nothing can be made.
  if (!chain.ok()) RETURN_IF_ERROR(CheckCurrent(tree));
  RETURN_IF_ERROR(chain.status());
  const auto keys = NameKeys(tree, *chain);
  std::vector<size_t> unknown;  // Nobody knows who made these, and whether that was synced.
  {
    absl::MutexLock lock(&stripe.mutex);
    for (size_t i = 0; i < keys.size(); ++i) {
      if (!keys[i] || !stripe.durable.contains(*keys[i])) unknown.push_back(i);
    }
  }
  if (unknown.empty()) return chain;
  for (size_t i : unknown) {
    RETURN_IF_ERROR(health_->Sync(i == 0 ? tree.root() : *(*chain)[i - 1].dir));
  }
  absl::MutexLock lock(&stripe.mutex);
  // A directory that was moved meanwhile was synced where it is not any more.
  if (stripe.forgotten != forgotten) return chain;
  if (stripe.durable.size() >= kMaxDurableNames) stripe.durable.clear();
  for (size_t i : unknown) {
    if (keys[i]) stripe.durable.insert(*keys[i]);
  }
  return chain;
}

absl::StatusOr<fs::FileStamp> Placer::PlaceLocked(const ArtifactTree& tree, fs::Dir& from, absl::string_view name,
                                                  fs::Dir& to, const RelativePath& path,
                                                  const Precondition& precondition) {
  ASSIGN_OR_RETURN(const fs::FileStamp source, from.Stat(name));
  const auto existing = to.Stat(path.name());
  const bool onto_directory = existing.ok() && existing->type == fs::EntryType::kDirectory;
  // Whether a directory may take the place of another, the rename knows best.
  if (source.type != fs::EntryType::kDirectory || !onto_directory || precondition.create_only) {
    RETURN_IF_ERROR(CheckReplaceable(tree, path, existing, precondition));
  }
  if (source.type == fs::EntryType::kDirectory) {
    Stripe& stripe = StripeOf(tree.project());
    stripe.mutex.AssertHeld();
    stripe.durable.clear();
    ++stripe.forgotten;
  }
  const fs::RenameMode mode = precondition.create_only ? fs::RenameMode::kNoReplace : fs::RenameMode::kReplace;
  absl::Status renamed = from.Rename(name, to, path.name(), mode);
  if (absl::IsAlreadyExists(renamed)) return ArtifactExists(tree.project().str(), path.shown());
  if (absl::IsNotFound(renamed) && from.Stat(name).ok()) {
    return WorkspaceBusy(tree.project().str(), "a directory on the way is being removed");
  }
  if (absl::IsNotFound(renamed)) return renamed;
  if (!renamed.ok()) return tree.Error(renamed, path);
  return to.Stat(path.name());
}

absl::StatusOr<fs::FileStamp> Placer::Place(const ArtifactTree& tree, fs::Dir& from, absl::string_view name,
                                            const RelativePath& path, const Precondition& precondition,
                                            absl::FunctionRef<absl::Status()> check) {
  RETURN_IF_ERROR(health_->Check());
  // Durable before the rename: a power cut right after it must not take what was moved away with a directory that
  // nobody has heard of.
  ASSIGN_OR_RETURN(const ArtifactTree::Chain parents, MakeParents(tree, path));
  fs::Dir& to = tree.EndOf(parents);
  absl::StatusOr<fs::FileStamp> placed;
  RETURN_IF_ERROR(Change(tree, [&] {
    RETURN_IF_ERROR(check());
    placed = PlaceLocked(tree, from, name, to, path, precondition);
    return placed.status();
  }));
  RETURN_IF_ERROR(health_->Sync(to));
  return placed;
}

}  // namespace mlops::core
