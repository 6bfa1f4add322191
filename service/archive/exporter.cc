#include "service/archive/exporter.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/id.h"
#include "proto/cpp/base/status_macros.h"
#include "service/archive/manifest.h"
#include "service/artifacts/relative_path.h"
#include "service/core/errors.h"

namespace mlops::archive {
namespace {

// Files up to this size are read before they are sent.
constexpr int64_t kSmallBytes = 1 << 20;
// Maximum number of attempts to read a small file that changes meanwhile, and
// the pause between them, which is longer than a tick of the kernel's clock.
constexpr int kReadTries = 8;
constexpr absl::Duration kReadDelay = absl::Milliseconds(25);
// Maximum number of directories kept open above the one being read.
constexpr size_t kMaxOpenLevels = 4;
// Maximum number of bytes copied by one call.
constexpr int64_t kCopyBytes = 64 << 20;
constexpr absl::string_view kDatabaseMagic("SQLite format 3\0", 16);
constexpr uint32_t kDefaultDirectoryMode = 0755;
constexpr uint32_t kLinkMode = 0777;
// The time of files that are not part of the workspace: 2000-01-01.
constexpr absl::Time kOwnTime = absl::FromUnixSeconds(946'684'800);

std::string Join(absl::string_view path, absl::string_view name) {
  return path.empty() ? std::string(name) : absl::StrCat(path, "/", name);
}

std::string Sha256Of(absl::string_view data) {
  base::Sha256 sha256;
  sha256.Update(data);
  return sha256.Finish();
}

// Reads a whole file of `size` bytes. The result is shorter if the file is.
absl::StatusOr<std::string> ReadAll(fs::FileReader& file, int64_t size) {
  std::string data(static_cast<size_t>(size), '\0');
  ASSIGN_OR_RETURN(const size_t got, file.ReadAt(0, data.data(), data.size()));
  data.resize(got);
  return data;
}

absl::StatusOr<bool> IsDatabase(fs::FileReader& file,
                                const fs::FileStamp& stamp) {
  if (stamp.size_bytes < static_cast<int64_t>(kDatabaseMagic.size()))
    return false;
  std::string magic(kDatabaseMagic.size(), '\0');
  ASSIGN_OR_RETURN(const size_t got,
                   file.ReadAt(0, magic.data(), magic.size()));
  return absl::string_view(magic).substr(0, got) == kDatabaseMagic;
}

// Returns whether the content of a file is the same. ctime is too strict: it
// also changes when the file loses its name.
bool IsSame(const fs::FileStamp& before, const fs::FileStamp& after) {
  return after.size_bytes == before.size_bytes &&
         after.modify_time == before.modify_time;
}

}  // namespace

Exporter::Exporter(artifacts::ArtifactTree tree, core::WorkspacePtr workspace,
                   std::vector<std::string> directories,
                   artifacts::Stage* stage, base::Clock clock)
    : tree_(std::move(tree)),
      workspace_(std::move(workspace)),
      directories_(std::move(directories)),
      stage_(stage),
      clock_(std::move(clock)) {
  Level top;
  for (const absl::string_view name : core::kDirectories)
    top.names.push_back(
        {.text = absl::StrCat(name, "/"), .type = fs::EntryType::kDirectory});
  // The next name is the last, so sort in descending order.
  std::sort(top.names.begin(), top.names.end(),
            [](const Name& a, const Name& b) { return a.text > b.text; });
  std::vector<std::string> selected;
  for (const absl::string_view name : core::kDirectories)
    if (IsSelected(name)) selected.emplace_back(name);
  const std::string manifest =
      EncodeManifest(MakeManifest(*workspace_, std::move(selected)));
  // The manifest comes first, so that an import can fail before it
  // receives files.
  AddOwnFile(kManifestName, manifest);
  checksums_.Add(kManifestName, Sha256Of(manifest));
  levels_.push_back(std::move(top));
}

absl::StatusOr<size_t> Exporter::Read(char* buffer, size_t size) {
  size_t filled = 0;
  while (filled < size && !done()) {
    if (begin_ < pending_.size()) {
      const size_t count = std::min(size - filled, pending_.size() - begin_);
      std::memcpy(buffer + filled, pending_.data() + begin_, count);
      begin_ += count;
      filled += count;
      continue;
    }
    // Everything prepared has been returned. Read a large file directly
    // into `buffer`, so that it is never held in memory.
    pending_.clear();
    begin_ = 0;
    if (file_ == nullptr) {
      RETURN_IF_ERROR(NextEntry());
    } else {
      ASSIGN_OR_RETURN(const size_t got,
                       ReadFile(buffer + filled, size - filled));
      filled += got;
    }
  }
  return filled;
}

absl::Status Exporter::NextEntry() {
  // Imports require a full list before the next entry.
  if (checksums_.full()) {
    AddChecksums();
    return absl::OkStatus();
  }
  while (levels_.back().names.empty()) {
    open_name_bytes_ -= levels_.back().name_bytes;
    levels_.pop_back();
    if (!levels_.empty()) continue;
    // This was the last directory: end the archive.
    if (!checksums_.empty()) AddChecksums();
    pending_.append(kTarEndBytes, '\0');
    ended_ = true;
    return absl::OkStatus();
  }
  Level& level = levels_.back();
  const Name name = std::move(level.names.back());
  level.names.pop_back();
  return level.path.empty()
             ? AddTopDirectory(std::string(absl::StripSuffix(name.text, "/")))
             : AddEntry(level, name);
}

absl::StatusOr<fs::Dir*> Exporter::OpenLevel(Level& level) {
  if (level.dir == nullptr) {
    auto opened = tree_.root().OpenDir(level.path);
    // The directory was moved or removed while its content was read.
    if (!opened.ok()) {
      return core::WorkspaceBusy(
          workspace_->project.str(),
          absl::StrCat(artifacts::ShowPath(level.path), " changed"));
    }
    level.dir = *std::move(opened);
  }
  return level.dir.get();
}

bool Exporter::IsSelected(absl::string_view directory) const {
  return directories_.empty() ||
         std::find(directories_.begin(), directories_.end(), directory) !=
             directories_.end();
}

absl::Status Exporter::AddTopDirectory(const std::string& name) {
  auto dir = tree_.root().OpenDir(name);
  if (absl::IsNotFound(dir.status())) {
    // The import will create the directory with this time, so that an export
    // of the new workspace returns the same bytes.
    return AddHeader({.path = name,
                      .type = TarType::kDirectory,
                      .mode = kDefaultDirectoryMode});
  }
  if (!dir.ok()) return Error(dir.status(), name);
  return Enter(name, *std::move(dir));
}

absl::Status Exporter::AddEntry(Level& level, const Name& name) {
  const absl::string_view text = absl::StripSuffix(name.text, "/");
  const std::string path = Join(level.path, text);
  ASSIGN_OR_RETURN(fs::Dir* const dir, OpenLevel(level));
  switch (name.type) {
    case fs::EntryType::kDirectory:
      return AddDirectory(level, path, text);
    case fs::EntryType::kFile:
      return AddFile(level, *dir, path, text);
    case fs::EntryType::kSymlink:
      return AddLink(*dir, path, text);
    case fs::EntryType::kOther:
      break;
  }
  return Unsuitable(path,
                    "is neither a file, a directory nor a symbolic link, and "
                    "cannot be archived; remove it, then retry");
}

absl::Status Exporter::AddDirectory(Level& parent, const std::string& path,
                                    absl::string_view name) {
  auto dir = parent.dir->OpenDir(name);
  // It was removed since its parent was read.
  if (absl::IsNotFound(dir.status())) return absl::OkStatus();
  if (!dir.ok()) return Error(dir.status(), path);
  // Bound the number of descriptors; OpenLevel() reopens the parent.
  if (levels_.size() > kMaxOpenLevels) parent.dir.reset();
  return Enter(path, *std::move(dir));
}

absl::Status Exporter::Enter(std::string path, std::unique_ptr<fs::Dir> dir) {
  ASSIGN_OR_RETURN(const fs::FileStamp stamp, dir->StatSelf());
  RETURN_IF_ERROR(
      AddHeader({.path = path,
                 .type = TarType::kDirectory,
                 .mode = ArchivedMode(TarType::kDirectory, stamp.mode),
                 .modify_time = stamp.modify_time}));
  // All five directories are in the archive, but only the selected ones
  // have content.
  if (levels_.size() == 1 && !IsSelected(path)) return absl::OkStatus();
  Level level{.path = std::move(path)};
  // The archive needs the names in order, so read them all. The limits
  // bound memory.
  bool too_many = false;
  RETURN_IF_ERROR(
      dir->ForEachEntry([&](absl::string_view name, fs::EntryType type) {
        const bool directory = type == fs::EntryType::kDirectory;
        level.names.push_back(
            {.text = absl::StrCat(name, directory ? "/" : ""), .type = type});
        level.name_bytes += name.size() + sizeof(Name);
        too_many = level.names.size() > kMaxOpenNames ||
                   open_name_bytes_ + level.name_bytes > kMaxOpenNameBytes;
        return !too_many;
      }));
  if (too_many)
    return Unsuitable(level.path, "has too many entries to be archived");
  std::sort(level.names.begin(), level.names.end(),
            [](const Name& a, const Name& b) { return a.text > b.text; });
  level.dir = std::move(dir);
  open_name_bytes_ += level.name_bytes;
  levels_.push_back(std::move(level));
  return absl::OkStatus();
}

absl::Status Exporter::AddLink(const fs::Dir& dir, const std::string& path,
                               absl::string_view name) {
  auto target = dir.ReadLink(name);
  if (absl::IsNotFound(target.status())) return absl::OkStatus();
  if (!target.ok()) return Error(target.status(), path);
  // Something else has replaced the link.
  if (!target->has_value()) {
    return core::WorkspaceBusy(
        workspace_->project.str(),
        absl::StrCat(artifacts::ShowPath(path), " changed"));
  }
  // A path in this workspace would lead elsewhere after the import.
  std::string relative;
  if (MakeRelative(workspace_->root_path, path, **target, &relative))
    *target = std::move(relative);
  if (const std::string problem = LinkProblem(path, **target); !problem.empty())
    return Unsuitable(path, absl::StrCat(problem, ", and cannot be archived"));
  return AddHeader({.path = path,
                    .type = TarType::kSymlink,
                    .mode = kLinkMode,
                    .link_target = **target});
}

absl::Status Exporter::AddFile(Level& level, fs::Dir& dir,
                               const std::string& path,
                               absl::string_view name) {
  // AddDatabase() has copied this log together with its database.
  if (const auto held = held_.find(path); held != held_.end()) {
    Held copy = std::move(held->second);
    held_.erase(held);
    return AddHeld(std::move(copy), path);
  }
  // It belongs to a database that was added without it, as the index
  // of a log does.
  if (artifacts::BelongsToDatabase(dir, name)) return absl::OkStatus();
  auto file = dir.OpenFile(name);
  // It was removed since the directory was read.
  if (absl::IsNotFound(file.status())) return absl::OkStatus();
  if (!file.ok()) return Error(file.status(), path);
  ASSIGN_OR_RETURN(const fs::FileStamp stamp, (*file)->Stat());
  // Without its log, the copy of a database could lack transactions.
  ASSIGN_OR_RETURN(const bool database, IsDatabase(**file, stamp));
  if (database) return AddDatabase(level, dir, path, name);
  if (stamp.size_bytes <= kSmallBytes) {
    return AddSmallFile(*std::move(file), stamp, path);
  }
  return AddLargeFile(*std::move(file), stamp, path);
}

absl::Status Exporter::AddLargeFile(std::unique_ptr<fs::FileReader> file,
                                    const fs::FileStamp& stamp,
                                    const std::string& path) {
  // A staged copy has other times than `stamp`, so compare its later states
  // with its own.
  ASSIGN_OR_RETURN(file_stamp_, file->Stat());
  file_stamp_.size_bytes = stamp.size_bytes;
  RETURN_IF_ERROR(AddHeader({.path = path,
                             .size_bytes = stamp.size_bytes,
                             .mode = ArchivedMode(TarType::kFile, stamp.mode),
                             .modify_time = stamp.modify_time}));
  file_ = std::move(file);
  file_path_ = path;
  file_offset_ = 0;
  file_sha256_ = std::make_unique<base::Sha256>();
  return absl::OkStatus();
}

absl::Status Exporter::AddSmallFile(std::unique_ptr<fs::FileReader> file,
                                    fs::FileStamp stamp,
                                    const std::string& path) {
  // The content and stamp that the previous attempt read, if complete.
  std::optional<std::pair<std::string, fs::FileStamp>> last;
  bool only_appended = false;
  for (int i = 0; i < kReadTries; ++i) {
    if (i > 0) {
      absl::SleepFor(kReadDelay);
      ASSIGN_OR_RETURN(stamp, file->Stat());
      only_appended = false;
      // The file has become too large to be held in memory.
      if (stamp.size_bytes > kSmallBytes)
        return AddLargeFile(std::move(file), stamp, path);
    }
    // Taken before the read, to tell whether the stamp may be racy.
    const absl::Time begin = clock_();
    ASSIGN_OR_RETURN(std::string data, ReadAll(*file, stamp.size_bytes));
    ASSIGN_OR_RETURN(const fs::FileStamp after, file->Stat());
    const bool complete = static_cast<int64_t>(data.size()) == stamp.size_bytes;
    // A write in the same clock tick would leave the same stamp, so wait
    // for a moment without writes.
    if (complete && IsSame(stamp, after) && !fs::MayBeRacy(stamp, begin))
      return AddContent(data, stamp, path);
    // If the previous content begins this one, nothing else has changed.
    only_appended =
        complete && last.has_value() && absl::StartsWith(data, last->first);
    // After the last attempt, keep the content that it has confirmed.
    if (i + 1 < kReadTries || !only_appended) last.reset();
    if (complete && !last.has_value()) last.emplace(std::move(data), stamp);
  }
  // The file only grows, as a log does, so its earlier content was its state
  // at one moment.
  if (only_appended) return AddContent(last->first, last->second, path);
  return core::WorkspaceBusy(
      workspace_->project.str(),
      absl::StrCat(artifacts::ShowPath(path), " changes all the time"));
}

absl::Status Exporter::AddContent(const std::string& data,
                                  const fs::FileStamp& stamp,
                                  const std::string& path) {
  const auto size = static_cast<int64_t>(data.size());
  RETURN_IF_ERROR(AddHeader({.path = path,
                             .size_bytes = size,
                             .mode = ArchivedMode(TarType::kFile, stamp.mode),
                             .modify_time = stamp.modify_time}));
  pending_ += data;
  AddPadding(size);
  checksums_.Add(path, Sha256Of(data));
  return absl::OkStatus();
}

// --- Databases ---

absl::Status Exporter::AddDatabase(Level& level, fs::Dir& dir,
                                   const std::string& path,
                                   absl::string_view name) {
  std::vector<std::pair<std::string, Held>> parts;
  const absl::Status read = artifacts::ReadConsistently(
      dir, name, workspace_->project.str(), artifacts::ShowPath(path),
      core::NeverCancelled, [&](const Database& database) -> absl::Status {
        // An earlier attempt may have been inconsistent, so start from scratch.
        parts.clear();
        // All parts are held at once, so their total size matters.
        int64_t size_bytes = 0;
        for (const Database::Part& part : database.parts())
          size_bytes += part.stamp.size_bytes;
        for (const Database::Part& part : database.parts()) {
          ASSIGN_OR_RETURN(Held held, Hold(dir, part, size_bytes));
          parts.emplace_back(part.name, std::move(held));
        }
        return absl::OkStatus();
      });
  // It was removed since the directory was read.
  if (absl::IsNotFound(read)) return absl::OkStatus();
  RETURN_IF_ERROR(read);
  // The log comes later in byte order. Insert its name if the log is younger
  // than the list of names.
  for (size_t i = 1; i < parts.size(); ++i) {
    const Name log{.text = parts[i].first, .type = fs::EntryType::kFile};
    const auto place = std::lower_bound(
        level.names.begin(), level.names.end(), log,
        [](const Name& a, const Name& b) { return a.text > b.text; });
    if (place == level.names.end() || place->text != log.text)
      level.names.insert(place, log);
    held_[Join(level.path, log.text)] = std::move(parts[i].second);
  }
  return AddHeld(std::move(parts.front().second), path);
}

absl::StatusOr<Exporter::Held> Exporter::Hold(fs::Dir& dir,
                                              const Database::Part& part,
                                              int64_t size_bytes) {
  Held held{.stamp = part.stamp};
  if (size_bytes <= kSmallBytes) {
    ASSIGN_OR_RETURN(held.content,
                     ReadAll(*part.reader, part.stamp.size_bytes));
    return held;
  }
  if (staged_ == nullptr) {
    auto staged = stage_->Begin();
    if (staged.ok()) {
      staged_ = *std::move(staged);
    } else if (base::GetReason(staged.status()) != "READ_ONLY") {
      return staged.status();
    }
  }
  // A read-only server cannot stage a copy, so read the part itself,
  // like any other file.
  if (staged_ == nullptr) {
    ASSIGN_OR_RETURN(held.file, dir.OpenFile(part.name));
    held.in_place = true;
    return held;
  }
  const std::string name = base::RandomId();
  ASSIGN_OR_RETURN(auto copy, staged_->root().CreateFile(name));
  for (int64_t at = 0; at < part.stamp.size_bytes;) {
    ASSIGN_OR_RETURN(
        const int64_t copied,
        copy->CopyFrom(*part.reader, at,
                       std::min(part.stamp.size_bytes - at, kCopyBytes)));
    // The part became shorter, which ReadConsistently() notices.
    if (copied == 0) break;
    at += copied;
  }
  RETURN_IF_ERROR(copy->Close());
  ASSIGN_OR_RETURN(held.file, staged_->root().OpenFile(name));
  // The open file needs no name, and without one nothing is left to clean up.
  RETURN_IF_ERROR(staged_->root().RemoveFile(name));
  return held;
}

absl::Status Exporter::AddHeld(Held held, const std::string& path) {
  // Since it was found consistent with the parts that were sent before it,
  // a program may have moved the content of one to the other.
  if (held.in_place) {
    ASSIGN_OR_RETURN(const fs::FileStamp now, held.file->Stat());
    if (!IsSame(now, held.stamp)) return ChangedMeanwhile(path);
  }
  return held.file == nullptr
             ? AddContent(held.content, held.stamp, path)
             : AddLargeFile(std::move(held.file), held.stamp, path);
}

absl::Status Exporter::ChangedMeanwhile(const std::string& path) const {
  return core::WorkspaceBusy(
      workspace_->project.str(),
      absl::StrCat(artifacts::ShowPath(path), " changed while it was read"));
}

absl::StatusOr<size_t> Exporter::ReadFile(char* buffer, size_t size) {
  const size_t wanted = static_cast<size_t>(std::min<int64_t>(
      file_stamp_.size_bytes - file_offset_, static_cast<int64_t>(size)));
  ASSIGN_OR_RETURN(const size_t got,
                   file_->ReadAt(file_offset_, buffer, wanted));
  file_sha256_->Update(absl::string_view(buffer, got));
  file_offset_ += static_cast<int64_t>(got);
  const bool complete = file_offset_ == file_stamp_.size_bytes;
  if (got == wanted && !complete) return got;
  // The file is complete, or has become shorter than its header says.
  const std::string sha256 = file_sha256_->Finish();
  bool whole = false;
  if (complete) {
    ASSIGN_OR_RETURN(whole, IsWhole(sha256));
  }
  if (!whole) return ChangedMeanwhile(file_path_);
  checksums_.Add(file_path_, sha256);
  AddPadding(file_offset_);
  file_.reset();
  file_sha256_.reset();
  return got;
}

absl::StatusOr<bool> Exporter::IsWhole(const std::string& sha256) {
  ASSIGN_OR_RETURN(const fs::FileStamp after, file_->Stat());
  if (IsSame(file_stamp_, after)) return true;
  if (after.size_bytes <= file_stamp_.size_bytes) return false;
  // The file grew: read the same bytes again, to find out whether they
  // are unchanged.
  base::Sha256 again;
  std::string buffer(kSmallBytes, '\0');
  for (int64_t at = 0; at < file_stamp_.size_bytes;) {
    const size_t wanted =
        static_cast<size_t>(std::min(file_stamp_.size_bytes - at, kSmallBytes));
    ASSIGN_OR_RETURN(const size_t got,
                     file_->ReadAt(at, buffer.data(), wanted));
    if (got == 0) return false;
    again.Update(absl::string_view(buffer).substr(0, got));
    at += static_cast<int64_t>(got);
  }
  return again.Finish() == sha256;
}

absl::Status Exporter::AddHeader(const TarEntry& entry) {
  // Apply the rules of an import, so that the archive can be imported.
  if (const std::string problem = order_.Add(entry.path, entry.type);
      !problem.empty())
    return Unsuitable(entry.path, absl::StrCat(problem,
                                               "; the workspace "
                                               "cannot be archived"));
  pending_ += EncodeTarEntry(entry);
  return absl::OkStatus();
}

void Exporter::AddPadding(int64_t size_bytes) {
  pending_.append(TarPadding(size_bytes), '\0');
}

void Exporter::AddOwnFile(absl::string_view name, absl::string_view content) {
  const auto size = static_cast<int64_t>(content.size());
  // Entries of the format itself do not take part in the order.
  absl::StrAppend(&pending_,
                  EncodeTarEntry({.path = std::string(name),
                                  .size_bytes = size,
                                  .modify_time = kOwnTime}),
                  content);
  AddPadding(size);
}

void Exporter::AddChecksums() {
  AddOwnFile(ChecksumsName(++lists_), checksums_.text());
  checksums_.Clear();
}

absl::Status Exporter::Unsuitable(const std::string& path,
                                  absl::string_view problem) const {
  return core::PathUnsuitable(workspace_->project.str(),
                              artifacts::ShowPath(path), problem);
}

absl::Status Exporter::Error(const absl::Status& status,
                             const std::string& path) const {
  const auto info = base::GetErrorInfo(status);
  if (!info || info->reason != "PATH_UNSUITABLE") return status;
  return Unsuitable(path, info->metadata.at("problem"));
}

}  // namespace mlops::archive
