#ifndef MLOPS_TESTS_SUPPORT_FAULT_DIR_H_
#define MLOPS_TESTS_SUPPORT_FAULT_DIR_H_

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "service/fs/dir.h"
#include "tests/support/forwarding_dir.h"

namespace mlops::support {

// Decides which calls fail, and how. Shared by all directories and files opened
// through one FaultDir. Mutating calls are those that change something on disk.
// Thread-safe.
class Faults {
 public:
  struct Plan {
    // The number of the first call that fails, counted from 1.
    int call = 1;
    // Whether all later calls fail too.
    bool all_after = false;
    // Whether reads fail too from that call on, as after a power cut.
    bool reads_too = false;
    // Whether reads are counted and fail in the same way as mutating calls.
    bool count_reads = false;
    // Whether a failing mutating call is performed before it returns the error,
    // as when an acknowledgement is lost.
    bool performed = false;
    // The status that failing calls return.
    absl::Status error = absl::InternalError("a fault");
  };

  // Starts to count, and to fail, calls by `plan`.
  void Begin(Plan plan);
  // Stops all faults.
  void End();
  // Returns whether a call has failed since Begin().
  bool happened() const;

  // Performs the mutating `call` or fails in its place. To be used for every
  // mutating call.
  absl::Status Mutate(absl::FunctionRef<absl::Status()> call);
  // Returns the status with which a read must fail, or OK.
  absl::Status Read();

 private:
  mutable absl::Mutex mutex_;
  bool active_ ABSL_GUARDED_BY(mutex_) = false;
  Plan plan_ ABSL_GUARDED_BY(mutex_);
  int calls_ ABSL_GUARDED_BY(mutex_) = 0;
};

// A Dir whose calls fail as Faults decides.
class FaultDir final : public ForwardingDir {
 public:
  // `faults` must outlive this directory and everything opened through it.
  FaultDir(std::unique_ptr<fs::Dir> target, Faults* faults)
      : ForwardingDir(std::move(target)), faults_(faults) {}

  absl::StatusOr<std::unique_ptr<fs::Dir>> OpenDir(
      absl::string_view path) const override;
  absl::StatusOr<fs::FileStamp> Stat(absl::string_view path) const override;
  absl::StatusOr<fs::FileStamp> StatSelf() const override;
  absl::StatusOr<std::optional<std::string>> ReadLink(
      absl::string_view path) const override;
  absl::StatusOr<fs::FileContent> ReadFile(absl::string_view path,
                                           int64_t max_bytes) const override;
  absl::Status ForEachEntry(
      absl::FunctionRef<bool(absl::string_view, fs::EntryType)> visit)
      const override;
  absl::StatusOr<std::unique_ptr<fs::FileReader>> OpenFile(
      absl::string_view path) const override;
  absl::Status MakeDir(absl::string_view path) override;
  absl::StatusOr<std::unique_ptr<fs::File>> CreateFile(
      absl::string_view path) override;
  absl::StatusOr<std::unique_ptr<fs::File>> CreateFileLike(
      absl::string_view path, absl::string_view like) override;
  absl::StatusOr<std::unique_ptr<fs::File>> ReopenFile(
      absl::string_view path) override;
  absl::Status Rename(absl::string_view path, const fs::Dir& to,
                      absl::string_view to_path, fs::RenameMode mode) override;
  absl::Status RemoveFile(absl::string_view path) override;
  absl::Status RemoveDir(absl::string_view path) override;
  absl::Status SetMode(uint32_t mode) override;
  absl::Status TakeAccess(const fs::Dir& like) override;
  absl::Status SetModifyTime(absl::Time time) override;
  absl::Status MakeSymlink(absl::string_view path,
                           absl::string_view target) override;
  absl::Status Sync() override;
  absl::Status SyncAll() override;

 protected:
  std::unique_ptr<fs::Dir> WrapDir(std::unique_ptr<fs::Dir> dir,
                                   absl::string_view path) const override;
  std::unique_ptr<fs::File> WrapFile(std::unique_ptr<fs::File> file,
                                     absl::string_view path) const override;

 private:
  Faults* const faults_;
};

}  // namespace mlops::support

#endif  // MLOPS_TESTS_SUPPORT_FAULT_DIR_H_
