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
constexpr size_t kRehashBytes = 1 << 20;
constexpr int64_t kWritebackBytes = 8 * kRehashBytes;
constexpr size_t kMaxSweptAtOnce = 1000;

std::string PartName(absl::string_view id) { return absl::StrCat(id, layout::kPartSuffix); }
std::string AboutName(absl::string_view id) { return absl::StrCat(id, layout::kAboutSuffix); }

// Removes a file if it is there.
absl::Status RemoveIfThere(fs::Dir& dir, absl::string_view name) {
  absl::Status removed = dir.RemoveFile(name);
  return absl::IsNotFound(removed) ? absl::OkStatus() : removed;
}

std::string StampKey(const fs::FileStamp& stamp) { return absl::StrCat(stamp.device, " ", ArtifactEtag(stamp)); }

}  // namespace

std::string ChecksumCache::Find(const fs::FileStamp& stamp) {
  absl::MutexLock lock(&mutex_);
  const std::string* found = known_.Find(StampKey(stamp));
  return found == nullptr ? "" : *found;
}

void ChecksumCache::Put(const fs::FileStamp& stamp, absl::Time read_time, const std::string& sha256) {
  if (fs::MayBeRacy(stamp, read_time)) return;
  absl::MutexLock lock(&mutex_);
  known_.Put(StampKey(stamp), sha256, sha256.capacity());
}

Uploads::Uploads(const fs::Dir* base, Placer* placer, ChecksumCache* checksums, UploadOptions options)
    : base_(base), placer_(placer), checksums_(checksums), options_(std::move(options)) {
  // Where nothing tells whether the machine was restarted, it may have been whenever the server was.
  if (options_.boot_id.empty()) options_.boot_id = base::RandomId();
}

Uploads::Claim::~Claim() {
  absl::MutexLock lock(&uploads_->mutex_);
  uploads_->claimed_.erase(key_);
}

std::unique_ptr<Uploads::Claim> Uploads::TryClaim(const ProjectName& project, absl::string_view id) {
  std::string key = absl::StrCat(project.str(), "/", id);
  absl::MutexLock lock(&mutex_);
  if (!claimed_.insert(key).second) return nullptr;
  return std::make_unique<Claim>(this, std::move(key));
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
  auto writer = std::unique_ptr<UploadWriter>(new UploadWriter(this, std::move(tree), args));
  const ArtifactTree& opened = writer->tree_;
  const std::string id = args.upload_id.empty() ? base::RandomId() : args.upload_id;
  writer->claim_ = TryClaim(args.project, id);
  if (writer->claim_ == nullptr) return WorkspaceBusy(args.project.str(), absl::StrCat("upload ", id));
  // Told now rather than when all has come; looked at again then.
  auto existing = opened.Stat(args.path);
  if (absl::IsFailedPrecondition(existing.status())) return existing.status();
  if (args.upload_id.empty()) RETURN_IF_ERROR(CheckReplaceable(opened, args.path, existing, args.precondition));
  ASSIGN_OR_RETURN(writer->dir_, opened.OpenUploads());
  if (!args.upload_id.empty()) {
    RETURN_IF_ERROR(OpenResumable(*writer, args));
  } else {
    if (args.offset != 0) return UploadOffsetMismatch(args.project.str(), "", args.offset, 0);
    const std::string name = absl::StrCat(id, layout::kTempSuffix);
    ASSIGN_OR_RETURN(writer->file_, writer->dir_->CreateFile(name));
    writer->staged_name_ = name;
  }
  return writer;
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

absl::Status Uploads::OpenResumable(UploadWriter& writer, const WriteArgs& args) {
  const ArtifactTree& tree = writer.tree_;
  const std::string& id = args.upload_id;
  ASSIGN_OR_RETURN(Found found, Find(tree, *writer.dir_, args));
  const auto& [about, part, finished] = found;
  const auto check_offset = [&](int64_t committed) {
    if (args.offset == committed) return absl::OkStatus();
    return UploadOffsetMismatch(args.project.str(), id, args.offset, committed);
  };
  if (finished) {
    RETURN_IF_ERROR(check_offset(finished->size_bytes));
    writer.offset_ = finished->size_bytes;
    writer.finished_ = finished;
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(CheckReplaceable(tree, args.path, tree.Stat(args.path), args.precondition));
  const bool whole = about && part && IsWhole(*about, *part);
  RETURN_IF_ERROR(check_offset(whole ? part->size_bytes : 0));
  if (!whole) return BeginPart(writer, args);
  ASSIGN_OR_RETURN(writer.file_, writer.dir_->ReopenFile(PartName(id)));
  ASSIGN_OR_RETURN(writer.to_rehash_, writer.dir_->OpenFile(PartName(id)));
  ASSIGN_OR_RETURN(writer.rehashed_, writer.to_rehash_->Stat());
  if (writer.rehashed_->inode != part->inode) return writer.StagedChanged();
  writer.staged_name_ = PartName(id);
  writer.offset_ = part->size_bytes;
  return absl::OkStatus();
}

absl::StatusOr<std::optional<Artifact>> Uploads::Discard(const ArtifactTree& tree, const WriteArgs& args) {
  const std::string& id = args.upload_id;
  const auto claim = TryClaim(args.project, id);
  if (claim == nullptr) return WorkspaceBusy(args.project.str(), absl::StrCat("upload ", id));
  const auto dir = tree.root().OpenDir(layout::kUploadsDir);
  if (absl::IsNotFound(dir.status())) return std::nullopt;
  RETURN_IF_ERROR(dir.status());
  ASSIGN_OR_RETURN(Found found, Find(tree, **dir, args));
  if (found.finished) return std::move(found.finished);
  RETURN_IF_ERROR(RemoveIfThere(**dir, PartName(id)));
  RETURN_IF_ERROR(RemoveIfThere(**dir, AboutName(id)));
  return std::nullopt;
}

absl::Status Uploads::BeginPart(UploadWriter& writer, const WriteArgs& args) {
  fs::Dir& dir = *writer.dir_;
  const std::string& id = args.upload_id;
  RETURN_IF_ERROR(RemoveIfThere(dir, PartName(id)));
  RETURN_IF_ERROR(RemoveIfThere(dir, AboutName(id)));
  ASSIGN_OR_RETURN(writer.file_, dir.CreateFile(PartName(id)));
  ASSIGN_OR_RETURN(const fs::FileStamp stamp, dir.Stat(PartName(id)));
  const nlohmann::json about = {{"path", args.path.shown()}, {"boot_id", options_.boot_id}, {"inode", stamp.inode}};
  ASSIGN_OR_RETURN(const auto file, dir.CreateFile(AboutName(id)));
  RETURN_IF_ERROR(file->Write(absl::StrCat(about.dump(), "\n")));
  RETURN_IF_ERROR(file->Close());
  writer.staged_name_ = PartName(id);
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
    const auto claim = TryClaim(tree.project(), id);
    if (claim == nullptr || !IsDue(**dir, name, &id)) continue;
    ASSIGN_OR_RETURN(const fs::RemovedTree removed, fs::RemoveTree(**dir, name, max_entries));
    max_entries -= removed.entry_count;
    if (!removed.complete) return true;
    if (name == PartName(id)) RETURN_IF_ERROR(RemoveIfThere(**dir, AboutName(id)));
  }
  return due.size() == kMaxSweptAtOnce;
}

// --- One stream -----------------------------------------------------------------------------------------------------

UploadWriter::~UploadWriter() {
  file_.reset();
  if (!resumable()) Drop().IgnoreError();
}

absl::Status UploadWriter::Drop() {
  file_.reset();
  if (staged_name_.empty()) return absl::OkStatus();
  absl::Status removed = RemoveIfThere(*dir_, std::exchange(staged_name_, ""));
  if (resumable()) removed.Update(RemoveIfThere(*dir_, AboutName(args_.upload_id)));
  return removed;
}

absl::StatusOr<std::optional<Artifact>> UploadWriter::Discard() {
  RETURN_IF_ERROR(Drop());
  return finished_;
}

absl::StatusOr<bool> UploadWriter::Rehash() {
  if (to_rehash_ == nullptr) return false;
  // Who appended to it by its path left it in memory: the disk is to have it while it is hashed.
  if (rehashed_bytes_ % kWritebackBytes == 0) file_->StartWriteback(rehashed_bytes_, kWritebackBytes);
  const auto buffer = std::make_unique_for_overwrite<char[]>(kRehashBytes);
  const size_t wanted = static_cast<size_t>(std::min<int64_t>(offset_ - rehashed_bytes_, kRehashBytes));
  ASSIGN_OR_RETURN(const size_t got, to_rehash_->ReadAt(rehashed_bytes_, buffer.get(), wanted));
  sha256_.Update(absl::string_view(buffer.get(), got));
  rehashed_bytes_ += static_cast<int64_t>(got);
  if (got < wanted) return StagedChanged();
  if (rehashed_bytes_ == offset_) to_rehash_.reset();
  return to_rehash_ != nullptr;
}

absl::Status UploadWriter::Write(absl::Span<const absl::string_view> pieces) {
  Hash(pieces);
  return Append(pieces);
}

absl::Status UploadWriter::Append(absl::Span<const absl::string_view> pieces) {
  if (pieces.empty()) return absl::OkStatus();
  if (finished_) return FieldInvalid("data", "comes after the end of an upload that is finished");
  RETURN_IF_ERROR(file_->WritePieces(pieces));
  for (absl::string_view piece : pieces) offset_ += static_cast<int64_t>(piece.size());
  return absl::OkStatus();
}

void UploadWriter::Hash(absl::Span<const absl::string_view> pieces) {
  for (absl::string_view piece : pieces) sha256_.Update(piece);
}

absl::Status UploadWriter::CheckSha256(const std::string& actual) const {
  if (expected_sha256_.empty() || actual.empty() || actual == expected_sha256_) return absl::OkStatus();
  return ChecksumMismatch(args_.project.str(), args_.path.shown(), expected_sha256_, actual);
}

absl::Status UploadWriter::StagedChanged() const {
  return WorkspaceBusy(args_.project.str(), absl::StrCat("upload ", args_.upload_id));
}

absl::Status UploadWriter::CheckStaged() const {
  if (!rehashed_) return absl::OkStatus();
  ASSIGN_OR_RETURN(const fs::FileStamp now, dir_->Stat(staged_name_));
  const bool untouched = offset_ > rehashed_->size_bytes || now.modify_time == rehashed_->modify_time;
  return now.inode == rehashed_->inode && now.size_bytes == offset_ && untouched ? absl::OkStatus() : StagedChanged();
}

absl::StatusOr<Artifact> UploadWriter::Finish() {
  if (finished_) {
    RETURN_IF_ERROR(CheckSha256(finished_->sha256));
    return *finished_;
  }
  const std::string actual = sha256_.Finish();
  if (absl::Status checked = CheckSha256(actual); !checked.ok()) {
    Drop().IgnoreError();
    return checked;
  }
  // What failed to reach the disk may be gone, whatever a later try says.
  absl::Status synced = file_->Sync();
  if (synced.ok()) synced = file_->Close();
  if (!synced.ok()) {
    Drop().IgnoreError();
    return synced;
  }
  file_.reset();
  const auto placed = uploads_->placer_->Place(tree_, *dir_, staged_name_, args_.path, args_.precondition,
                                               [this] { return CheckStaged(); });
  if (!placed.ok()) {
    // Renamed, and nobody knows whether for good: it must not be found to be finished later.
    if (absl::IsNotFound(dir_->Stat(staged_name_).status())) Drop().IgnoreError();
    if (!absl::IsNotFound(placed.status()) || !base::GetReason(placed.status()).empty()) return placed.status();
    return UploadNotFound(args_.project.str(), args_.upload_id);
  }
  staged_name_.clear();
  Artifact artifact = DescribeArtifact(args_.path.shown(), *placed);
  artifact.sha256 = actual;
  return artifact;
}

}  // namespace mlops::core
