#ifndef MLOPS_TESTS_SUPPORT_OBSERVED_DIR_H_
#define MLOPS_TESTS_SUPPORT_OBSERVED_DIR_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "proto/cpp/base/status_macros.h"
#include "tests/support/forwarding_dir.h"

namespace mlops::support {

// The state that all directories opened through one ObservedDir share: the
// calls so far, such as "Stat fraud/workspace.yaml", "Sync .trash" or
// "Rename a b", and two hooks. Thread-safe, except that the hooks must be set
// while no call is in flight.
class DirObserver {
 public:
  // Called before each call. An error becomes the result of the call, which is
  // then not forwarded.
  using BeforeHook = std::function<absl::Status(absl::string_view call)>;
  // Called after each call that was forwarded, before it returns.
  using AfterHook = std::function<void(absl::string_view call)>;

  void SetBefore(BeforeHook hook) { before_ = std::move(hook); }
  void SetAfter(AfterHook hook) { after_ = std::move(hook); }

  absl::Status Before(absl::string_view call) {
    {
      absl::MutexLock lock(&mutex_);
      calls_.emplace_back(call);
    }
    return before_ ? before_(call) : absl::OkStatus();
  }
  void After(absl::string_view call) const {
    if (after_) after_(call);
  }

  // Returns the calls since the previous Take().
  std::vector<std::string> Take() {
    absl::MutexLock lock(&mutex_);
    return std::exchange(calls_, {});
  }

 private:
  BeforeHook before_;
  AfterHook after_;
  absl::Mutex mutex_;
  std::vector<std::string> calls_ ABSL_GUARDED_BY(mutex_);
};

// A Dir that reports to an observer every call on it and on directories opened
// through it. `place` is its own path in the reported calls.
class ObservedDir : public ForwardingDir {
 public:
  ObservedDir(std::unique_ptr<fs::Dir> target,
              std::shared_ptr<DirObserver> observer, std::string place = "")
      : ForwardingDir(std::move(target)),
        observer_(std::move(observer)),
        place_(std::move(place)) {}

  absl::StatusOr<std::unique_ptr<fs::Dir>> OpenDir(
      absl::string_view path) const override {
    return Observe("OpenDir", path,
                   [&] { return ForwardingDir::OpenDir(path); });
  }
  absl::StatusOr<fs::FileStamp> Stat(absl::string_view path) const override {
    return Observe("Stat", path, [&] { return ForwardingDir::Stat(path); });
  }
  absl::StatusOr<std::optional<std::string>> ReadLink(
      absl::string_view path) const override {
    return Observe("ReadLink", path,
                   [&] { return ForwardingDir::ReadLink(path); });
  }
  absl::StatusOr<fs::FileStamp> StatSelf() const override {
    return Observe("StatSelf", "", [&] { return ForwardingDir::StatSelf(); });
  }
  absl::StatusOr<fs::FileContent> ReadFile(absl::string_view path,
                                           int64_t max_bytes) const override {
    return Observe("ReadFile", path,
                   [&] { return ForwardingDir::ReadFile(path, max_bytes); });
  }
  absl::Status ForEachEntry(
      absl::FunctionRef<bool(absl::string_view name, fs::EntryType type)> visit)
      const override {
    return Observe("ForEachEntry", "",
                   [&] { return ForwardingDir::ForEachEntry(visit); });
  }
  absl::StatusOr<std::unique_ptr<fs::FileReader>> OpenFile(
      absl::string_view path) const override {
    return Observe("OpenFile", path,
                   [&] { return ForwardingDir::OpenFile(path); });
  }
  absl::Status MakeDir(absl::string_view path) override {
    return Observe("MakeDir", path,
                   [&] { return ForwardingDir::MakeDir(path); });
  }
  absl::Status MakeDirLike(absl::string_view path,
                           const fs::Dir& like) override {
    return Observe("MakeDirLike", path,
                   [&] { return ForwardingDir::MakeDirLike(path, like); });
  }
  absl::Status Link(absl::string_view path, const fs::Dir& to,
                    absl::string_view to_path) override {
    const std::string both = absl::StrCat(
        path, " ", static_cast<const ObservedDir&>(to).Place(to_path));
    return Observe("Link", both,
                   [&] { return ForwardingDir::Link(path, to, to_path); });
  }
  absl::StatusOr<std::unique_ptr<fs::File>> CreateFile(
      absl::string_view path) override {
    return Observe("CreateFile", path,
                   [&] { return ForwardingDir::CreateFile(path); });
  }
  absl::StatusOr<std::unique_ptr<fs::File>> CreateFileLike(
      absl::string_view path, absl::string_view like) override {
    return Observe("CreateFileLike", path,
                   [&] { return ForwardingDir::CreateFileLike(path, like); });
  }
  absl::StatusOr<std::unique_ptr<fs::File>> ReopenFile(
      absl::string_view path) override {
    return Observe("ReopenFile", path,
                   [&] { return ForwardingDir::ReopenFile(path); });
  }
  absl::Status Rename(absl::string_view path, const fs::Dir& to,
                      absl::string_view to_path, fs::RenameMode mode) override {
    const std::string both = absl::StrCat(
        path, " ", static_cast<const ObservedDir&>(to).Place(to_path));
    return Observe("Rename", both, [&] {
      return ForwardingDir::Rename(path, to, to_path, mode);
    });
  }
  absl::Status RemoveFile(absl::string_view path) override {
    return Observe("RemoveFile", path,
                   [&] { return ForwardingDir::RemoveFile(path); });
  }
  absl::Status RemoveDir(absl::string_view path) override {
    return Observe("RemoveDir", path,
                   [&] { return ForwardingDir::RemoveDir(path); });
  }
  absl::Status Sync() override {
    return Observe("Sync", "", [&] { return ForwardingDir::Sync(); });
  }

 protected:
  std::unique_ptr<fs::Dir> WrapDir(std::unique_ptr<fs::Dir> dir,
                                   absl::string_view path) const override {
    return std::make_unique<ObservedDir>(std::move(dir), observer_,
                                         Place(path));
  }

 private:
  // Returns the path to report for `path`, where "" is this directory.
  std::string Place(absl::string_view path) const {
    if (path.empty()) return place_.empty() ? "." : place_;
    return place_.empty() ? std::string(path) : absl::StrCat(place_, "/", path);
  }

  template <typename Call>
  auto Observe(absl::string_view name, absl::string_view path, Call call) const
      -> decltype(call()) {
    const std::string text = absl::StrCat(name, " ", Place(path));
    RETURN_IF_ERROR(observer_->Before(text));
    auto result = call();
    observer_->After(text);
    return result;
  }

  const std::shared_ptr<DirObserver> observer_;
  const std::string place_;
};

}  // namespace mlops::support

#endif  // MLOPS_TESTS_SUPPORT_OBSERVED_DIR_H_
