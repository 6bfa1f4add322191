#include "service/artifacts/uploads.h"

#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "proto/cpp/base/id.h"
#include "proto/cpp/base/status_macros.h"
#include "service/core/errors.h"
#include "service/core/layout.h"
#include "service/fs/remove_tree.h"

namespace mlops::artifacts {
namespace {

constexpr size_t kMaxSweptAtOnce = 1000;

// Returns whether a failed Stat() means that the file does not exist.
bool IsMissing(const absl::Status& status) {
  return absl::IsNotFound(status) || absl::IsFailedPrecondition(status);
}

}  // namespace

Uploads::Uploads(Placer* placer, Claims* claims, const UploadOptions& options)
    : placer_(placer),
      claims_(claims),
      health_(options.health),
      part_ttl_(options.part_ttl),
      finished_ttl_(options.finished_ttl),
      // Without a boot id, assume that the machine restarts with the server.
      boot_id_(options.boot_id.empty() ? base::RandomId() : options.boot_id),
      expiry_(options.clock, options.steady_clock) {}

bool Uploads::IsWhole(const UploadRecord& record,
                      const fs::FileStamp& part) const {
  return record.IsOf(part) && record.boot_id == boot_id_;
}

absl::StatusOr<std::unique_ptr<UploadWriter>> Uploads::Open(
    ArtifactTree tree, const WriteArgs& args,
    std::unique_ptr<core::UsageLedger::Hold> hold, core::Cancelled cancelled) {
  Staged staged;
  const std::string id =
      args.upload_id.empty() ? base::RandomId() : args.upload_id;
  // Only one stream may write to an upload, and no sweep may remove
  // it meanwhile.
  staged.claim = claims_->TryClaim(tree, id);
  if (staged.claim == nullptr) return UploadBusy(args);
  // Fail early, before the client sends the file. Place() checks again.
  const auto existing = tree.StatOnDisk(args.path.on_disk());
  if (absl::IsFailedPrecondition(existing.status()))
    return tree.Error(existing.status(), args.path);
  // An upload with an id may already be finished, so OpenResumable()
  // checks this later.
  if (args.upload_id.empty())
    RETURN_IF_ERROR(
        CheckReplaceable(tree, args.path, existing, args.precondition));
  staged.hold = std::move(hold);
  if (staged.hold != nullptr) staged.replaced = AmountOf(existing);
  // Stage nothing if the quota has no room for another file.
  RETURN_IF_ERROR(staged.Reserve(0, cancelled));
  ASSIGN_OR_RETURN(staged.dir, tree.OpenUploads());
  if (!args.upload_id.empty()) {
    RETURN_IF_ERROR(OpenResumable(tree, args, existing, staged));
    // Include the bytes that an earlier stream or another program has staged.
    RETURN_IF_ERROR(staged.Reserve(staged.offset, cancelled));
  } else {
    if (args.offset != 0)
      return core::UploadOffsetMismatch(args.project.str(), "", args.offset, 0);
    staged.name = absl::StrCat(id, core::layout::kTempSuffix);
    ASSIGN_OR_RETURN(staged.file, staged.dir->CreateFile(staged.name));
    RETURN_IF_ERROR(StageWithModeOf(existing, *staged.file));
  }
  return std::make_unique<UploadWriter>(placer_, std::move(tree), args,
                                        std::move(staged));
}

absl::StatusOr<Uploads::Found> Uploads::Find(const ArtifactTree& tree,
                                             const fs::Dir& dir,
                                             const WriteArgs& args) {
  Found found;
  ASSIGN_OR_RETURN(found.record, ReadUploadRecord(dir, args.upload_id));
  if (found.record && found.record->path != args.path.shown()) {
    return core::FieldInvalid(
        "upload_id",
        absl::StrCat("is the one of an upload to ", found.record->path));
  }
  // While there is a part, the upload is not finished.
  const auto part = dir.Stat(PartName(args.upload_id));
  if (part.ok()) {
    found.part = *part;
    return found;
  }
  if (!absl::IsNotFound(part.status())) return part.status();
  if (!found.record) return found;
  ASSIGN_OR_RETURN(found.finished, FindFinished(tree, *found.record));
  // The server may have been killed before it synced the new name.
  if (found.finished) RETURN_IF_ERROR(SyncFinished(tree, *found.record));
  return found;
}

absl::Status Uploads::OpenResumable(
    const ArtifactTree& tree, const WriteArgs& args,
    const absl::StatusOr<fs::FileStamp>& existing, Staged& staged) {
  const std::string& id = args.upload_id;
  ASSIGN_OR_RETURN(Found found, Find(tree, *staged.dir, args));
  auto& [record, part, finished] = found;
  const auto check_offset = [&](int64_t committed) {
    if (args.offset == committed) return absl::OkStatus();
    return core::UploadOffsetMismatch(args.project.str(), id, args.offset,
                                      committed);
  };
  if (finished) {
    RETURN_IF_ERROR(check_offset(finished->size_bytes));
    staged.offset = finished->size_bytes;
    staged.finished = std::move(finished);
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(
      CheckReplaceable(tree, args.path, existing, args.precondition));
  // After a restart of the machine, the part may lack bytes, so start over.
  const bool whole = record && part && IsWhole(*record, *part);
  RETURN_IF_ERROR(check_offset(whole ? part->size_bytes : 0));
  if (!whole) return BeginPart(args, existing, staged);
  ASSIGN_OR_RETURN(staged.file, staged.dir->ReopenFile(PartName(id)));
  // Read the staged bytes again, because the checksum covers the whole file.
  ASSIGN_OR_RETURN(staged.to_rehash, staged.dir->OpenFile(PartName(id)));
  ASSIGN_OR_RETURN(staged.before, staged.to_rehash->Stat());
  // Another program has replaced the part since Find().
  if (staged.before->inode != part->inode) return UploadBusy(args);
  staged.name = PartName(id);
  staged.record = *std::move(record);
  staged.offset = part->size_bytes;
  return absl::OkStatus();
}

absl::StatusOr<std::optional<Artifact>> Uploads::Discard(
    const ArtifactTree& tree, const WriteArgs& args) {
  const std::string& id = args.upload_id;
  const auto claim = claims_->TryClaim(tree, id);
  if (claim == nullptr) return UploadBusy(args);
  const auto dir = tree.root().OpenDir(core::layout::kUploadsDir);
  if (absl::IsNotFound(dir.status())) return std::nullopt;
  RETURN_IF_ERROR(dir.status());
  ASSIGN_OR_RETURN(Found found, Find(tree, **dir, args));
  if (found.finished) return std::move(found.finished);
  // Remove the part first: a record alone is harmless, and a sweep removes it.
  RETURN_IF_ERROR(RemoveIfThere(**dir, PartName(id)));
  RETURN_IF_ERROR(RemoveIfThere(**dir, RecordName(id)));
  return std::nullopt;
}

absl::Status Uploads::BeginPart(const WriteArgs& args,
                                const absl::StatusOr<fs::FileStamp>& existing,
                                Staged& staged) {
  fs::Dir& dir = *staged.dir;
  const std::string& id = args.upload_id;
  // After a crash in between, no record matches the part, so the next stream
  // begins anew too.
  RETURN_IF_ERROR(RemoveIfThere(dir, PartName(id)));
  RETURN_IF_ERROR(RemoveIfThere(dir, RecordName(id)));
  ASSIGN_OR_RETURN(staged.file, dir.CreateFile(PartName(id)));
  RETURN_IF_ERROR(StageWithModeOf(existing, *staged.file));
  ASSIGN_OR_RETURN(const fs::FileStamp part, dir.Stat(PartName(id)));
  staged.record = NewUploadRecord(args.path.shown(), boot_id_, part);
  RETURN_IF_ERROR(WriteUploadRecord(dir, id, staged.record));
  staged.name = PartName(id);
  return absl::OkStatus();
}

absl::StatusOr<std::optional<Artifact>> Uploads::FindFinished(
    const ArtifactTree& tree, const UploadRecord& record) const {
  const auto path = RelativePath::Parse(record.path, RelativePath::Use::kMake);
  if (!path.ok() || !record.content) return std::nullopt;
  const auto stamp = tree.Stat(*path);
  if (IsMissing(stamp.status())) return std::nullopt;
  RETURN_IF_ERROR(stamp.status());
  // Something else has replaced or changed the file since.
  if (!record.IsFinishedAs(*stamp)) return std::nullopt;
  Artifact artifact = DescribeArtifact(record.path, *stamp);
  artifact.sha256 = record.content->sha256;
  return artifact;
}

absl::Status Uploads::SyncFinished(const ArtifactTree& tree,
                                   const UploadRecord& record) const {
  ASSIGN_OR_RETURN(const RelativePath path,
                   RelativePath::Parse(record.path, RelativePath::Use::kMake));
  ASSIGN_OR_RETURN(const auto parent, tree.OpenParent(path));
  return health_->Sync(*parent);
}

bool Uploads::IsExpired(const fs::FileStamp& stamp, absl::Duration ttl) const {
  return stamp.modify_time + ttl < expiry_.Now();
}

absl::StatusOr<UploadState> Uploads::Get(const ArtifactTree& tree,
                                         const std::string& upload_id) {
  const absl::Status not_found =
      core::UploadNotFound(tree.project().str(), upload_id);
  const auto dir = tree.root().OpenDir(core::layout::kUploadsDir);
  if (absl::IsNotFound(dir.status())) return not_found;
  RETURN_IF_ERROR(dir.status());
  ASSIGN_OR_RETURN(const auto record, ReadUploadRecord(**dir, upload_id));
  if (!record) return not_found;
  UploadState state{.path = record->path};
  const auto part = (*dir)->Stat(PartName(upload_id));
  if (part.ok()) {
    // A sweep may remove it at any moment.
    if (IsExpired(*part, part_ttl_)) return not_found;
    if (IsWhole(*record, *part)) {
      state.offset = part->size_bytes;
      state.staged_path =
          absl::StrCat(core::layout::kUploadsDir, "/", PartName(upload_id));
      state.staged_etag = ArtifactEtag(*part);
    }
    state.expire_time = part->modify_time + part_ttl_;
    return state;
  }
  if (!absl::IsNotFound(part.status())) return part.status();
  return GetFinished(tree, **dir, upload_id, *record);
}

absl::StatusOr<UploadState> Uploads::GetFinished(const ArtifactTree& tree,
                                                 const fs::Dir& dir,
                                                 const std::string& upload_id,
                                                 const UploadRecord& record) {
  const absl::Status not_found =
      core::UploadNotFound(tree.project().str(), upload_id);
  // After a failed sync, a finished upload may not be durable.
  RETURN_IF_ERROR(health_->Check());
  ASSIGN_OR_RETURN(auto finished, FindFinished(tree, record));
  if (!finished) return not_found;
  // The record's mtime is the time at which the upload finished.
  const auto recorded = dir.Stat(RecordName(upload_id));
  if (absl::IsNotFound(recorded.status())) return not_found;
  RETURN_IF_ERROR(recorded.status());
  if (IsExpired(*recorded, finished_ttl_)) return not_found;
  UploadState state{.path = record.path,
                    .offset = finished->size_bytes,
                    .expire_time = recorded->modify_time + finished_ttl_};
  // A stream that still holds the claim has renamed the part, but not synced
  // the directory yet.
  if (claims_->IsClaimed(tree, upload_id)) return state;
  RETURN_IF_ERROR(SyncFinished(tree, record));
  state.artifact = *std::move(finished);
  return state;
}

bool Uploads::IsDue(const fs::Dir& dir, absl::string_view name, bool may_expire,
                    std::string* id) const {
  absl::string_view rest = name;
  const auto has = [&](absl::string_view suffix) {
    return absl::ConsumeSuffix(&rest, suffix);
  };
  const auto expired = [&](absl::Duration ttl) {
    if (!may_expire) return false;
    const auto stamp = dir.Stat(name);
    return stamp.ok() && IsExpired(*stamp, ttl);
  };
  bool due = false;
  if (has(core::layout::kPartSuffix)) {
    due = expired(part_ttl_);
  } else if (has(core::layout::kAboutSuffix)) {
    due = absl::IsNotFound(dir.Stat(PartName(rest)).status()) &&
          expired(finished_ttl_);
  } else {
    // Nobody resumes these: unless they are claimed, a crash has orphaned them.
    due = has(core::layout::kTempSuffix) || has(core::layout::kRemovedSuffix);
  }
  *id = std::string(rest);
  return due;
}

absl::StatusOr<Uploads::Swept> Uploads::SweepRoot(const ArtifactTree& tree,
                                                  int64_t max_entries) {
  Swept swept;
  std::vector<std::string> due;
  RETURN_IF_ERROR(
      tree.root().ForEachEntry([&](absl::string_view name, fs::EntryType) {
        if (!core::layout::ParseHiddenArtifact(name).empty())
          due.emplace_back(name);
        return due.size() < kMaxSweptAtOnce;
      }));
  for (const std::string& name : due) {
    // A deletion that is still running holds the claim.
    const auto claim =
        claims_->TryClaim(tree, core::layout::ParseHiddenArtifact(name));
    if (claim == nullptr) continue;
    swept.more = swept.entry_count >= max_entries;
    if (swept.more) return swept;
    ASSIGN_OR_RETURN(
        const fs::RemovedTree removed,
        fs::RemoveTree(tree.root(), name, max_entries - swept.entry_count));
    swept.entry_count += removed.entry_count;
    swept.more = !removed.complete;
    if (swept.more) return swept;
  }
  return swept;
}

absl::StatusOr<Uploads::Swept> Uploads::Sweep(const ArtifactTree& tree,
                                              int64_t max_entries) {
  ASSIGN_OR_RETURN(Swept swept, SweepRoot(tree, max_entries));
  if (swept.more) return swept;
  auto dir = tree.root().OpenDir(core::layout::kUploadsDir);
  if (absl::IsNotFound(dir.status())) return swept;
  RETURN_IF_ERROR(dir.status());
  // Ages mean nothing while the wall clock may still be corrected.
  const bool may_expire = expiry_.IsSettled();
  std::vector<std::string> due;
  std::string id;
  RETURN_IF_ERROR(
      (*dir)->ForEachEntry([&](absl::string_view name, fs::EntryType) {
        if (absl::EndsWith(name, core::layout::kPartSuffix))
          ++swept.unfinished_count;
        if (IsDue(**dir, name, may_expire, &id)) due.emplace_back(name);
        return due.size() < kMaxSweptAtOnce;
      }));
  for (const std::string& name : due) {
    // Claim the entry first: it may be in use, and no stream must resume
    // it while it is removed.
    IsDue(**dir, name, may_expire, &id);
    const auto claim = claims_->TryClaim(tree, id);
    if (claim == nullptr || !IsDue(**dir, name, may_expire, &id)) continue;
    swept.more = swept.entry_count >= max_entries;
    if (swept.more) return swept;
    ASSIGN_OR_RETURN(
        const fs::RemovedTree removed,
        fs::RemoveTree(**dir, name, max_entries - swept.entry_count));
    swept.entry_count += removed.entry_count;
    swept.more = !removed.complete;
    if (swept.more) return swept;
    // Without the part, its record is useless.
    if (name == PartName(id))
      RETURN_IF_ERROR(RemoveIfThere(**dir, RecordName(id)));
  }
  // If every due entry was in use, sweeping again now would not help.
  swept.more = due.size() == kMaxSweptAtOnce && swept.entry_count > 0;
  return swept;
}

}  // namespace mlops::artifacts
