#ifndef MLOPS_TESTS_SUPPORT_FORWARDING_DIR_H_
#define MLOPS_TESTS_SUPPORT_FORWARDING_DIR_H_

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "proto/cpp/base/status_macros.h"
#include "service/fs/dir.h"

namespace mlops::support {

// A File that forwards every call to another one. Tests override the calls that
// they observe or change.
class ForwardingFile : public fs::File {
 public:
  explicit ForwardingFile(std::unique_ptr<fs::File> target)
      : target_(std::move(target)) {}

  absl::Status Write(absl::string_view data) override {
    return target_->Write(data);
  }
  absl::StatusOr<int64_t> CopyFrom(fs::FileReader& source, int64_t offset,
                                   int64_t size) override {
    return target_->CopyFrom(source, offset, size);
  }
  absl::Status SetMode(uint32_t mode) override {
    return target_->SetMode(mode);
  }
  absl::Status TakeAccess(const fs::FileReader& like) override {
    return target_->TakeAccess(like);
  }
  absl::Status SetModifyTime(absl::Time time) override {
    return target_->SetModifyTime(time);
  }
  absl::Status Sync() override { return target_->Sync(); }
  absl::Status Close() override { return target_->Close(); }

 private:
  const std::unique_ptr<fs::File> target_;
};

// A FileReader that forwards every call to another one.
class ForwardingReader : public fs::FileReader {
 public:
  explicit ForwardingReader(std::unique_ptr<fs::FileReader> target)
      : target_(std::move(target)) {}

  absl::StatusOr<fs::FileStamp> Stat() const override {
    return target_->Stat();
  }
  absl::StatusOr<size_t> ReadAt(int64_t offset, char* buffer,
                                size_t size) override {
    return target_->ReadAt(offset, buffer, size);
  }
  absl::StatusOr<bool> TryLock(int64_t offset, int64_t size) override {
    return target_->TryLock(offset, size);
  }
  void Unlock(int64_t offset, int64_t size) override {
    target_->Unlock(offset, size);
  }

 protected:
  fs::FileReader& target() const { return *target_; }

 private:
  const std::unique_ptr<fs::FileReader> target_;
};

// A Dir that forwards every call to another one. Tests override the calls that
// they observe or change. WrapDir() and WrapFile() wrap the directories and
// files that are opened through it; by default the former get a ForwardingDir
// and the latter stay unwrapped.
class ForwardingDir : public fs::Dir {
 public:
  explicit ForwardingDir(std::unique_ptr<fs::Dir> target)
      : target_(std::move(target)) {}

  absl::StatusOr<std::unique_ptr<fs::Dir>> OpenDir(
      absl::string_view path) const override {
    ASSIGN_OR_RETURN(auto dir, target_->OpenDir(path));
    return WrapDir(std::move(dir), path);
  }
  absl::StatusOr<fs::FileStamp> Stat(absl::string_view path) const override {
    return target_->Stat(path);
  }
  absl::StatusOr<std::optional<std::string>> ReadLink(
      absl::string_view path) const override {
    return target_->ReadLink(path);
  }
  bool IsBrokenLink(absl::string_view path) const override {
    return target_->IsBrokenLink(path);
  }
  absl::StatusOr<fs::FileStamp> StatSelf() const override {
    return target_->StatSelf();
  }
  absl::StatusOr<fs::FileContent> ReadFile(absl::string_view path,
                                           int64_t max_bytes) const override {
    return target_->ReadFile(path, max_bytes);
  }
  absl::Status ForEachEntry(
      absl::FunctionRef<bool(absl::string_view name, fs::EntryType type)> visit)
      const override {
    return target_->ForEachEntry(visit);
  }
  absl::StatusOr<std::unique_ptr<fs::FileReader>> OpenFile(
      absl::string_view path) const override {
    return target_->OpenFile(path);
  }
  absl::Status MakeDir(absl::string_view path) override {
    return target_->MakeDir(path);
  }
  // `like` must be a ForwardingDir, because the real Dir needs one of its kind.
  absl::Status MakeDirLike(absl::string_view path,
                           const fs::Dir& like) override {
    return target_->MakeDirLike(
        path, *static_cast<const ForwardingDir&>(like).target_);
  }
  absl::Status SetMode(uint32_t mode) override {
    return target_->SetMode(mode);
  }
  // `like` must be a ForwardingDir, because the real Dir needs one of its kind.
  absl::Status TakeAccess(const fs::Dir& like) override {
    return target_->TakeAccess(
        *static_cast<const ForwardingDir&>(like).target_);
  }
  absl::Status SetModifyTime(absl::Time time) override {
    return target_->SetModifyTime(time);
  }
  absl::Status MakeSymlink(absl::string_view path,
                           absl::string_view target) override {
    return target_->MakeSymlink(path, target);
  }
  // `to` must be a ForwardingDir, because the real Dir needs one of its kind.
  absl::Status Link(absl::string_view path, const fs::Dir& to,
                    absl::string_view to_path) override {
    return target_->Link(path, *static_cast<const ForwardingDir&>(to).target_,
                         to_path);
  }
  absl::StatusOr<std::unique_ptr<fs::File>> CreateFile(
      absl::string_view path) override {
    ASSIGN_OR_RETURN(auto file, target_->CreateFile(path));
    return WrapFile(std::move(file), path);
  }
  absl::StatusOr<std::unique_ptr<fs::File>> CreateFileLike(
      absl::string_view path, absl::string_view like) override {
    ASSIGN_OR_RETURN(auto file, target_->CreateFileLike(path, like));
    return WrapFile(std::move(file), path);
  }
  absl::StatusOr<std::unique_ptr<fs::File>> ReopenFile(
      absl::string_view path) override {
    ASSIGN_OR_RETURN(auto file, target_->ReopenFile(path));
    return WrapFile(std::move(file), path);
  }
  // `to` must be a ForwardingDir, because the real Dir needs one of its kind.
  absl::Status Rename(absl::string_view path, const fs::Dir& to,
                      absl::string_view to_path, fs::RenameMode mode) override {
    return target_->Rename(path, *static_cast<const ForwardingDir&>(to).target_,
                           to_path, mode);
  }
  absl::Status RemoveFile(absl::string_view path) override {
    return target_->RemoveFile(path);
  }
  absl::Status RemoveDir(absl::string_view path) override {
    return target_->RemoveDir(path);
  }
  absl::Status Sync() override { return target_->Sync(); }
  absl::Status CheckSpace(int64_t bytes) const override {
    return target_->CheckSpace(bytes);
  }
  bool CanSyncAll() const override { return target_->CanSyncAll(); }
  absl::Status SyncAll() override { return target_->SyncAll(); }

 protected:
  // `path` is relative to this directory.
  virtual std::unique_ptr<fs::Dir> WrapDir(std::unique_ptr<fs::Dir> dir,
                                           absl::string_view path) const {
    (void)path;
    return std::make_unique<ForwardingDir>(std::move(dir));
  }
  virtual std::unique_ptr<fs::File> WrapFile(std::unique_ptr<fs::File> file,
                                             absl::string_view path) const {
    (void)path;
    return file;
  }

 private:
  const std::unique_ptr<fs::Dir> target_;
};

}  // namespace mlops::support

#endif  // MLOPS_TESTS_SUPPORT_FORWARDING_DIR_H_
