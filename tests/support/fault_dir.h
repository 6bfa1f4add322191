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

// Which calls that change something fail, and how. Shared by all the
// directories and files opened through one FaultDir. Thread-safe.
class Faults {
 public:
  struct Plan {
    int call = 1;  // Counted from 1: the first that fails.
    // Whether all the following fail as well; else just the one.
    bool all_after = false;
    // With all_after, also calls that change nothing, as when the power is
    // gone.
    bool reads_too = false;
    // Calls that change nothing are counted too, and fail as the others.
    bool count_reads = false;
    // The call is made, and its success not told: an answer lost on its way.
    bool performed = false;
    absl::Status error = absl::InternalError("a fault");
  };

  // Counts from now on.
  void Begin(Plan plan);
  // No more faults.
  void End();
  // Whether a call has failed since Begin().
  bool happened() const;

  // To be asked for each call that changes something, in whose stead the status
  // stands unless it is OK.
  absl::Status Mutate(absl::FunctionRef<absl::Status()> call);
  // Likewise for one that does not.
  absl::Status Read();

 private:
  mutable absl::Mutex mutex_;
  bool active_ ABSL_GUARDED_BY(mutex_) = false;
  Plan plan_ ABSL_GUARDED_BY(mutex_);
  int calls_ ABSL_GUARDED_BY(mutex_) = 0;
};

// A Dir whose calls fail as Faults says.
class FaultDir final : public ForwardingDir {
 public:
  // `faults` must outlive this and all that is opened through it.
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
