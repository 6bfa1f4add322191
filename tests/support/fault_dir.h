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

// Decides which file system calls fail, and how. All directories and files that
// are opened through one FaultDir share it. Thread-safe.
class Faults {
 public:
  struct Plan {
    int call = 1;  // Number of the first call that fails, counted from 1.
    // All later calls fail, too.
    bool all_after = false;
    // From that call on, reads fail, too, as after a power cut.
    bool reads_too = false;
    // Reads count as calls, and fail like modifying calls.
    bool count_reads = false;
    // The modifying call takes effect but returns the error: its success is
    // lost.
    bool performed = false;
    absl::Status error = absl::InternalError("a fault");
  };

  // Starts to count calls and to inject faults.
  void Begin(Plan plan);
  // Stops injecting faults.
  void End();
  // Returns whether a call has failed since Begin().
  bool happened() const;

  // Runs `call`, which modifies the file system, or returns the planned error.
  absl::Status Mutate(absl::FunctionRef<absl::Status()> call);
  // Returns the planned error of a call that only reads, or OK.
  absl::Status Read();

 private:
  mutable absl::Mutex mutex_;
  bool active_ ABSL_GUARDED_BY(mutex_) = false;
  Plan plan_ ABSL_GUARDED_BY(mutex_);
  int calls_ ABSL_GUARDED_BY(mutex_) = 0;
};

// A Dir whose calls fail as `Faults` decides.
class FaultDir final : public ForwardingDir {
 public:
  // `faults` must outlive this and all objects that are opened through it.
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
  absl::Status Sync() override;

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
