#include "service/core/authority.h"

#include <algorithm>
#include <iterator>
#include <memory>
#include <utility>

#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "proto/cpp/base/id.h"
#include "proto/cpp/base/status_macros.h"
#include "service/core/errors.h"
#include "service/core/layout.h"
#include "service/core/page_token.h"
#include "service/core/quota.h"
#include "service/core/usage_ledger.h"
#include "service/core/workspace_yaml.h"

namespace mlops::core {
namespace {

// Maximum number of attempts of an update that conflicts with manual edits.
constexpr int kUpdateTries = 5;
// Maximum number of leases that one EndExpiredLeases() ends, because ending one
// may wait for the disk.
constexpr size_t kMaxExpired = 100;
// A uid that no workspace has.
constexpr absl::string_view kNoUid = "-";

absl::Status CheckUid(const Workspace& workspace, const std::string& uid) {
  if (uid.empty() || workspace.uid == uid) return absl::OkStatus();
  return WorkspaceNotFound(workspace.project.str());
}

absl::Status CheckEtag(const Workspace& workspace, const std::string& etag) {
  if (etag.empty() || workspace.etag == etag) return absl::OkStatus();
  return EtagMismatch(workspace.project.str(), etag, workspace.etag);
}

}  // namespace

Authority::Authority(Catalog* catalog, UsageScanner scanner,
                     std::string base_path, base::Clock clock,
                     base::SteadyClock steady_clock, Leases* leases)
    : catalog_(catalog),
      base_path_(std::move(base_path)),
      clock_(std::move(clock)),
      status_cache_(std::move(scanner), steady_clock),
      own_leases_(
          leases != nullptr
              ? nullptr
              : std::make_unique<Leases>(Leases::Options{
                    .clock = clock_, .steady_clock = std::move(steady_clock)})),
      leases_(leases != nullptr ? leases : own_leases_.get()) {}

absl::Mutex& Authority::Stripe(const ProjectName& project) {
  return stripes_[absl::HashOf(project) % stripes_.size()];
}

absl::StatusOr<Workspace> Authority::NewFrom(const CreateArgs& args) const {
  RETURN_IF_ERROR(CheckNewName(args.project));
  return NewWorkspace(
      {.project = args.project,
       .root_path = absl::StrCat(base_path_, "/", args.project.str()),
       .uid = base::RandomId(),
       .request_id = args.request_id,
       .settings = args.settings,
       .exact_settings = args.exact_settings,
       .metadata = args.metadata,
       .quota = args.quota,
       .unknown_keys = args.unknown_keys},
      clock_());
}

void Authority::SetTemplates(TemplateSource* source,
                             std::string default_template) {
  templates_ = source;
  default_template_ = std::move(default_template);
}

const std::string& Authority::TemplateOf(const CreateArgs& args) const {
  // A filled directory is complete.
  const bool use_default = args.template_name.empty() && args.staged.empty();
  return use_default ? default_template_ : args.template_name;
}

absl::StatusOr<Authority::Prepared> Authority::Prepare(CreateArgs args) const {
  Prepared prepared{.args = std::move(args)};
  if (const std::string& name = TemplateOf(prepared.args); !name.empty()) {
    if (templates_ == nullptr) return TemplateNotFound(name);
    // Validate the request alone first, so that its errors do not depend on the
    // template.
    RETURN_IF_ERROR(NewFrom(prepared.args).status());
    ASSIGN_OR_RETURN(prepared.tmpl, templates_->Load(name));
    ApplyTemplate(*prepared.tmpl, Variables(prepared.args.project),
                  &prepared.args.settings, &prepared.args.metadata,
                  &prepared.args.quota);
  }
  // Valid parts may exceed a limit together.
  RETURN_IF_ERROR(NewFrom(prepared.args).status());
  return prepared;
}

absl::Status Authority::Fill(Prepared& prepared) const {
  if (prepared.tmpl == nullptr) return absl::OkStatus();
  // A new workspace uses nothing yet.
  RETURN_IF_ERROR(CheckQuota(prepared.args.project.str(), prepared.args.quota,
                             /*used=*/{}, AmountOf(*prepared.tmpl)));
  if (prepared.args.validate_only) return absl::OkStatus();
  ASSIGN_OR_RETURN(
      prepared.files,
      templates_->Fill(*prepared.tmpl, Variables(prepared.args.project)));
  if (prepared.files != nullptr) prepared.args.staged = prepared.files->name();
  return absl::OkStatus();
}

TemplateVariables Authority::Variables(const ProjectName& project) const {
  return VariablesFor(project, absl::StrCat(base_path_, "/", project.str()),
                      clock_());
}

absl::StatusOr<WorkspacePtr> Authority::Create(const CreateArgs& args) {
  if (!UsesTemplate(args)) {
    absl::MutexLock lock(&Stripe(args.project));
    return CreateLocked(args);
  }
  ASSIGN_OR_RETURN(Prepared prepared, Prepare(args));
  // Copy the template's files only if the name is free, and before taking the
  // lock, because the copy can take long.
  const auto is_free = [&] {
    return absl::IsNotFound(catalog_->Get(args.project).status());
  };
  const bool filled = is_free();
  if (filled) RETURN_IF_ERROR(Fill(prepared));
  absl::MutexLock lock(&Stripe(args.project));
  // The name has become free since, but the template's files are not staged.
  if (!filled && is_free())
    return WorkspaceBusy(args.project.str(), "a deletion");
  return CreateLocked(prepared.args);
}

absl::StatusOr<WorkspacePtr> Authority::CreateLocked(const CreateArgs& args) {
  ASSIGN_OR_RETURN(Workspace workspace, NewFrom(args));
  // Look before committing. Otherwise the commit would write a whole workspace
  // to disk only to find that the name is taken.
  absl::StatusOr<WorkspacePtr> existing = catalog_->Get(args.project);
  if (existing.ok()) {
    // A retry of the request that created the workspace succeeds.
    if (!args.request_id.empty() && (*existing)->request_id == args.request_id)
      return existing;
    return WorkspaceExists(args.project.str(), (*existing)->uid);
  }
  if (!absl::IsNotFound(existing.status())) return existing.status();
  if (args.validate_only)
    return std::make_shared<const Workspace>(std::move(workspace));
  ASSIGN_OR_RETURN(CommitResult result, catalog_->Commit(CreateChange{
                                            .workspace = std::move(workspace),
                                            .staged = args.staged}));
  return std::move(result.workspace);
}

absl::StatusOr<WorkspacePtr> Authority::FindRepeated(
    const ProjectName& project, const std::string& request_id) {
  absl::StatusOr<WorkspacePtr> existing = catalog_->Get(project);
  if (absl::IsNotFound(existing.status())) return nullptr;
  RETURN_IF_ERROR(existing.status());
  if (!request_id.empty() && (*existing)->request_id == request_id)
    return existing;
  return WorkspaceExists(project.str(), (*existing)->uid);
}

CreateArgs Authority::ArgsOfClone(const Workspace& source,
                                  const ProjectName& destination) const {
  return {.project = destination,
          .settings = SettingsOfCopy(
              source,
              {.project = destination,
               .root_path = absl::StrCat(base_path_, "/", destination.str())}),
          .metadata = source.metadata,
          .quota = source.quota,
          .unknown_keys = source.unknown_keys};
}

absl::StatusOr<WorkspacePtr> Authority::Get(const ProjectName& project) {
  return catalog_->Get(project);
}

absl::StatusOr<WorkspacePtr> Authority::EnsureExisting(const CreateArgs& args) {
  // Validate the request as if the workspace were new, so that an invalid one
  // fails the same way whether or not the workspace exists.
  RETURN_IF_ERROR(NewFrom(args).status());
  return catalog_->Get(args.project);
}

absl::StatusOr<EnsureResult> Authority::Ensure(const CreateArgs& args) {
  // Validates the request too, as EnsureExisting() does without a template.
  std::optional<Prepared> prepared;
  if (UsesTemplate(args)) {
    ASSIGN_OR_RETURN(prepared, Prepare(args));
  }
  absl::StatusOr<WorkspacePtr> existing =
      prepared ? catalog_->Get(args.project) : EnsureExisting(args);
  // Take the lock only to create, because nearly all calls find the workspace.
  if (absl::IsNotFound(existing.status())) {
    if (prepared) RETURN_IF_ERROR(Fill(*prepared));
    absl::MutexLock lock(&Stripe(args.project));
    absl::StatusOr<WorkspacePtr> created =
        CreateLocked(prepared ? prepared->args : args);
    if (created.ok())
      return EnsureResult{.workspace = *std::move(created), .created = true};
    if (!absl::IsAlreadyExists(created.status())) return created.status();
    // Another caller has created it meanwhile.
    existing = catalog_->Get(args.project);
  }
  RETURN_IF_ERROR(existing.status());
  return EnsureResult{.workspace = *std::move(existing)};
}

absl::StatusOr<ListResult> Authority::List(const ListArgs& args,
                                           Cancelled cancelled,
                                           PageTaker take) {
  if (args.page_size < 0)
    return FieldInvalid("page_size", "must not be negative");
  ASSIGN_OR_RETURN(const Order order, ParseOrderBy(args.order_by));
  // A page token is valid only with the arguments and caller of the first page.
  const PageContext context{.order = order,
                            .filter = args.filter.text(),
                            .show_deleted = args.show_deleted,
                            .caller = args.sight.caller};
  ListQuery query{.order = order,
                  .page_size = args.page_size == 0
                                   ? kDefaultPageSize
                                   : std::min(args.page_size, kMaxPageSize),
                  .show_deleted = args.show_deleted};
  PageStart start;
  if (!args.page_token.empty()) {
    ASSIGN_OR_RETURN(start, DecodePageToken(args.page_token, context));
    query.after = start.after;
  }
  // Without a restriction, the catalog's index serves the page and the total
  // without looking at other workspaces.
  const bool all = args.filter.matches_all() && args.sight.everything();
  ASSIGN_OR_RETURN(
      ListPage page,
      all ? catalog_->List(query)
          : ListMatching(args, query, start.matching_count, cancelled));
  // The page ends before the first workspace that does not fit.
  size_t taken = 0;
  while (taken < page.workspaces.size() &&
         take(*page.workspaces[taken], page.workspaces.size() - taken))
    ++taken;
  page.more = page.more || taken < page.workspaces.size();
  page.workspaces.resize(taken);
  ListResult result{.workspaces = std::move(page.workspaces),
                    .total_size = page.total_size,
                    .unreachable = std::move(page.unreachable)};
  // The token holds the key of the last workspace on this page. The next page
  // begins after that key, even if the workspace has been deleted meanwhile.
  if (page.more && taken > 0) {
    start = {.after = MakeOrderKey(*result.workspaces.back(), order.field),
             .matching_count = all ? 0 : result.total_size};
    result.next_page_token = EncodePageToken(start, context);
  }
  return result;
}

// Returns the page of visible workspaces that match the filter. Evaluates a
// thousand workspaces at a time, outside the catalog's lock, so that other
// callers never wait for long. The first page scans to the end to count all
// matches; later pages take the count from `matching_count`.
absl::StatusOr<ListPage> Authority::ListMatching(const ListArgs& args,
                                                 ListQuery query,
                                                 int64_t matching_count,
                                                 Cancelled cancelled) {
  const bool first_page = !query.after.has_value();
  const size_t wanted = static_cast<size_t>(query.page_size);
  query.page_size = kMaxPageSize;
  const auto sees = [&sight = args.sight](absl::string_view project) {
    return sight.everything() || sight.sees(project);
  };
  ListPage result;
  while (true) {
    const bool first_chunk = !query.after.has_value();
    ASSIGN_OR_RETURN(ListPage chunk, catalog_->List(query));
    // The catalog lists unreachable projects only at the start.
    if (first_chunk) {
      std::copy_if(chunk.unreachable.begin(), chunk.unreachable.end(),
                   std::back_inserter(result.unreachable), sees);
    }
    for (const WorkspacePtr& workspace : chunk.workspaces) {
      // Poll for each workspace, because a filter with many terms takes some
      // milliseconds on a large record.
      if (cancelled())
        return absl::CancelledError("the caller cancelled this list");
      if (!sees(workspace->project.str())) continue;
      if (!args.filter.Matches(*workspace)) continue;
      if (first_page) ++result.total_size;
      // One match beyond the page proves that there is a next page.
      result.more = result.workspaces.size() == wanted;
      if (!result.more) result.workspaces.push_back(workspace);
      if (result.more && !first_page) break;
    }
    if (!chunk.more || (result.more && !first_page)) break;
    // Resume by key, because the catalog may change between two chunks.
    query.after = MakeOrderKey(*chunk.workspaces.back(), query.order.field);
  }
  if (!first_page) result.total_size = matching_count;
  return result;
}

absl::StatusOr<int64_t> Authority::Count(Sight sight) {
  ASSIGN_OR_RETURN(const ListResult page,
                   List({.page_size = 1, .sight = std::move(sight)}));
  return page.total_size;
}

absl::StatusOr<UpdateResult> Authority::Update(const UpdateArgs& args) {
  // Validate the request first, so that an invalid one fails the same way
  // whether or not the workspace exists.
  RETURN_IF_ERROR(CheckUpdateSpec(args.spec));
  Prepared prepared{.args = {.project = args.project}};
  const CreateArgs* to_create = nullptr;
  // Prepare to create a missing workspace as Create would, from the default
  // template. Stage its files before taking the lock, because that can take
  // long.
  if (args.allow_missing &&
      absl::IsNotFound(catalog_->Get(args.project).status())) {
    ASSIGN_OR_RETURN(prepared, Prepare({.project = args.project,
                                        .settings = args.spec.settings,
                                        .metadata = args.spec.metadata,
                                        .quota = args.spec.quota,
                                        .validate_only = args.validate_only}));
    RETURN_IF_ERROR(Fill(prepared));
    to_create = &prepared.args;
  }
  absl::MutexLock lock(&Stripe(args.project));
  absl::StatusOr<UpdateResult> result = UpdateLocked(args, to_create);
  // A caller without an etag wants to update whatever is stored. If a manual
  // edit conflicts with the update, read the edit and apply the update to it.
  for (int i = 1; i < kUpdateTries && args.etag.empty() &&
                  absl::IsAborted(result.status());
       ++i) {
    result = UpdateLocked(args, to_create);
  }
  if (args.etag.empty() && absl::IsAborted(result.status())) {
    return WorkspaceBusy(args.project.str(), "edits of workspace.yaml");
  }
  return result;
}

absl::StatusOr<UpdateResult> Authority::UpdateLocked(
    const UpdateArgs& args, const CreateArgs* to_create) {
  absl::StatusOr<WorkspacePtr> current = catalog_->Get(args.project);
  if (absl::IsNotFound(current.status()) && args.allow_missing) {
    // Nobody can hold a lease on a missing workspace, so any fence is stale.
    RETURN_IF_ERROR(leases_->Check(args.project, kNoUid, args.fence));
    // An etag belongs to an existing workspace, so a missing one cannot match.
    if (!args.etag.empty())
      return EtagMismatch(args.project.str(), args.etag, "");
    // It was deleted after Update() found it, so nothing is prepared to create.
    if (to_create == nullptr)
      return WorkspaceBusy(args.project.str(), "a deletion");
    ASSIGN_OR_RETURN(WorkspacePtr created, CreateLocked(*to_create));
    return UpdateResult{.workspace = std::move(created)};
  }
  RETURN_IF_ERROR(current.status());
  const Workspace& old = **current;
  // The caller holds the stripe's lock, so that no lease is granted between
  // this check and the commit.
  RETURN_IF_ERROR(leases_->Check(args.project, old.uid, args.fence));
  RETURN_IF_ERROR(CheckEtag(old, args.etag));
  ASSIGN_OR_RETURN(std::optional<Workspace> updated,
                   ApplyUpdate(old, args.spec, clock_()));
  UpdateResult result{.workspace = *current, .old_etag = old.etag};
  // An update that changes nothing writes nothing and keeps the etag.
  if (!updated) return result;
  if (args.validate_only) {
    result.workspace = std::make_shared<const Workspace>(*std::move(updated));
    return result;
  }
  ASSIGN_OR_RETURN(CommitResult committed, catalog_->Commit(ReplaceChange{
                                               .workspace = *std::move(updated),
                                               .expected_etag = old.etag}));
  result.workspace = std::move(committed.workspace);
  if (ledger_ != nullptr && result.workspace->quota != old.quota)
    ledger_->NoteQuota(*result.workspace);
  return result;
}

absl::StatusOr<DeleteResult> Authority::Delete(const DeleteArgs& args,
                                               Cancelled cancelled) {
  if (!args.force)
    return ForceRequired(args.project.str(),
                         absl::StrCat(base_path_, "/", args.project.str()));
  absl::StatusOr<DeleteResult> result = args.validate_only
                                            ? WouldDelete(args, cancelled)
                                            : DeleteNow(args, cancelled);
  if (absl::IsNotFound(result.status()) && args.allow_missing)
    return DeleteResult{};
  return result;
}

absl::StatusOr<DeleteResult> Authority::DeleteNow(const DeleteArgs& args,
                                                  Cancelled cancelled) {
  // With only_deleted, look in the trash right away.
  absl::StatusOr<WorkspacePtr> deleted =
      args.only_deleted
          ? absl::StatusOr<WorkspacePtr>(WorkspaceNotFound(args.project.str()))
          : MoveToTrash(args);
  // A permanent deletion with a uid may find its target already in the trash,
  // for example when the caller retries.
  const bool purge =
      args.permanent && (deleted.ok() || (absl::IsNotFound(deleted.status()) &&
                                          !args.uid.empty()));
  if (!purge) {
    RETURN_IF_ERROR(deleted.status());
    return DeleteResult{.workspace = *std::move(deleted)};
  }
  // The catalog checks an etag only when it moves a workspace to the trash.
  if (!deleted.ok() && !args.etag.empty()) {
    ASSIGN_OR_RETURN(const WorkspacePtr trashed,
                     FindDeleted(args.project, args.uid));
    RETURN_IF_ERROR(CheckEtag(*trashed, args.etag));
  }
  // Purge without the stripe's lock, because removing a tree can take long.
  const std::string& uid = deleted.ok() ? (*deleted)->uid : args.uid;
  ASSIGN_OR_RETURN(
      CommitResult purged,
      catalog_->Commit(PurgeChange{
          .project = args.project, .uid = uid, .cancelled = cancelled}));
  return DeleteResult{.workspace = std::move(purged.workspace),
                      .file_count = purged.file_count,
                      .size_bytes = purged.size_bytes,
                      .purged = true};
}

absl::StatusOr<WorkspacePtr> Authority::MoveToTrash(const DeleteArgs& args) {
  absl::MutexLock lock(&Stripe(args.project));
  // A workspace with a corrupt record can be deleted, but not by uid, because
  // its uid is unknown.
  absl::StatusOr<WorkspacePtr> current = catalog_->Get(args.project);
  if (current.ok()) RETURN_IF_ERROR(CheckUid(**current, args.uid));
  if (!current.ok() &&
      !(absl::IsDataLoss(current.status()) && args.uid.empty()))
    return current.status();
  RETURN_IF_ERROR(leases_->Check(
      args.project, current.ok() ? (*current)->uid : "", args.fence));
  ASSIGN_OR_RETURN(CommitResult result,
                   catalog_->Commit(DeleteChange{.project = args.project,
                                                 .expected_etag = args.etag,
                                                 .permanent = args.permanent}));
  if (ledger_ != nullptr && current.ok()) ledger_->Forget(**current);
  // Whoever holds the lease loses it with the workspace.
  leases_->End(args.project);
  return std::move(result.workspace);
}

absl::StatusOr<DeleteResult> Authority::WouldDelete(const DeleteArgs& args,
                                                    Cancelled cancelled) {
  // Find the workspace that DeleteNow() would choose.
  absl::StatusOr<WorkspacePtr> target =
      args.only_deleted
          ? absl::StatusOr<WorkspacePtr>(WorkspaceNotFound(args.project.str()))
          : catalog_->Get(args.project);
  // If the record is corrupt, only the files can be counted.
  if (absl::IsDataLoss(target.status()) && args.uid.empty()) {
    target = std::make_shared<const Workspace>(Workspace{
        .project = args.project,
        .root_path = absl::StrCat(base_path_, "/", args.project.str())});
  } else if (target.ok() && !args.uid.empty() && (*target)->uid != args.uid) {
    target = WorkspaceNotFound(args.project.str());
  }
  // With a uid, the target may already be in the trash.
  if (absl::IsNotFound(target.status()) && args.permanent &&
      !args.uid.empty()) {
    target = FindDeleted(args.project, args.uid);
  }
  RETURN_IF_ERROR(target.status());
  const Workspace& workspace = **target;
  // A lease does not protect a workspace in the trash.
  if (!workspace.delete_time) {
    RETURN_IF_ERROR(leases_->Check(args.project, workspace.uid, args.fence));
  }
  RETURN_IF_ERROR(CheckEtag(workspace, args.etag));
  const absl::StatusOr<Usage> counted =
      status_cache_.Get(workspace, {}, cancelled);
  // The workspace was deleted during the count.
  if (absl::IsNotFound(counted.status()))
    return WorkspaceNotFound(args.project.str());
  ASSIGN_OR_RETURN(const Usage usage, counted);
  return DeleteResult{
      .workspace = *std::move(target),
      .file_count = usage.file_count() + usage.others.file_count,
      .size_bytes = usage.size_bytes() + usage.others.size_bytes};
}

absl::StatusOr<WorkspacePtr> Authority::FindDeleted(const ProjectName& project,
                                                    const std::string& uid) {
  // List from the project's first position in the trash. Its live workspace has
  // an empty deleted_uid, so this key excludes it.
  ListQuery query{.page_size = kMaxPageSize,
                  .after = OrderKey{.project = project.str()},
                  .show_deleted = true};
  while (true) {
    ASSIGN_OR_RETURN(const ListPage page, catalog_->List(query));
    for (const WorkspacePtr& workspace : page.workspaces) {
      if (workspace->project != project)
        return WorkspaceNotFound(project.str());
      if (workspace->uid == uid) return workspace;
    }
    if (!page.more) return WorkspaceNotFound(project.str());
    query.after = MakeOrderKey(*page.workspaces.back(), OrderField::kProject);
  }
}

absl::StatusOr<WorkspacePtr> Authority::Undelete(const ProjectName& project,
                                                 const std::string& uid) {
  RETURN_IF_ERROR(CheckNewName(project));
  absl::MutexLock lock(&Stripe(project));
  ASSIGN_OR_RETURN(CommitResult result, catalog_->Commit(UndeleteChange{
                                            .project = project, .uid = uid}));
  // The lease ended with the deletion, but a crash may have brought it back.
  leases_->End(project);
  return std::move(result.workspace);
}

absl::StatusOr<StatusResult> Authority::Status(const ProjectName& project,
                                               const StatusArgs& args,
                                               Cancelled cancelled) {
  // The workspace may be deleted and recreated during the scan, so retry, but
  // only a few times.
  for (int attempt = 0; attempt < 3; ++attempt) {
    ASSIGN_OR_RETURN(WorkspacePtr workspace, catalog_->Get(project));
    auto counted = CountFiles(std::move(workspace), args, cancelled);
    if (!absl::IsNotFound(counted.status())) return counted;
  }
  return WorkspaceNotFound(project.str());
}

absl::StatusOr<StatusResult> Authority::StatusInTrash(
    const ProjectName& project, const std::string& uid, const StatusArgs& args,
    Cancelled cancelled) {
  ASSIGN_OR_RETURN(WorkspacePtr workspace, FindDeleted(project, uid));
  auto counted = CountFiles(std::move(workspace), args, cancelled);
  // It was restored or purged during the count.
  if (absl::IsNotFound(counted.status()))
    return WorkspaceNotFound(project.str());
  return counted;
}

absl::StatusOr<StatusResult> Authority::CountFiles(WorkspacePtr workspace,
                                                   const StatusArgs& args,
                                                   Cancelled cancelled) {
  ASSIGN_OR_RETURN(Usage usage, status_cache_.Get(*workspace, args, cancelled));
  const bool over = IsOverQuota(workspace->quota, AmountOf(usage));
  return StatusResult{.workspace = std::move(workspace),
                      .usage = std::move(usage),
                      .over_quota = over};
}

absl::StatusOr<Leases::Acquired> Authority::AcquireLease(
    const ProjectName& project, const std::string& holder, absl::Duration ttl) {
  // Changes to the record check their fence under the same lock.
  absl::MutexLock lock(&Stripe(project));
  ASSIGN_OR_RETURN(const WorkspacePtr workspace, catalog_->Get(project));
  return leases_->Acquire(project, workspace->uid, holder, ttl);
}

absl::StatusOr<bool> Authority::ReleaseLease(const ProjectName& project,
                                             const std::string& holder,
                                             bool force) {
  absl::MutexLock lock(&Stripe(project));
  const absl::StatusOr<WorkspacePtr> workspace = catalog_->Get(project);
  // A lease can be released even if the workspace's record has become corrupt.
  if (!workspace.ok() && !absl::IsDataLoss(workspace.status()))
    return workspace.status();
  return leases_->Release(project, workspace.ok() ? (*workspace)->uid : "",
                          holder, force);
}

std::optional<Lease> Authority::LeaseOf(const Workspace& workspace) const {
  if (workspace.delete_time) return std::nullopt;
  return leases_->Find(workspace.project, workspace.uid);
}

void Authority::EndExpiredLeases() {
  for (const ProjectName& project : leases_->Expired(kMaxExpired)) {
    absl::MutexLock lock(&Stripe(project));
    leases_->EndExpired(project);
  }
}

}  // namespace mlops::core
