#include "service/artifacts/artifacts.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/id.h"
#include "proto/cpp/base/sha256.h"
#include "proto/cpp/base/status_macros.h"
#include "service/artifacts/list.h"
#include "service/core/authority.h"
#include "service/core/errors.h"
#include "service/core/layout.h"
#include "service/core/page_token.h"
#include "service/fs/remove_tree.h"

namespace mlops::artifacts {
namespace {

constexpr size_t kChecksumCacheBytes = 4 << 20;
constexpr size_t kDirNamesCacheBytes = 64 << 20;
constexpr size_t kHashBytes = 1 << 20;
// Bytes copied, and entries removed, between two polls of `cancelled`.
constexpr int64_t kCopyStepBytes = 64 << 20;
constexpr int64_t kRemoveStep = 1000;
// Limits of one sweep step: workspaces visited and entries removed. After
// a round over all workspaces, the next round starts after kSweepInterval.
constexpr int kSweptWorkspaces = 200;
constexpr int64_t kSweptEntries = 2000;
constexpr absl::Duration kSweepInterval = absl::Minutes(10);

absl::Status LeftAlone() {
  return absl::CancelledError("the client cancelled the call");
}

absl::Status PartlyRemoved(const RelativePath& path) {
  return absl::CancelledError(absl::StrCat(
      "The deletion of ", base::Echo(path.shown()),
      " was cut off, and a part is left because the directory cannot be "
      "renamed: delete it again"));
}

absl::Status CheckEtag(const ArtifactTree& tree, const RelativePath& path,
                       const std::string& etag, const fs::FileStamp& stamp) {
  const std::string current =
      stamp.type == fs::EntryType::kFile ? ArtifactEtag(stamp) : "";
  if (etag.empty() || etag == current) return absl::OkStatus();
  return core::ArtifactEtagMismatch(tree.project().str(), path.shown(), etag,
                                    current);
}

// The five directories belong to the workspace and are never moved or deleted.
absl::Status CheckNotTop(const RelativePath& path) {
  if (!path.is_top()) return absl::OkStatus();
  return core::PathInvalid(
      path.shown(),
      "is one of the workspace's five directories, which cannot "
      "be replaced, moved or deleted");
}

}  // namespace

Artifacts::Artifacts(core::Catalog* catalog,
                     std::shared_ptr<const fs::Dir> base,
                     const UploadOptions& options)
    : catalog_(catalog),
      base_(std::move(base)),
      clock_(options.clock),
      steady_clock_(options.steady_clock),
      health_(options.health),
      ledger_(options.ledger),
      leases_(options.leases),
      checksums_(kChecksumCacheBytes),
      dir_names_(kDirNamesCacheBytes, clock_),
      placer_(base_.get(), health_.get(), leases_, &claims_),
      uploads_(&placer_, &claims_, options) {}

absl::StatusOr<ArtifactTree> Artifacts::Open(
    const core::ProjectName& project) const {
  // The catalog reports a missing or corrupt workspace with its reason.
  RETURN_IF_ERROR(catalog_->Get(project).status());
  return ArtifactTree::Open(*base_, project);
}

absl::StatusOr<ArtifactTree> Artifacts::OpenForChange(
    const core::ProjectName& project, int64_t fence,
    core::WorkspacePtr* workspace) const {
  RETURN_IF_ERROR(health_->Check());
  ASSIGN_OR_RETURN(core::WorkspacePtr found, catalog_->Get(project));
  // Fail before the client sends any data. Placer checks again at the moment
  // of the change.
  if (leases_ != nullptr)
    RETURN_IF_ERROR(leases_->Check(project, found->uid, fence));
  ASSIGN_OR_RETURN(ArtifactTree tree, ArtifactTree::Open(*base_, project));
  tree.set_permit({.uid = found->uid, .fence = fence});
  if (workspace != nullptr) *workspace = std::move(found);
  return tree;
}

absl::StatusOr<std::unique_ptr<core::UsageLedger::Hold>> Artifacts::BeginGrowth(
    core::WorkspacePtr workspace, core::Cancelled cancelled) {
  if (ledger_ == nullptr) return nullptr;
  return ledger_->BeginGrowth(std::move(workspace), cancelled);
}

std::unique_ptr<core::UsageLedger::Hold> Artifacts::BeginShrinking(
    core::WorkspacePtr workspace) {
  if (ledger_ == nullptr) return nullptr;
  return ledger_->BeginShrinking(std::move(workspace));
}

absl::StatusOr<Artifact> Artifacts::Get(const core::ProjectName& project,
                                        const RelativePath& path, bool checksum,
                                        core::Cancelled cancelled) {
  ASSIGN_OR_RETURN(const ArtifactTree tree, Open(project));
  if (checksum) return Checksum(tree, path, cancelled);
  ASSIGN_OR_RETURN(const fs::FileStamp stamp, tree.StatTarget(path));
  RETURN_IF_ERROR(CheckSuitable(tree, path, stamp));
  return DescribeArtifact(path.shown(), stamp);
}

absl::StatusOr<Artifact> Artifacts::Checksum(const ArtifactTree& tree,
                                             const RelativePath& path,
                                             core::Cancelled cancelled) {
  // Taken before the file is opened, so that the cache can tell whether
  // a change during the read could go unnoticed.
  const absl::Time begin = clock_();
  ASSIGN_OR_RETURN(OpenedArtifact opened, OpenArtifact(tree, path));
  ArtifactReader reader(std::move(opened));
  Artifact artifact = reader.artifact();
  // The stamp of the opened file is the key, so the cache cannot return
  // the checksum of a file that has replaced it.
  artifact.sha256 = checksums_.Find(reader.stamp());
  if (!artifact.sha256.empty()) return artifact;
  base::Sha256 sha256;
  const auto buffer = std::make_unique_for_overwrite<char[]>(kHashBytes);
  while (reader.remaining_bytes() > 0) {
    if (cancelled()) return LeftAlone();
    ASSIGN_OR_RETURN(const size_t got, reader.Read(buffer.get(), kHashBytes));
    sha256.Update(absl::string_view(buffer.get(), got));
  }
  artifact.sha256 = sha256.Finish();
  checksums_.Put(reader.stamp(), begin, artifact.sha256);
  return artifact;
}

absl::StatusOr<ArtifactPage> Artifacts::List(const ListArtifactsArgs& args) {
  ASSIGN_OR_RETURN(const ArtifactTree tree, Open(args.project));
  const std::string top = args.path ? args.path->on_disk() : "";
  // A page token is valid only for the same arguments.
  const std::string context = absl::StrCat("artifacts\n", args.project.str(),
                                           "\n", args.recursive, "\n", top);
  std::string after;
  if (!args.page_token.empty()) {
    ASSIGN_OR_RETURN(after, core::OpenToken(args.page_token, context));
  }
  const int page_size = args.page_size == 0
                            ? core::kDefaultPageSize
                            : std::min(args.page_size, core::kMaxPageSize);
  // Without a path, list the workspace itself, which is already open.
  std::unique_ptr<fs::Dir> opened;
  if (args.path) {
    ASSIGN_OR_RETURN(opened, tree.OpenDir(*args.path));
  }
  const fs::Dir& dir = args.path ? *opened : tree.root();
  auto page = ListTree(dir, top, args.recursive, after,
                       static_cast<size_t>(page_size), &dir_names_);
  if (!page.ok())
    return args.path ? tree.Error(page.status(), *args.path) : page.status();
  ArtifactPage result{.artifacts = std::move(page->artifacts)};
  // The token holds the last path relative to the listed directory.
  const absl::string_view last =
      absl::string_view(page->last)
          .substr(
              std::min(page->last.size(), top.empty() ? 0 : top.size() + 1));
  if (page->more) result.next_page_token = core::SealToken(last, context);
  return result;
}

absl::StatusOr<std::unique_ptr<ArtifactReader>> Artifacts::OpenForRead(
    const ReadArgs& args) {
  ASSIGN_OR_RETURN(const ArtifactTree tree, Open(args.project));
  ASSIGN_OR_RETURN(OpenedArtifact opened, OpenArtifact(tree, args.path));
  RETURN_IF_ERROR(CheckEtag(tree, args.path, args.etag, opened.stamp));
  const int64_t size = opened.stamp.size_bytes;
  if (args.offset > size)
    return core::OffsetOutOfRange(args.project.str(), args.path.shown(),
                                  args.offset, size);
  const int64_t rest = size - args.offset;
  const int64_t wanted = args.limit > 0 ? std::min(args.limit, rest) : rest;
  return std::make_unique<ArtifactReader>(std::move(opened), args.offset,
                                          wanted);
}

absl::StatusOr<std::unique_ptr<UploadWriter>> Artifacts::OpenForWrite(
    const WriteArgs& args, core::Cancelled cancelled) {
  RETURN_IF_ERROR(CheckNotTop(args.path));
  core::WorkspacePtr workspace;
  ASSIGN_OR_RETURN(ArtifactTree tree,
                   OpenForChange(args.project, args.fence, &workspace));
  ASSIGN_OR_RETURN(auto hold, BeginGrowth(std::move(workspace), cancelled));
  return uploads_.Open(std::move(tree), args, std::move(hold), cancelled);
}

absl::StatusOr<std::optional<Artifact>> Artifacts::DiscardUpload(
    const WriteArgs& args) {
  ASSIGN_OR_RETURN(const ArtifactTree tree,
                   OpenForChange(args.project, args.fence));
  return uploads_.Discard(tree, args);
}

absl::StatusOr<UploadState> Artifacts::GetUpload(
    const core::ProjectName& project, const std::string& upload_id) {
  ASSIGN_OR_RETURN(const ArtifactTree tree, Open(project));
  return uploads_.Get(tree, upload_id);
}

// --- Changes of names --------------------------------------------------------

absl::StatusOr<DeletedArtifacts> Artifacts::Delete(
    const DeleteArtifactArgs& args, core::Cancelled cancelled) {
  RETURN_IF_ERROR(CheckNotTop(args.path));
  core::WorkspacePtr workspace;
  ASSIGN_OR_RETURN(const ArtifactTree tree,
                   OpenForChange(args.project, args.fence, &workspace));
  const auto hold = BeginShrinking(std::move(workspace));
  auto parent = tree.OpenParent(args.path);
  auto stamp =
      parent.ok() ? (*parent)->Stat(args.path.name()) : parent.status();
  // If a parent is missing, so is the artifact.
  if (absl::IsNotFound(stamp.status())) {
    if (args.allow_missing) return DeletedArtifacts{};
    return core::ArtifactNotFound(args.project.str(), args.path.shown());
  }
  RETURN_IF_ERROR(stamp.status());
  // A tree may be large, so remove it in steps, without holding the lock
  // throughout.
  if (stamp->type == fs::EntryType::kDirectory && args.force)
    return RemoveAside(tree, **parent, args, hold.get(), cancelled);
  // The checks and the removal form one step with respect to other changes,
  // so the etag is checked again there.
  absl::Status removed = placer_.Change(tree, [&] {
    ASSIGN_OR_RETURN(stamp, (*parent)->Stat(args.path.name()));
    RETURN_IF_ERROR(CheckEtag(tree, args.path, args.etag, *stamp));
    return stamp->type == fs::EntryType::kDirectory
               ? (*parent)->RemoveDir(args.path.name())
               : (*parent)->RemoveFile(args.path.name());
  });
  // RemoveDir() fails with this code if the directory is not empty.
  if (absl::IsAlreadyExists(removed))
    return core::ArtifactForceRequired(args.project.str(), args.path.shown());
  if (!removed.ok()) return tree.Error(removed, args.path);
  if (hold != nullptr) hold->Removed(AmountOf(stamp));
  // The deletion is acknowledged only once it is durable.
  RETURN_IF_ERROR(health_->Sync(**parent));
  if (stamp->type != fs::EntryType::kFile) return DeletedArtifacts{};
  return DeletedArtifacts{.file_count = 1, .size_bytes = stamp->size_bytes};
}

absl::StatusOr<Artifacts::Aside> Artifacts::SetAside(const ArtifactTree& tree,
                                                     fs::Dir& parent,
                                                     absl::string_view name,
                                                     const std::string& id) {
  const auto rename = [&](fs::Dir& to, const std::string& to_name) {
    absl::Status renamed =
        parent.Rename(name, to, to_name, fs::RenameMode::kNoReplace);
    // A file system may report a failure although it has done the rename.
    const bool done =
        renamed.ok() ||
        (absl::IsNotFound(parent.Stat(name).status()) && to.Stat(to_name).ok());
    return done ? absl::OkStatus() : renamed;
  };
  auto uploads = tree.OpenUploads();
  absl::Status moved = uploads.status();
  if (uploads.ok()) {
    const std::string removed = absl::StrCat(id, core::layout::kRemovedSuffix);
    moved = rename(**uploads, removed);
    fs::Dir* const dir = uploads->get();
    if (moved.ok())
      return Aside{.dir = dir, .name = removed, .opened = *std::move(uploads)};
  }
  // On a full disk the hidden directory may be impossible to create. A rename
  // into the workspace's directory needs no inode.
  if (absl::IsResourceExhausted(moved)) {
    const std::string hidden = core::layout::FormatHiddenArtifact(id);
    moved = rename(tree.root(), hidden);
    if (moved.ok()) return Aside{.dir = &tree.root(), .name = hidden};
  }
  // Neither rename is possible, so remove the directory where it is.
  if (fs::IsCrossDevice(moved) || absl::IsResourceExhausted(moved))
    return Aside{.dir = &parent, .name = std::string(name), .in_place = true};
  return moved;
}

// Renames the directory first, so that it disappears at once, although removing
// its content may take long.
absl::StatusOr<DeletedArtifacts> Artifacts::RemoveAside(
    const ArtifactTree& tree, fs::Dir& parent, const DeleteArtifactArgs& args,
    core::UsageLedger::Hold* hold, core::Cancelled cancelled) {
  const std::string id = base::RandomId();
  // The claim keeps the sweeper away until this call ends.
  auto claim = claims_.TryClaim(tree, id);
  Aside aside;
  const auto set_aside = [&]() -> absl::Status {
    absl::Status moved = placer_.Change(tree, [&]() -> absl::Status {
      ASSIGN_OR_RETURN(const fs::FileStamp stamp,
                       parent.Stat(args.path.name()));
      RETURN_IF_ERROR(CheckEtag(tree, args.path, args.etag, stamp));
      ASSIGN_OR_RETURN(aside, SetAside(tree, parent, args.path.name(), id));
      return absl::OkStatus();
    });
    if (!moved.ok()) return tree.Error(moved, args.path);
    return health_->Sync(parent);
  };
  RETURN_IF_ERROR(set_aside());
  DeletedArtifacts deleted;
  // Check between steps whether the caller has cancelled; the sweeper then
  // removes the rest.
  while (true) {
    if (cancelled()) {
      claim.reset();
      AddUnfinished(args.project);
      return aside.in_place ? PartlyRemoved(args.path) : LeftAlone();
    }
    absl::StatusOr<fs::RemovedTree> step;
    const auto remove = [&] {
      step = fs::RemoveTree(*aside.dir, aside.name, kRemoveStep);
      return step.status();
    };
    // In place, readers see each step, so it takes the lock and checks
    // the lease like any other change.
    RETURN_IF_ERROR(aside.in_place ? placer_.Change(tree, remove) : remove());
    const fs::RemovedTree& removed = *step;
    deleted.file_count += removed.file_count;
    deleted.size_bytes += removed.size_bytes;
    if (hold != nullptr) {
      hold->Removed(
          {.file_count = removed.file_count, .size_bytes = removed.size_bytes});
    }
    if (removed.complete) break;
    if (!aside.in_place) continue;
    // The step may have freed enough space for the rename.
    absl::Status again = set_aside();
    // Someone else has removed the rest, or the whole workspace.
    if (absl::IsNotFound(again)) break;
    RETURN_IF_ERROR(again);
  }
  // The name has disappeared only now, after the last sync.
  if (aside.in_place) RETURN_IF_ERROR(health_->Sync(parent));
  return deleted;
}

absl::StatusOr<Artifact> Artifacts::Move(const TransferArgs& args) {
  RETURN_IF_ERROR(CheckNotTop(args.path));
  RETURN_IF_ERROR(CheckNotTop(args.destination));
  core::WorkspacePtr workspace;
  ASSIGN_OR_RETURN(const ArtifactTree tree,
                   OpenForChange(args.project, args.fence, &workspace));
  // A move adds nothing to the usage, but it may replace a file.
  const auto hold = BeginShrinking(std::move(workspace));
  ASSIGN_OR_RETURN(const auto parent, tree.OpenParent(args.path));
  ASSIGN_OR_RETURN(fs::FileStamp stamp, tree.Stat(args.path));
  // Runs again under the lock, right before the rename.
  const auto check = [&]() -> absl::Status {
    auto current = parent->Stat(args.path.name());
    if (!current.ok()) return tree.Error(current.status(), args.path);
    stamp = *current;
    RETURN_IF_ERROR(CheckSuitable(tree, args.path, stamp));
    return CheckEtag(tree, args.path, args.etag, stamp);
  };
  RETURN_IF_ERROR(check());
  // Moving an artifact to its own name is a no-op.
  const bool same = args.destination.on_disk() == args.path.on_disk();
  if (same && args.create_only)
    return core::ArtifactExists(args.project.str(), args.destination.shown());
  if (same) return DescribeArtifact(args.destination.shown(), stamp);
  // Check here, because rename(2) reports this only as EINVAL.
  if (stamp.type == fs::EntryType::kDirectory &&
      args.destination.IsWithin(args.path)) {
    return core::PathInvalid(args.destination.shown(),
                             "is inside the directory to move");
  }
  const auto placed = placer_.Place(
      tree, *parent, args.path.name(), args.destination,
      {.create_only = args.create_only}, check, {.hold = hold.get()});
  if (!placed.ok()) return tree.Error(placed.status(), args.path);
  // Place() has synced the destination; the removal of the old name must
  // be durable too.
  RETURN_IF_ERROR(health_->Sync(*parent));
  return DescribeArtifact(args.destination.shown(), *placed);
}

absl::Status Artifacts::CopyBytes(fs::File& to, ArtifactReader& from,
                                  core::Cancelled cancelled) const {
  while (from.remaining_bytes() > 0) {
    if (cancelled()) return LeftAlone();
    RETURN_IF_ERROR(from.CopyTo(to, kCopyStepBytes));
  }
  // The content must be durable before the file gets its name.
  return to.Sync();
}

absl::StatusOr<Artifact> Artifacts::Copy(const TransferArgs& args,
                                         core::Cancelled cancelled) {
  RETURN_IF_ERROR(CheckNotTop(args.path));
  RETURN_IF_ERROR(CheckNotTop(args.destination));
  core::WorkspacePtr workspace;
  ASSIGN_OR_RETURN(const ArtifactTree tree,
                   OpenForChange(args.project, args.fence, &workspace));
  ASSIGN_OR_RETURN(OpenedArtifact opened, OpenArtifact(tree, args.path));
  RETURN_IF_ERROR(CheckEtag(tree, args.path, args.etag, opened.stamp));
  ArtifactReader reader(std::move(opened));
  const Precondition precondition{.create_only = args.create_only};
  // Check before copying, so that a copy that cannot be placed costs nothing.
  // Place() checks again.
  const auto existing = tree.Stat(args.destination);
  RETURN_IF_ERROR(
      CheckReplaceable(tree, args.destination, existing, precondition));
  ASSIGN_OR_RETURN(const auto hold,
                   BeginGrowth(std::move(workspace), cancelled));
  // Reserve before copying, so that a copy that exceeds the quota costs
  // nothing.
  if (hold != nullptr) {
    RETURN_IF_ERROR(hold->Reserve(AmountOf(reader.stamp()) - AmountOf(existing),
                                  cancelled));
  }
  ASSIGN_OR_RETURN(const auto uploads, tree.OpenUploads());
  const std::string id = base::RandomId();
  const std::string name = absl::StrCat(id, core::layout::kTempSuffix);
  // The claim keeps the sweep from removing the staged copy.
  const auto claim = claims_.TryClaim(tree, id);
  ASSIGN_OR_RETURN(auto file, uploads->CreateFile(name));
  // As cp(1) does: the copy keeps the permissions of the file that it replaces;
  // a new file gets those of the source.
  const uint32_t mode = existing.ok() ? existing->mode : reader.stamp().mode;
  absl::Status copied = file->SetMode(mode);
  if (copied.ok()) copied = CopyBytes(*file, reader, cancelled);
  // Placing the file makes it visible; if anything fails, the staged
  // copy is removed.
  const auto place = [&]() -> absl::StatusOr<fs::FileStamp> {
    RETURN_IF_ERROR(copied);
    return placer_.Place(tree, *uploads, name, args.destination, precondition,
                         [] { return absl::OkStatus(); },
                         {.hold = hold.get(), .staged = file.get()});
  };
  const auto placed = place();
  if (placed.ok()) return DescribeArtifact(args.destination.shown(), *placed);
  file.reset();
  uploads->RemoveFile(name).IgnoreError();
  return tree.Error(placed.status(), args.destination);
}

absl::StatusOr<Artifact> Artifacts::MakeDirectory(
    const core::ProjectName& project, const RelativePath& path, int64_t fence) {
  ASSIGN_OR_RETURN(const ArtifactTree tree, OpenForChange(project, fence));
  ASSIGN_OR_RETURN(const auto opened, placer_.MakeParents(tree, path));
  fs::Dir& parent = opened == nullptr ? tree.root() : *opened;
  absl::Status made;
  RETURN_IF_ERROR(placer_.Change(tree, [&] {
    made = parent.MakeDir(path.name());
    return absl::OkStatus();
  }));
  if (!made.ok() && !absl::IsAlreadyExists(made)) return tree.Error(made, path);
  // If the name exists, another caller may have created the directory,
  // or the entry is something else.
  ASSIGN_OR_RETURN(const fs::FileStamp stamp, tree.Stat(path));
  if (stamp.type != fs::EntryType::kDirectory)
    return core::PathUnsuitable(project.str(), path.shown(),
                                "is not a directory");
  // Sync even if the directory existed: its creator may not have done so yet.
  RETURN_IF_ERROR(health_->Sync(parent));
  return DescribeArtifact(path.shown(), stamp);
}

// --- Maintenance -------------------------------------------------------------

void Artifacts::AddUnfinished(const core::ProjectName& project) {
  absl::MutexLock lock(&unfinished_mutex_);
  unfinished_.insert(project);
}

Uploads::Swept Artifacts::SweepProject(const core::ProjectName& project,
                                       int64_t* budget) {
  const auto tree = ArtifactTree::Open(*base_, project);
  // The workspace may have been deleted since it was listed.
  if (!tree.ok()) return {};
  const auto swept = uploads_.Sweep(*tree, *budget);
  // Best effort: the next round retries.
  if (!swept.ok()) return {};
  *budget -= swept->entry_count;
  return *swept;
}

void Artifacts::SweepUnfinished(int64_t* budget) {
  while (*budget > 0) {
    std::optional<core::ProjectName> project;
    {
      absl::MutexLock lock(&unfinished_mutex_);
      if (unfinished_.empty()) return;
      // Remove it first, so that a concurrent AddUnfinished() is not lost.
      project = unfinished_.extract(unfinished_.begin()).value();
    }
    if (SweepProject(*project, budget).more) return AddUnfinished(*project);
  }
}

void Artifacts::SweepInTurn(int64_t* budget) {
  // A round visits all workspaces, one page per call, and then pauses.
  if (steady_clock_() < next_round_) return;
  const auto page =
      catalog_->List({.page_size = kSweptWorkspaces, .after = swept_});
  if (!page.ok()) return;
  for (const core::WorkspacePtr& workspace : page->workspaces) {
    const Uploads::Swept swept = SweepProject(workspace->project, budget);
    unfinished_in_round_ += swept.unfinished_count;
    if (swept.more) AddUnfinished(workspace->project);
    swept_ = core::MakeOrderKey(*workspace, core::OrderField::kProject);
  }
  if (page->more) return;
  // The round is complete: publish its count, and pause.
  swept_.reset();
  unfinished_uploads_.store(std::exchange(unfinished_in_round_, 0),
                            std::memory_order_relaxed);
  next_round_ = steady_clock_() + kSweepInterval;
}

void Artifacts::SweepSome() {
  // After a failed sync, change nothing more.
  if (!health_->Check().ok()) return;
  int64_t budget = kSweptEntries;
  SweepUnfinished(&budget);
  SweepInTurn(&budget);
}

}  // namespace mlops::artifacts
