#include "tests/support/fault_dir.h"

namespace mlops::support {
namespace {

class FaultReader final : public ForwardingReader {
 public:
  FaultReader(std::unique_ptr<fs::FileReader> target, Faults* faults)
      : ForwardingReader(std::move(target)), faults_(faults) {}

  absl::StatusOr<fs::FileStamp> Stat() const override {
    RETURN_IF_ERROR(faults_->Read());
    return ForwardingReader::Stat();
  }
  absl::StatusOr<size_t> ReadAt(int64_t offset, char* buffer,
                                size_t size) override {
    RETURN_IF_ERROR(faults_->Read());
    return ForwardingReader::ReadAt(offset, buffer, size);
  }
  fs::FileReader& target() const { return ForwardingReader::target(); }

 private:
  Faults* const faults_;
};

class FaultFile final : public ForwardingFile {
 public:
  FaultFile(std::unique_ptr<fs::File> target, Faults* faults)
      : ForwardingFile(std::move(target)), faults_(faults) {}

  absl::Status Write(absl::string_view data) override {
    return faults_->Mutate([&] { return ForwardingFile::Write(data); });
  }
  absl::StatusOr<int64_t> CopyFrom(fs::FileReader& source, int64_t offset,
                                   int64_t size) override {
    absl::StatusOr<int64_t> copied;
    RETURN_IF_ERROR(faults_->Mutate([&] {
      copied = ForwardingFile::CopyFrom(
          static_cast<FaultReader&>(source).target(), offset, size);
      return copied.status();
    }));
    return copied;
  }
  absl::Status SetMode(uint32_t mode) override {
    return faults_->Mutate([&] { return ForwardingFile::SetMode(mode); });
  }
  absl::Status TakeAccess(const fs::FileReader& like) override {
    return faults_->Mutate([&] {
      return ForwardingFile::TakeAccess(
          static_cast<const FaultReader&>(like).target());
    });
  }
  absl::Status SetModifyTime(absl::Time time) override {
    return faults_->Mutate([&] { return ForwardingFile::SetModifyTime(time); });
  }
  absl::Status Sync() override {
    return faults_->Mutate([&] { return ForwardingFile::Sync(); });
  }
  absl::Status Close() override {
    return faults_->Mutate([&] { return ForwardingFile::Close(); });
  }

 private:
  Faults* const faults_;
};

}  // namespace

void Faults::Begin(Plan plan) {
  absl::MutexLock lock(&mutex_);
  active_ = true;
  plan_ = std::move(plan);
  calls_ = 0;
}

void Faults::End() {
  absl::MutexLock lock(&mutex_);
  active_ = false;
}

bool Faults::happened() const {
  absl::MutexLock lock(&mutex_);
  return calls_ >= plan_.call;
}

absl::Status Faults::Mutate(absl::FunctionRef<absl::Status()> call) {
  absl::Status error;
  bool performed = true;
  {
    absl::MutexLock lock(&mutex_);
    if (active_) {
      ++calls_;
      if (calls_ == plan_.call || (plan_.all_after && calls_ > plan_.call)) {
        error = plan_.error;
        performed = plan_.performed;
      }
    }
  }
  if (!performed) return error;
  // Not under the lock, so that concurrent calls do not wait for each other.
  absl::Status status = call();
  return error.ok() ? status : error;
}

absl::Status Faults::Read() {
  absl::MutexLock lock(&mutex_);
  if (!active_) return absl::OkStatus();
  if (plan_.count_reads) {
    ++calls_;
    return calls_ == plan_.call || (plan_.all_after && calls_ > plan_.call)
               ? plan_.error
               : absl::OkStatus();
  }
  return plan_.reads_too && calls_ >= plan_.call ? plan_.error
                                                 : absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<fs::Dir>> FaultDir::OpenDir(
    absl::string_view path) const {
  RETURN_IF_ERROR(faults_->Read());
  return ForwardingDir::OpenDir(path);
}

absl::StatusOr<fs::FileStamp> FaultDir::Stat(absl::string_view path) const {
  RETURN_IF_ERROR(faults_->Read());
  return ForwardingDir::Stat(path);
}

absl::StatusOr<fs::FileStamp> FaultDir::StatSelf() const {
  RETURN_IF_ERROR(faults_->Read());
  return ForwardingDir::StatSelf();
}

absl::StatusOr<std::optional<std::string>> FaultDir::ReadLink(
    absl::string_view path) const {
  RETURN_IF_ERROR(faults_->Read());
  return ForwardingDir::ReadLink(path);
}

absl::StatusOr<fs::FileContent> FaultDir::ReadFile(absl::string_view path,
                                                   int64_t max_bytes) const {
  RETURN_IF_ERROR(faults_->Read());
  return ForwardingDir::ReadFile(path, max_bytes);
}

absl::Status FaultDir::ForEachEntry(
    absl::FunctionRef<bool(absl::string_view, fs::EntryType)> visit) const {
  RETURN_IF_ERROR(faults_->Read());
  return ForwardingDir::ForEachEntry(visit);
}

absl::StatusOr<std::unique_ptr<fs::FileReader>> FaultDir::OpenFile(
    absl::string_view path) const {
  RETURN_IF_ERROR(faults_->Read());
  ASSIGN_OR_RETURN(auto file, ForwardingDir::OpenFile(path));
  return std::make_unique<FaultReader>(std::move(file), faults_);
}

absl::Status FaultDir::MakeDir(absl::string_view path) {
  return faults_->Mutate([&] { return ForwardingDir::MakeDir(path); });
}

absl::StatusOr<std::unique_ptr<fs::File>> FaultDir::CreateFile(
    absl::string_view path) {
  absl::StatusOr<std::unique_ptr<fs::File>> file;
  RETURN_IF_ERROR(faults_->Mutate([&] {
    file = ForwardingDir::CreateFile(path);
    return file.status();
  }));
  return file;
}

absl::StatusOr<std::unique_ptr<fs::File>> FaultDir::CreateFileLike(
    absl::string_view path, absl::string_view like) {
  absl::StatusOr<std::unique_ptr<fs::File>> file;
  RETURN_IF_ERROR(faults_->Mutate([&] {
    file = ForwardingDir::CreateFileLike(path, like);
    return file.status();
  }));
  return file;
}

absl::StatusOr<std::unique_ptr<fs::File>> FaultDir::ReopenFile(
    absl::string_view path) {
  RETURN_IF_ERROR(faults_->Read());
  return ForwardingDir::ReopenFile(path);
}

absl::Status FaultDir::Rename(absl::string_view path, const fs::Dir& to,
                              absl::string_view to_path, fs::RenameMode mode) {
  return faults_->Mutate(
      [&] { return ForwardingDir::Rename(path, to, to_path, mode); });
}

absl::Status FaultDir::RemoveFile(absl::string_view path) {
  return faults_->Mutate([&] { return ForwardingDir::RemoveFile(path); });
}

absl::Status FaultDir::RemoveDir(absl::string_view path) {
  return faults_->Mutate([&] { return ForwardingDir::RemoveDir(path); });
}

absl::Status FaultDir::SetMode(uint32_t mode) {
  return faults_->Mutate([&] { return ForwardingDir::SetMode(mode); });
}

absl::Status FaultDir::TakeAccess(const fs::Dir& like) {
  return faults_->Mutate([&] { return ForwardingDir::TakeAccess(like); });
}

absl::Status FaultDir::SetModifyTime(absl::Time time) {
  return faults_->Mutate([&] { return ForwardingDir::SetModifyTime(time); });
}

absl::Status FaultDir::MakeSymlink(absl::string_view path,
                                   absl::string_view target) {
  return faults_->Mutate(
      [&] { return ForwardingDir::MakeSymlink(path, target); });
}

absl::Status FaultDir::SyncAll() {
  return faults_->Mutate([&] { return ForwardingDir::SyncAll(); });
}

absl::Status FaultDir::Sync() {
  return faults_->Mutate([&] { return ForwardingDir::Sync(); });
}

std::unique_ptr<fs::Dir> FaultDir::WrapDir(std::unique_ptr<fs::Dir> dir,
                                           absl::string_view) const {
  return std::make_unique<FaultDir>(std::move(dir), faults_);
}

std::unique_ptr<fs::File> FaultDir::WrapFile(std::unique_ptr<fs::File> file,
                                             absl::string_view) const {
  return std::make_unique<FaultFile>(std::move(file), faults_);
}

}  // namespace mlops::support
