#include "service/artifacts/uploads.h"

#include <algorithm>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "nlohmann/json.hpp"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/id.h"
#include "proto/cpp/base/status_macros.h"
#include "service/core/errors.h"
#include "service/core/layout.h"
#include "service/fs/remove_tree.h"

namespace mlops::core {
namespace {

constexpr int64_t kMaxAboutBytes = 64 * 1024;
constexpr size_t kMaxSweptAtOnce = 1000;

}  // namespace

Uploads::Uploads(Placer* placer, ChecksumCache* checksums, UploadOptions options)
    : placer_(placer), checksums_(checksums), options_(std::move(options)) {
  // Where nothing tells whether the machine was restarted, it may have been whenever the server was.
  if (options_.boot_id.empty()) options_.boot_id = base::RandomId();
}

std::unique_ptr<Claims::Claim> Uploads::TryClaim(const ArtifactTree& tree, absl::string_view id) {
  return claims_.TryClaim(absl::StrCat(tree.project().str(), "/", id));
}

std::optional<Uploads::About> Uploads::ReadAbout(const fs::Dir& dir, absl::string_view id) {
  const auto content = dir.ReadFile(AboutName(id), kMaxAboutBytes);
  if (!content.ok()) return std::nullopt;
  // Never synced: a power cut may have left half of it, or nothing.
  const auto json = nlohmann::json::parse(content->data, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("path") || !json["path"].is_string() || !json.contains("boot_id") ||
      !json["boot_id"].is_string() || !json.contains("inode") || !json["inode"].is_number_unsigned()) {
    return std::nullopt;
  }
  return About{.path = json["path"].get<std::string>(),
               .boot_id = json["boot_id"].get<std::string>(),
               .inode = json["inode"].get<uint64_t>()};
}

bool Uploads::IsWhole(const About& about, const fs::FileStamp& part) const {
  // The inode of a part that was removed may be that of anything by now.
  return part.type == fs::EntryType::kFile && part.inode == about.inode && about.boot_id == options_.boot_id;
}

absl::StatusOr<std::unique_ptr<UploadWriter>> Uploads::Open(ArtifactTree tree, const WriteArgs& args) {
  Staged staged;
  const std::string id = args.upload_id.empty() ? base::RandomId() : args.upload_id;
  staged.claim = TryClaim(tree, id);
  if (staged.claim == nullptr) return UploadBusy(args);
  // Refused now rather than when everything has come; Place() looks again then.
  auto existing = tree.Stat(args.path);
  if (absl::IsFailedPrecondition(existing.status())) return existing.status();
  if (args.upload_id.empty()) RETURN_IF_ERROR(CheckReplaceable(tree, args.path, existing, args.precondition));
  ASSIGN_OR_RETURN(staged.dir, tree.OpenUploads());
  if (!args.upload_id.empty()) {
    RETURN_IF_ERROR(OpenResumable(tree, args, staged));
  } else {
    if (args.offset != 0) return UploadOffsetMismatch(args.project.str(), "", args.offset, 0);
    staged.name = absl::StrCat(id, layout::kTempSuffix);
    ASSIGN_OR_RETURN(staged.file, staged.dir->CreateFile(staged.name));
  }
  return std::make_unique<UploadWriter>(placer_, std::move(tree), args, std::move(staged));
}

absl::StatusOr<Uploads::Found> Uploads::Find(const ArtifactTree& tree, const fs::Dir& dir, const WriteArgs& args) {
  Found found{.about = ReadAbout(dir, args.upload_id)};
  if (found.about && found.about->path != args.path.shown()) {
    return FieldInvalid("upload_id", absl::StrCat("is the one of an upload to ", found.about->path));
  }
  const auto part = dir.Stat(PartName(args.upload_id));
  if (part.ok()) {
    found.part = *part;
  } else if (!absl::IsNotFound(part.status())) {
    return part.status();
  } else if (found.about) {
    if (auto finished = Finished(tree, args.upload_id, *found.about); finished.ok()) {
      found.finished = *std::move(finished);
    }
  }
  return found;
}

absl::Status Uploads::OpenResumable(const ArtifactTree& tree, const WriteArgs& args, Staged& staged) {
  const std::string& id = args.upload_id;
  ASSIGN_OR_RETURN(Found found, Find(tree, *staged.dir, args));
  const auto& [about, part, finished] = found;
  const auto check_offset = [&](int64_t committed) {
    if (args.offset == committed) return absl::OkStatus();
    return UploadOffsetMismatch(args.project.str(), id, args.offset, committed);
  };
  if (finished) {
    RETURN_IF_ERROR(check_offset(finished->size_bytes));
    staged.offset = finished->size_bytes;
    staged.finished = finished;
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(CheckReplaceable(tree, args.path, tree.Stat(args.path), args.precondition));
  const bool whole = about && part && IsWhole(*about, *part);
  RETURN_IF_ERROR(check_offset(whole ? part->size_bytes : 0));
  if (!whole) return BeginPart(args, staged);
  ASSIGN_OR_RETURN(staged.file, staged.dir->ReopenFile(PartName(id)));
  ASSIGN_OR_RETURN(staged.to_rehash, staged.dir->OpenFile(PartName(id)));
  ASSIGN_OR_RETURN(staged.before, staged.to_rehash->Stat());
  if (staged.before->inode != part->inode) return UploadBusy(args);
  staged.name = PartName(id);
  staged.offset = part->size_bytes;
  return absl::OkStatus();
}

absl::StatusOr<std::optional<Artifact>> Uploads::Discard(const ArtifactTree& tree, const WriteArgs& args) {
  const std::string& id = args.upload_id;
  const auto claim = TryClaim(tree, id);
  if (claim == nullptr) return UploadBusy(args);
  const auto dir = tree.root().OpenDir(layout::kUploadsDir);
  if (absl::IsNotFound(dir.status())) return std::nullopt;
  RETURN_IF_ERROR(dir.status());
  ASSIGN_OR_RETURN(Found found, Find(tree, **dir, args));
  if (found.finished) return std::move(found.finished);
  RETURN_IF_ERROR(RemoveIfThere(**dir, PartName(id)));
  RETURN_IF_ERROR(RemoveIfThere(**dir, AboutName(id)));
  return std::nullopt;
}

absl::Status Uploads::BeginPart(const WriteArgs& args, Staged& staged) {
  fs::Dir& dir = *staged.dir;
  const std::string& id = args.upload_id;
  RETURN_IF_ERROR(RemoveIfThere(dir, PartName(id)));
  RETURN_IF_ERROR(RemoveIfThere(dir, AboutName(id)));
  ASSIGN_OR_RETURN(staged.file, dir.CreateFile(PartName(id)));
  ASSIGN_OR_RETURN(const fs::FileStamp stamp, dir.Stat(PartName(id)));
  const nlohmann::json about = {{"path", args.path.shown()}, {"boot_id", options_.boot_id}, {"inode", stamp.inode}};
  ASSIGN_OR_RETURN(const auto file, dir.CreateFile(AboutName(id)));
  RETURN_IF_ERROR(file->Write(absl::StrCat(about.dump(), "\n")));
  RETURN_IF_ERROR(file->Close());
  staged.name = PartName(id);
  return absl::OkStatus();
}

absl::StatusOr<Artifact> Uploads::Finished(const ArtifactTree& tree, const std::string& id, const About& about) {
  // The name was taken off the part when the file got its own; since a restart of the machine, inodes prove nothing.
  if (about.boot_id != options_.boot_id) return UploadNotFound(tree.project().str(), id);
  ASSIGN_OR_RETURN(const RelativePath path, RelativePath::Parse(about.path, RelativePath::Use::kMake));
  ASSIGN_OR_RETURN(const fs::FileStamp stamp, tree.Stat(path));
  if (stamp.type != fs::EntryType::kFile || stamp.inode != about.inode) {
    return UploadNotFound(tree.project().str(), id);
  }
  Artifact artifact = DescribeArtifact(about.path, stamp);
  artifact.sha256 = checksums_->Find(stamp);
  return artifact;
}

bool Uploads::IsExpired(const fs::FileStamp& stamp, absl::Duration ttl) const {
  return stamp.modify_time + ttl < options_.clock();
}

absl::StatusOr<UploadState> Uploads::Get(const ArtifactTree& tree, const std::string& upload_id) {
  const absl::Status not_found = UploadNotFound(tree.project().str(), upload_id);
  const auto dir = tree.root().OpenDir(layout::kUploadsDir);
  if (absl::IsNotFound(dir.status())) return not_found;
  RETURN_IF_ERROR(dir.status());
  const auto about = ReadAbout(**dir, upload_id);
  if (!about) return not_found;
  UploadState state{.path = about->path};
  if (const auto part = (*dir)->Stat(PartName(upload_id)); part.ok()) {
    if (IsExpired(*part, options_.part_ttl)) return not_found;
    if (IsWhole(*about, *part)) {
      state.offset = part->size_bytes;
      state.staged_path = absl::StrCat(layout::kUploadsDir, "/", PartName(upload_id));
      state.staged_etag = ArtifactEtag(*part);
    }
    state.expire_time = part->modify_time + options_.part_ttl;
    return state;
  }
  // Where a directory could not be synced, nobody knows whether what was finished is there for good.
  RETURN_IF_ERROR(options_.health->Check());
  const auto stamp = (*dir)->Stat(AboutName(upload_id));
  auto finished = Finished(tree, upload_id, *about);
  if (!stamp.ok() || !finished.ok()) return not_found;
  state.offset = finished->size_bytes;
  state.expire_time = std::max(stamp->modify_time, finished->modify_time) + options_.finished_ttl;
  state.artifact = *std::move(finished);
  return state;
}

bool Uploads::IsDue(const fs::Dir& dir, absl::string_view name, std::string* id) const {
  absl::string_view rest = name;
  const auto has = [&](absl::string_view suffix) { return absl::ConsumeSuffix(&rest, suffix); };
  const auto expired = [&](absl::Duration ttl) {
    const auto stamp = dir.Stat(name);
    return stamp.ok() && IsExpired(*stamp, ttl);
  };
  bool due = false;
  if (has(layout::kPartSuffix)) {
    due = expired(options_.part_ttl);
  } else if (has(layout::kAboutSuffix)) {
    due = absl::IsNotFound(dir.Stat(PartName(rest)).status()) && expired(options_.finished_ttl);
  } else {
    due = has(layout::kTempSuffix) || has(layout::kRemovedSuffix);
  }
  *id = std::string(rest);
  return due;
}

absl::StatusOr<bool> Uploads::Sweep(const ArtifactTree& tree, int64_t max_entries) {
  auto dir = tree.root().OpenDir(layout::kUploadsDir);
  if (absl::IsNotFound(dir.status())) return false;
  RETURN_IF_ERROR(dir.status());
  std::vector<std::string> due;
  std::string id;
  RETURN_IF_ERROR((*dir)->ForEachEntry([&](absl::string_view name, fs::EntryType) {
    if (IsDue(**dir, name, &id)) due.emplace_back(name);
    return due.size() < kMaxSweptAtOnce;
  }));
  for (const std::string& name : due) {
    if (max_entries <= 0) return true;
    // Claimed first: what is in use is left alone, and what is removed cannot be taken up meanwhile.
    IsDue(**dir, name, &id);
    const auto claim = TryClaim(tree, id);
    if (claim == nullptr || !IsDue(**dir, name, &id)) continue;
    ASSIGN_OR_RETURN(const fs::RemovedTree removed, fs::RemoveTree(**dir, name, max_entries));
    max_entries -= removed.entry_count;
    if (!removed.complete) return true;
    if (name == PartName(id)) RETURN_IF_ERROR(RemoveIfThere(**dir, AboutName(id)));
  }
  return due.size() == kMaxSweptAtOnce;
}

}  // namespace mlops::core
