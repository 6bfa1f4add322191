#include "service/archive/importer.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/status_macros.h"
#include "service/artifacts/relative_path.h"
#include "service/core/errors.h"
#include "service/core/quota.h"

namespace mlops::archive {
namespace {

// Maximum number of directories kept open above the one being filled.
constexpr size_t kMaxOpenLevels = 4;
// Free space is checked for files of at least this size; for a smaller one,
// the write fails.
constexpr int64_t kAskForSpaceBytes = 1 << 20;

absl::Status Invalid(const TarEntry& entry, absl::string_view problem) {
  return core::ArchiveInvalid(entry.path, problem);
}

absl::string_view NameOf(absl::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == absl::string_view::npos ? path : path.substr(slash + 1);
}

}  // namespace

Importer::Importer(core::Authority* authority,
                   std::unique_ptr<artifacts::StagedTree> staged,
                   ImportArgs args, std::string root_path)
    : authority_(authority),
      staged_(std::move(staged)),
      args_(std::move(args)),
      root_path_(std::move(root_path)),
      reader_(this) {}

Importer::~Importer() = default;

absl::Status Importer::Feed(absl::Span<const absl::string_view> pieces) {
  for (const absl::string_view piece : pieces) {
    RETURN_IF_ERROR(reader_.Feed(piece));
    offset_ += static_cast<int64_t>(piece.size());
  }
  return absl::OkStatus();
}

absl::StatusOr<core::WorkspacePtr> Importer::Finish(core::Cancelled cancelled) {
  RETURN_IF_ERROR(reader_.Finish());
  if (!manifest_.has_value())
    return core::ArchiveInvalid(kManifestName, "is missing");
  // Every file must be verified, including those after the last full list.
  if (!checksums_.empty()) {
    return core::ArchiveInvalid(ChecksumsName(lists_ + 1),
                                "is missing, with the last checksums");
  }
  RETURN_IF_ERROR(LeaveDirectories(""));
  // Sync before Create(), which makes the workspace visible.
  RETURN_IF_ERROR(staged_->Sync(cancelled));
  ASSIGN_OR_RETURN(core::WorkspacePtr workspace,
                   authority_->Create(NewWorkspace()));
  // If another call with the same request_id was faster, its workspace
  // is returned, and the destructor removes the staged files.
  return workspace;
}

core::CreateArgs Importer::NewWorkspace() const {
  return {.project = args_.project,
          .settings = SettingsFor(*manifest_, args_.project, root_path_),
          .exact_settings = true,
          .metadata = manifest_->metadata,
          .quota = manifest_->quota,
          .request_id = args_.request_id,
          .staged = staged_->name()};
}

absl::Status Importer::Begin(const TarEntry& entry) {
  entry_ = entry;
  // The manifest has the quota, so it must precede the files.
  if (!manifest_.has_value()) return BeginManifest(entry);
  if (absl::StartsWith(entry.path, absl::StrCat(kChecksumsDir, "/")))
    return BeginChecksums(entry);
  // An export writes a full list first. Requiring that bounds memory.
  if (checksums_.full())
    return Invalid(entry, "comes before the checksums of the files before it");
  if (const std::string problem = order_.Add(entry.path, entry.type);
      !problem.empty())
    return Invalid(entry, problem);
  // Entries are in order, so directories that do not contain this one
  // are complete.
  RETURN_IF_ERROR(LeaveDirectories(entry.path));
  switch (entry.type) {
    case TarType::kFile:
      return BeginFile(entry);
    case TarType::kDirectory:
      return BeginDirectory(entry);
    case TarType::kSymlink:
      return AddLink(entry);
  }
  return absl::OkStatus();
}

absl::Status Importer::Data(absl::string_view bytes) {
  if (kind_ != Kind::kFile) {
    text_.append(bytes.data(), bytes.size());
    return absl::OkStatus();
  }
  sha256_->Update(bytes);
  return file_->Write(bytes);
}

absl::Status Importer::End() {
  switch (std::exchange(kind_, Kind::kNone)) {
    case Kind::kManifest:
      return EndManifest();
    case Kind::kChecksums:
      return EndChecksums();
    case Kind::kFile:
      return EndFile();
    case Kind::kNone:
      break;
  }
  return absl::OkStatus();
}

// --- What is not part of the workspace ---

absl::Status Importer::BeginManifest(const TarEntry& entry) {
  if (entry.path != kManifestName || entry.type != TarType::kFile) {
    return Invalid(entry,
                   "is the first, but an archive of a workspace begins with "
                   "manifest.json");
  }
  if (entry.size_bytes > kMaxManifestBytes)
    return Invalid(entry, "is too large");
  kind_ = Kind::kManifest;
  return absl::OkStatus();
}

absl::Status Importer::EndManifest() {
  base::Sha256 sha256;
  sha256.Update(text_);
  checksums_.Add(kManifestName, sha256.Finish());
  ASSIGN_OR_RETURN(manifest_, DecodeManifest(std::exchange(text_, "")));
  // If the workspace cannot be created, fail before the client sends the rest.
  core::CreateArgs args = NewWorkspace();
  args.validate_only = true;
  return authority_->Create(args).status();
}

absl::Status Importer::BeginChecksums(const TarEntry& entry) {
  if (entry.path != ChecksumsName(lists_ + 1) || entry.type != TarType::kFile)
    return Invalid(entry, "is not the next list of checksums");
  // This bounds memory too, because our own list is bounded.
  if (checksums_.empty() ||
      entry.size_bytes != static_cast<int64_t>(checksums_.text().size()))
    return Invalid(entry, "does not list exactly the files before it");
  ++lists_;
  kind_ = Kind::kChecksums;
  return absl::OkStatus();
}

absl::Status Importer::EndChecksums() {
  const std::string theirs = std::exchange(text_, "");
  if (theirs != checksums_.text()) {
    return core::ArchiveInvalid(checksums_.FirstDifference(theirs),
                                "does not match its SHA-256 in the archive");
  }
  // These files are verified.
  checksums_.Clear();
  return absl::OkStatus();
}

// --- Files, directories and links ---

absl::Status Importer::CheckRoom(const TarEntry& file) const {
  RETURN_IF_ERROR(
      core::CheckQuota(args_.project.str(), manifest_->quota,
                       {.file_count = file_count_, .size_bytes = size_bytes_},
                       {.file_count = 1, .size_bytes = file.size_bytes}));
  return file.size_bytes < kAskForSpaceBytes
             ? absl::OkStatus()
             : staged_->root().CheckSpace(file.size_bytes);
}

absl::StatusOr<fs::Dir*> Importer::OpenLevel(Level& level) {
  if (level.dir == nullptr) {
    const absl::string_view path = level.path;
    ASSIGN_OR_RETURN(level.dir,
                     staged_->root().OpenDir(path.substr(0, path.size() - 1)));
  }
  return level.dir.get();
}

absl::StatusOr<fs::Dir*> Importer::Parent() {
  if (levels_.empty()) return &staged_->root();
  return OpenLevel(levels_.back());
}

absl::Status Importer::LeaveDirectories(absl::string_view path) {
  while (!levels_.empty() &&
         (path.empty() || !absl::StartsWith(path, levels_.back().path))) {
    Level& level = levels_.back();
    ASSIGN_OR_RETURN(fs::Dir* const dir, OpenLevel(level));
    RETURN_IF_ERROR(dir->SetMode(level.mode));
    // Set the time last, because each new entry changes it.
    RETURN_IF_ERROR(dir->SetModifyTime(level.modify_time));
    levels_.pop_back();
  }
  return absl::OkStatus();
}

absl::Status Importer::BeginDirectory(const TarEntry& entry) {
  ASSIGN_OR_RETURN(fs::Dir* const parent, Parent());
  const absl::string_view name = NameOf(entry.path);
  RETURN_IF_ERROR(parent->MakeDir(name));
  // LeaveDirectories() sets the mode and time, once the content is complete.
  Level level{.path = absl::StrCat(entry.path, "/"),
              .mode = ArchivedMode(entry.type, entry.mode),
              .modify_time = entry.modify_time};
  ASSIGN_OR_RETURN(level.dir, parent->OpenDir(name));
  // Bound the number of descriptors; OpenLevel() reopens the parent.
  if (levels_.size() > kMaxOpenLevels) levels_.back().dir.reset();
  levels_.push_back(std::move(level));
  return absl::OkStatus();
}

absl::Status Importer::AddLink(const TarEntry& entry) {
  if (const std::string problem = LinkProblem(entry.path, entry.link_target);
      !problem.empty())
    return Invalid(entry, problem);
  ASSIGN_OR_RETURN(fs::Dir* const parent, Parent());
  return parent->MakeSymlink(NameOf(entry.path), entry.link_target);
}

absl::Status Importer::BeginFile(const TarEntry& entry) {
  // Fail before the content arrives.
  RETURN_IF_ERROR(CheckRoom(entry));
  size_bytes_ += entry.size_bytes;
  ++file_count_;
  ASSIGN_OR_RETURN(fs::Dir* const parent, Parent());
  ASSIGN_OR_RETURN(file_, parent->CreateFile(NameOf(entry.path)));
  sha256_ = std::make_unique<base::Sha256>();
  kind_ = Kind::kFile;
  return absl::OkStatus();
}

absl::Status Importer::EndFile() {
  checksums_.Add(entry_.path, std::exchange(sha256_, nullptr)->Finish());
  // Set the mode and time before Finish(), which may sync the file.
  RETURN_IF_ERROR(file_->SetMode(ArchivedMode(entry_.type, entry_.mode)));
  RETURN_IF_ERROR(file_->SetModifyTime(entry_.modify_time));
  return staged_->Finish(std::move(file_));
}

}  // namespace mlops::archive
