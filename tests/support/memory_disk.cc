#include "tests/support/memory_disk.h"

#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/status_macros.h"

namespace mlops::support {

using fs::EntryType;
using fs::FileStamp;

namespace {

absl::Status Unsuitable(absl::string_view path, absl::string_view problem) {
  return base::MakeError(absl::StatusCode::kFailedPrecondition,
                         absl::StrCat(path, ": ", problem),
                         {.reason = "PATH_UNSUITABLE",
                          .metadata = {{"path", std::string(path)},
                                       {"problem", std::string(problem)}}});
}

}  // namespace

struct MemoryDisk::Inode {
  uint64_t number = 0;
  EntryType type = EntryType::kFile;
  absl::Time modify_time, change_time;
  // The content of a file.
  std::string data, safe_data;
  // The entries of a directory.
  std::map<std::string, InodePtr> names, safe_names;
};

class MemoryReader final : public fs::FileReader {
 public:
  MemoryReader(MemoryDisk* disk, MemoryDisk::InodePtr inode)
      : disk_(disk), inode_(std::move(inode)) {}

  absl::StatusOr<FileStamp> Stat() const override {
    absl::MutexLock lock(&disk_->mutex_);
    return MemoryDisk::Stamp(*inode_);
  }
  absl::StatusOr<size_t> ReadAt(int64_t offset, char* buffer,
                                size_t size) override {
    absl::MutexLock lock(&disk_->mutex_);
    if (static_cast<size_t>(offset) >= inode_->data.size()) return 0;
    return inode_->data.copy(buffer, size, static_cast<size_t>(offset));
  }

 private:
  MemoryDisk* const disk_;
  const MemoryDisk::InodePtr inode_;
};

class MemoryFile final : public fs::File {
 public:
  MemoryFile(MemoryDisk* disk, MemoryDisk::InodePtr inode)
      : disk_(disk), inode_(std::move(inode)) {}

  absl::Status Write(absl::string_view data) override {
    absl::MutexLock lock(&disk_->mutex_);
    inode_->data.append(data.data(), data.size());
    inode_->modify_time = inode_->change_time = disk_->now_ += absl::Seconds(1);
    return absl::OkStatus();
  }
  absl::Status Sync() override {
    absl::MutexLock lock(&disk_->mutex_);
    inode_->safe_data = inode_->data;
    return absl::OkStatus();
  }
  absl::Status Close() override { return absl::OkStatus(); }

 private:
  MemoryDisk* const disk_;
  const MemoryDisk::InodePtr inode_;
};

class MemoryDir final : public fs::Dir {
 public:
  MemoryDir(MemoryDisk* disk, MemoryDisk::InodePtr inode)
      : disk_(disk), inode_(std::move(inode)) {}

  absl::StatusOr<std::unique_ptr<fs::Dir>> OpenDir(
      absl::string_view path) const override {
    absl::MutexLock lock(&disk_->mutex_);
    ASSIGN_OR_RETURN(auto inode, disk_->Find(inode_, path));
    if (inode->type != EntryType::kDirectory)
      return Unsuitable(path, "is not a directory");
    return std::make_unique<MemoryDir>(disk_, std::move(inode));
  }
  absl::StatusOr<FileStamp> Stat(absl::string_view path) const override {
    absl::MutexLock lock(&disk_->mutex_);
    ASSIGN_OR_RETURN(const auto inode, disk_->Find(inode_, path));
    return MemoryDisk::Stamp(*inode);
  }
  // The disk has no links, so no existing entry is one.
  absl::StatusOr<std::optional<std::string>> ReadLink(
      absl::string_view path) const override {
    RETURN_IF_ERROR(Stat(path).status());
    return std::nullopt;
  }
  absl::StatusOr<FileStamp> StatSelf() const override {
    absl::MutexLock lock(&disk_->mutex_);
    return MemoryDisk::Stamp(*inode_);
  }
  absl::StatusOr<fs::FileContent> ReadFile(absl::string_view path,
                                           int64_t max_bytes) const override {
    absl::MutexLock lock(&disk_->mutex_);
    ASSIGN_OR_RETURN(const auto inode, disk_->Find(inode_, path));
    if (inode->type != EntryType::kFile)
      return Unsuitable(path, "is not a regular file");
    if (static_cast<int64_t>(inode->data.size()) > max_bytes)
      return absl::OutOfRangeError(path);
    return fs::FileContent{.data = inode->data,
                           .stamp = MemoryDisk::Stamp(*inode)};
  }
  absl::Status ForEachEntry(
      absl::FunctionRef<bool(absl::string_view, EntryType)> visit)
      const override {
    // Call `visit` without the lock, because it may use the disk.
    std::map<std::string, EntryType> entries;
    {
      absl::MutexLock lock(&disk_->mutex_);
      for (const auto& [name, inode] : inode_->names)
        entries.emplace(name, inode->type);
    }
    for (const auto& [name, type] : entries) {
      if (!visit(name, type)) break;
    }
    return absl::OkStatus();
  }
  absl::StatusOr<std::unique_ptr<fs::FileReader>> OpenFile(
      absl::string_view path) const override {
    ASSIGN_OR_RETURN(auto inode, disk_->FindFile(inode_, path));
    return std::make_unique<MemoryReader>(disk_, std::move(inode));
  }
  absl::StatusOr<std::unique_ptr<fs::File>> ReopenFile(
      absl::string_view path) override {
    ASSIGN_OR_RETURN(auto inode, disk_->FindFile(inode_, path));
    return std::make_unique<MemoryFile>(disk_, std::move(inode));
  }
  absl::Status MakeDir(absl::string_view path) override {
    return disk_->Add(inode_, path, EntryType::kDirectory).status();
  }
  absl::StatusOr<std::unique_ptr<fs::File>> CreateFile(
      absl::string_view path) override {
    ASSIGN_OR_RETURN(auto inode, disk_->Add(inode_, path, EntryType::kFile));
    return std::make_unique<MemoryFile>(disk_, std::move(inode));
  }
  absl::Status Rename(absl::string_view path, const fs::Dir& to,
                      absl::string_view to_path, fs::RenameMode mode) override {
    return disk_->Rename(inode_, path, static_cast<const MemoryDir&>(to).inode_,
                         to_path, mode);
  }
  absl::Status RemoveFile(absl::string_view path) override {
    return disk_->Remove(inode_, path, EntryType::kFile);
  }
  absl::Status RemoveDir(absl::string_view path) override {
    return disk_->Remove(inode_, path, EntryType::kDirectory);
  }
  absl::Status Sync() override {
    disk_->SyncDir(inode_);
    return absl::OkStatus();
  }
  bool CanSyncAll() const override { return disk_->can_sync_all_; }
  absl::Status SyncAll() override {
    disk_->SyncAll();
    return absl::OkStatus();
  }

 private:
  MemoryDisk* const disk_;
  const MemoryDisk::InodePtr inode_;
};

MemoryDisk::MemoryDisk() {
  absl::MutexLock lock(&mutex_);
  NewInode(EntryType::kDirectory);
}

MemoryDisk::~MemoryDisk() {
  absl::MutexLock lock(&mutex_);
  // Break cycles: after a move, safe_names and names of two directories may
  // refer to each other.
  for (const InodePtr& inode : inodes_) {
    inode->names.clear();
    inode->safe_names.clear();
  }
}

std::unique_ptr<fs::Dir> MemoryDisk::OpenTop() {
  absl::MutexLock lock(&mutex_);
  return std::make_unique<MemoryDir>(this, inodes_.front());
}

absl::Time MemoryDisk::Now() const {
  absl::MutexLock lock(&mutex_);
  return now_;
}

MemoryDisk::InodePtr MemoryDisk::NewInode(EntryType type) {
  inodes_.push_back(std::make_shared<Inode>());
  *inodes_.back() = {.number = inodes_.size(),
                     .type = type,
                     .modify_time = now_,
                     .change_time = now_};
  return inodes_.back();
}

absl::StatusOr<MemoryDisk::InodePtr> MemoryDisk::Find(
    const InodePtr& from, absl::string_view path) const {
  InodePtr inode = from;
  for (absl::string_view name : absl::StrSplit(path, '/')) {
    if (inode->type != EntryType::kDirectory)
      return Unsuitable(path, "leads through something else than a directory");
    const auto it = inode->names.find(std::string(name));
    if (it == inode->names.end()) return absl::NotFoundError(path);
    inode = it->second;
  }
  return inode;
}

absl::StatusOr<MemoryDisk::InodePtr> MemoryDisk::FindFile(
    const InodePtr& from, absl::string_view path) const {
  absl::MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(InodePtr inode, Find(from, path));
  if (inode->type == EntryType::kDirectory)
    return Unsuitable(path, "is a directory");
  if (inode->type != EntryType::kFile)
    return Unsuitable(path, "is not a regular file");
  return inode;
}

FileStamp MemoryDisk::Stamp(const Inode& inode) {
  return {.type = inode.type,
          .device = 1,
          .inode = inode.number,
          .size_bytes = static_cast<int64_t>(inode.data.size()),
          .modify_time = inode.modify_time,
          .change_time = inode.change_time,
          // Old enough, and inode numbers are never reused.
          .birth_time = absl::UnixEpoch()};
}

absl::StatusOr<std::pair<MemoryDisk::InodePtr, std::string>>
MemoryDisk::FindParent(const InodePtr& from, absl::string_view path) const {
  const size_t slash = path.rfind('/');
  if (slash == absl::string_view::npos)
    return std::make_pair(from, std::string(path));
  ASSIGN_OR_RETURN(InodePtr dir, Find(from, path.substr(0, slash)));
  if (dir->type != EntryType::kDirectory)
    return Unsuitable(path, "leads through something else than a directory");
  return std::make_pair(std::move(dir), std::string(path.substr(slash + 1)));
}

absl::StatusOr<MemoryDisk::InodePtr> MemoryDisk::Add(const InodePtr& from,
                                                     absl::string_view path,
                                                     EntryType type) {
  absl::MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(const auto place, FindParent(from, path));
  if (place.first->names.contains(place.second))
    return absl::AlreadyExistsError(path);
  InodePtr inode = NewInode(type);
  Apply({{.dir = place.first, .name = place.second, .becomes = inode}});
  return inode;
}

absl::Status MemoryDisk::Remove(const InodePtr& from, absl::string_view path,
                                EntryType type) {
  absl::MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(const InodePtr inode, Find(from, path));
  ASSIGN_OR_RETURN(const auto place, FindParent(from, path));
  if (inode->type != type) return Unsuitable(path, "is of another type");
  if (!inode->names.empty()) return absl::AlreadyExistsError(path);
  Apply({{.dir = place.first, .name = place.second}});
  return absl::OkStatus();
}

absl::Status MemoryDisk::Rename(const InodePtr& from, absl::string_view path,
                                const InodePtr& to, absl::string_view to_path,
                                fs::RenameMode mode) {
  absl::MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(const InodePtr source, Find(from, path));
  ASSIGN_OR_RETURN(const auto source_place, FindParent(from, path));
  ASSIGN_OR_RETURN(const auto target_place, FindParent(to, to_path));
  const auto it = target_place.first->names.find(target_place.second);
  const InodePtr target =
      it == target_place.first->names.end() ? nullptr : it->second;
  if (mode == fs::RenameMode::kNoReplace && target != nullptr)
    return absl::AlreadyExistsError(to_path);
  if (mode == fs::RenameMode::kExchange && target == nullptr)
    return absl::NotFoundError(to_path);
  if (mode == fs::RenameMode::kReplace && target != nullptr &&
      target->type != source->type) {
    return Unsuitable(to_path, "is of another type");
  }
  Apply({{.dir = source_place.first,
          .name = source_place.second,
          .becomes = mode == fs::RenameMode::kExchange ? target : nullptr},
         {.dir = target_place.first,
          .name = target_place.second,
          .becomes = source}});
  source->change_time = now_;
  return absl::OkStatus();
}

void MemoryDisk::Apply(Change change) {
  now_ += absl::Seconds(1);
  for (const EntryChange& entry : change) {
    if (entry.becomes == nullptr) {
      entry.dir->names.erase(entry.name);
    } else {
      entry.dir->names[entry.name] = entry.becomes;
    }
    entry.dir->modify_time = entry.dir->change_time = now_;
  }
  unsafe_.push_back(std::move(change));
}

void MemoryDisk::MakeSafe(const Change& change) {
  for (const EntryChange& entry : change) {
    if (entry.becomes == nullptr) {
      entry.dir->safe_names.erase(entry.name);
    } else {
      entry.dir->safe_names[entry.name] = entry.becomes;
    }
  }
}

void MemoryDisk::SyncDir(const InodePtr& dir) {
  absl::MutexLock lock(&mutex_);
  // Go from the newest change to the oldest, because syncing a change also
  // makes the older changes of the same entries safe.
  std::set<std::pair<Inode*, std::string>> needed;
  std::vector<bool> safe(unsafe_.size());
  for (size_t i = unsafe_.size(); i-- > 0;) {
    for (const EntryChange& entry : unsafe_[i]) {
      safe[i] = safe[i] || entry.dir == dir ||
                needed.contains({entry.dir.get(), entry.name});
    }
    if (!safe[i]) continue;
    for (const EntryChange& entry : unsafe_[i])
      needed.emplace(entry.dir.get(), entry.name);
  }
  std::vector<Change> rest;
  for (size_t i = 0; i < unsafe_.size(); ++i) {
    if (safe[i]) {
      MakeSafe(unsafe_[i]);
    } else {
      rest.push_back(std::move(unsafe_[i]));
    }
  }
  unsafe_ = std::move(rest);
}

void MemoryDisk::CutPower(const Survives& survives) {
  absl::MutexLock lock(&mutex_);
  // Once a change of an entry is lost, all later changes of it are lost, too.
  std::set<std::pair<Inode*, std::string>> lost;
  for (const Change& change : unsafe_) {
    bool kept = survives();
    for (const EntryChange& entry : change)
      kept = kept && !lost.contains({entry.dir.get(), entry.name});
    if (kept) {
      MakeSafe(change);
    } else {
      for (const EntryChange& entry : change)
        lost.emplace(entry.dir.get(), entry.name);
    }
  }
  unsafe_.clear();
  // What is safe is now what is on disk; of unsynced data a part may survive.
  for (const InodePtr& inode : inodes_) {
    // Unsynced data survives completely, by half, or not at all.
    inode->names = inode->safe_names;
    if (inode->data == inode->safe_data) continue;
    if (survives()) {
      inode->safe_data = inode->data.substr(
          0, survives() ? inode->data.size() : inode->data.size() / 2);
    }
    inode->data = inode->safe_data;
  }
  now_ += absl::Seconds(1);
}

void MemoryDisk::SyncAll() {
  // A power cut that everything survives has the same effect.
  CutPower([] { return true; });
}

}  // namespace mlops::support
