#include "service/fs/scan.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "proto/cpp/base/status_macros.h"

namespace mlops::fs {
namespace {

constexpr size_t kMaxProblems = 10;
// Well below the maximum path length of a system call.
constexpr size_t kMaxPathBytes = 2048;
// With that many names, opening their directory costs less than resolving
// its path for each.
constexpr size_t kNamesWorthAnAnchor = 100;
constexpr int kMaxKnownDepth = 1000;
constexpr size_t kMaxOpenAnchors = 8;
// Work that a scan does alone before it asks for help, so that small scans
// never wait for a thread to wake up. One file counts as 1, which is about
// a microsecond if sizes are needed.
constexpr int64_t kSoloWork = 1000;
constexpr int64_t kWorkOfReading = 16;  // Per directory.
constexpr int kMaxHelpers = 3;
constexpr absl::Duration kAskEvery = absl::Milliseconds(20);

// A directory that paths start from. Holding paths instead of descriptors
// bounds the number of descriptors. A new anchor begins where a path would
// become too long.
struct Anchor {
  // Null for the top.
  std::shared_ptr<Anchor> parent;
  // Path from the parent.
  std::string path;
  // Null while the anchor is closed.
  std::shared_ptr<const Dir> dir;
};
using AnchorPtr = std::shared_ptr<Anchor>;

// Opens anchors and keeps the most recently opened ones open. Thread-safe.
class Anchors {
 public:
  absl::StatusOr<std::shared_ptr<const Dir>> Open(const AnchorPtr& anchor) {
    absl::MutexLock lock(&mutex_);
    return OpenLocked(anchor);
  }

 private:
  absl::StatusOr<std::shared_ptr<const Dir>> OpenLocked(const AnchorPtr& anchor)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (anchor->dir != nullptr) return anchor->dir;
    ASSIGN_OR_RETURN(const std::shared_ptr<const Dir> parent,
                     OpenLocked(anchor->parent));
    ASSIGN_OR_RETURN(anchor->dir, parent->OpenDir(anchor->path));
    open_.push_back(anchor);
    // Drop the oldest; it is reopened by path if it is needed again.
    if (open_.size() > kMaxOpenAnchors) {
      open_.front()->dir = nullptr;
      open_.pop_front();
    }
    return anchor->dir;
  }

  absl::Mutex mutex_;
  // Without the top.
  std::deque<AnchorPtr> open_ ABSL_GUARDED_BY(mutex_);
};

// The subdirectories of one directory that are still to be read.
struct Batch {
  const char* next() const { return names.c_str() + at; }
  bool empty() const { return at == names.size(); }

  AnchorPtr anchor;
  // Path of that directory from the anchor; "" for the anchor itself.
  std::string parent;
  // Each terminated by a NUL.
  std::string names;
  // Offset of the next name.
  size_t at = 0;
  // Depth of the subdirectories below the top.
  int depth = 1;
  size_t group = 0;
  // As SummaryOptions::device.
  uint64_t device = 0;
  // Earlier results for the next subdirectory, followed by those of the others;
  // null if there are none.
  KnownDir* known = nullptr;
};

size_t NameCount(absl::string_view names) {
  return static_cast<size_t>(std::count(names.begin(), names.end(), '\0'));
}

// Splits off the second half of the names in `batch`. Returns an empty batch
// if there is only one name.
Batch SplitOff(Batch& batch) {
  Batch half = batch;
  half.at =
      batch.names.find('\0', batch.at + (batch.names.size() - batch.at) / 2) +
      1;
  if (half.empty()) half.at = batch.names.find('\0', batch.at) + 1;
  const absl::string_view first =
      absl::string_view(batch.names).substr(batch.at, half.at - batch.at);
  if (half.known != nullptr) half.known += NameCount(first);
  batch.names.resize(half.at);
  return half;
}

void AddProblem(TreeUsage& usage, absl::Status problem) {
  if (usage.problems.size() < kMaxProblems)
    usage.problems.push_back(std::move(problem));
}

void Add(TreeUsage part, TreeUsage& sum) {
  sum.exists |= part.exists;
  sum.file_count += part.file_count;
  sum.size_bytes += part.size_bytes;
  sum.modify_time = std::max(sum.modify_time, part.modify_time);
  for (absl::Status& problem : part.problems)
    AddProblem(sum, std::move(problem));
}

bool IsStill(const KnownDir& known, const FileStamp& stamp) {
  return known.inode == stamp.inode && known.device == stamp.device &&
         stamp.type == EntryType::kDirectory &&
         known.modify_ns == absl::ToUnixNanos(stamp.modify_time) &&
         known.change_ns == absl::ToUnixNanos(stamp.change_time);
}

// Returns the memory of a KnownDir beyond its own size, in bytes.
size_t BytesOf(const std::string& subdirectories) {
  return subdirectories.empty()
             ? 0
             : subdirectories.capacity() +
                   NameCount(subdirectories) * sizeof(KnownDir);
}

// Returns the memory of `known` and everything below it. kMaxKnownDepth bounds
// the recursion.
size_t BytesBelow(const KnownDir& known) {
  size_t bytes = BytesOf(known.subdirectories);
  const size_t count = NameCount(known.subdirectories);
  for (size_t i = 0; i < count; ++i) bytes += BytesBelow(known.children[i]);
  return bytes;
}

void Forget(KnownTree& tree, KnownDir& known) {
  tree.bytes -= BytesBelow(known);
  known = {};
}

// Replaces the subdirectories of `known` with `subdirectories`, and keeps
// the results for those in both.
void ReplaceSubdirectories(KnownTree& tree, const std::string& subdirectories,
                           KnownDir& known) {
  absl::flat_hash_map<absl::string_view, KnownDir*> old;
  const std::string old_names = std::move(known.subdirectories);
  const std::unique_ptr<KnownDir[]> old_children = std::move(known.children);
  KnownDir* child = old_children.get();
  for (const char* name = old_names.c_str();
       name < old_names.c_str() + old_names.size(); name += strlen(name) + 1) {
    old[name] = child++;
  }
  known.subdirectories = subdirectories;
  known.children = std::make_unique<KnownDir[]>(NameCount(subdirectories));
  child = known.children.get();
  for (const char* name = subdirectories.c_str();
       name < subdirectories.c_str() + subdirectories.size();
       name += strlen(name) + 1, ++child) {
    if (const auto it = old.find(name); it != old.end())
      *child = std::exchange(*it->second, {});
  }
  // Only the entries that were not taken over are still in `old`.
  tree.bytes += BytesOf(known.subdirectories);
  tree.bytes -= BytesOf(old_names);
  for (const auto& [name, gone] : old) tree.bytes -= BytesBelow(*gone);
}

// The state of one ScanTree() call that its workers share. A helper that starts
// after the end finds it finished.
class Scan : public std::enable_shared_from_this<Scan> {
 public:
  Scan(const Dir& dir, absl::string_view path, const ScanOptions& options)
      : options_(options), path_(path), usages_(options.groups.size() + 1) {
    top_->dir = std::shared_ptr<const Dir>(&dir, [](const Dir*) {});
  }

  absl::StatusOr<std::vector<TreeUsage>> Run(
      absl::FunctionRef<bool()> cancelled);

 private:
  class Worker;

  // Gives `worker` another batch, waiting for one if necessary.
  // Returns false if no work is left or the scan is cancelled. `cancelled`
  // is null for helpers.
  bool Take(Worker& worker, absl::FunctionRef<bool()>* cancelled);
  void Share(Batch batch);
  bool has_hungry() const {
    return hungry_.load(std::memory_order_relaxed) >
           queued_.load(std::memory_order_relaxed);
  }
  void AskForHelp();
  void Help();
  void Merge(std::vector<TreeUsage> usages)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const ScanOptions options_;
  const std::string path_;
  const AnchorPtr top_ = std::make_shared<Anchor>();
  Anchors anchors_;
  std::atomic<bool> stop_ = false;
  // Workers that wait for a batch.
  std::atomic<int> hungry_ = 0;
  // The size of queue_.
  std::atomic<int> queued_ = 0;

  absl::Mutex mutex_;
  std::vector<Batch> queue_ ABSL_GUARDED_BY(mutex_);
  // Workers that have work: at first only the caller.
  int busy_ ABSL_GUARDED_BY(mutex_) = 1;
  // Helpers that have started and not ended.
  int helpers_ ABSL_GUARDED_BY(mutex_) = 0;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<TreeUsage> usages_ ABSL_GUARDED_BY(mutex_);
};

// The work that one thread does for a scan.
class Scan::Worker {
 public:
  explicit Worker(Scan& scan)
      : scan_(scan), usages_(scan.options_.groups.size() + 1) {}

  // Reads the top and returns its stamp.
  absl::StatusOr<FileStamp> ReadTop() {
    Batch top{.anchor = scan_.top_, .group = scan_.options_.groups.size()};
    if (scan_.options_.known != nullptr) top.known = &scan_.options_.known->top;
    RETURN_IF_ERROR(OpenAnchor(top.anchor));
    path_ = scan_.path_;
    std::string names;
    KnownDir* children = nullptr;
    if (const auto stamp = StampIfKnown(top.known)) {
      summary_.stamp = *stamp;
      AddKnown(*top.known, *stamp, usages_[top.group]);
      names = top.known->subdirectories;
      children = top.known->children.get();
    } else {
      absl::Status read = Summarize(0);
      // The top may be unreadable although the groups are accessible.
      if (absl::IsInternal(read)) {
        ASSIGN_OR_RETURN(summary_.stamp, current_dir_->Stat(path_));
        summary_.subdirectories.clear();
        Fail(std::move(read), top);
        top.known = nullptr;
      } else {
        RETURN_IF_ERROR(read);
        AddSummary(usages_[top.group]);
      }
      // PushGroups() and later scans rely on this order.
      summary_.subdirectories = names = GroupsFirst(summary_.subdirectories);
      children = Remember(top.known);
    }
    usages_[top.group].exists = true;
    PushGroups(top.anchor, names, summary_.stamp.device, children);
    return summary_.stamp;
  }

  void Push(Batch batch) { batches_.push_back(std::move(batch)); }

  // Reads the next directory. Returns false if there is none.
  bool Step() {
    while (!batches_.empty() && batches_.back().empty()) batches_.pop_back();
    if (batches_.empty()) return false;
    // Share before reading, while waiting workers can use it.
    if (scan_.has_hungry()) ShareSome();
    Batch& from = batches_.back();
    const absl::string_view name(from.next());
    path_.assign(from.parent);
    if (!path_.empty()) path_.push_back('/');
    path_.append(name.data(), name.size());
    from.at += name.size() + 1;
    Batch place{.anchor = from.anchor,
                .depth = from.depth,
                .group = from.group,
                .device = from.device};
    if (from.known != nullptr) place.known = from.known++;
    // Remember nothing at depths where recursion would be too deep.
    if (from.depth > kMaxKnownDepth) place.known = nullptr;
    Visit(std::move(place));
    return true;
  }

  int64_t work() const { return work_; }
  std::vector<TreeUsage> usages() && { return std::move(usages_); }

 private:
  // Reads the directory at path_. `place` has its location and earlier results.
  void Visit(Batch place) {
    TreeUsage& usage = usages_[place.group];
    if (absl::Status opened = OpenAnchor(place.anchor); !opened.ok())
      return Fail(std::move(opened), place);
    if (const auto stamp = StampIfKnown(place.known)) {
      AddKnown(*place.known, *stamp, usage);
      // The top of a group decides to which file system the group is confined.
      if (place.device == 0) place.device = stamp->device;
      return PushChildren(std::move(place), place.known->subdirectories,
                          place.known->children.get());
    }
    if (absl::Status read = Summarize(place.device); !read.ok())
      return Fail(std::move(read), place);
    if (place.device == 0) place.device = summary_.stamp.device;
    // A mount point: other file systems are not entered.
    if (place.device != summary_.stamp.device)
      return ForgetIfKnown(place.known);
    AddSummary(usage);
    KnownDir* const children = Remember(place.known);
    PushChildren(std::move(place), summary_.subdirectories, children);
  }

  void Fail(absl::Status problem, const Batch& place) {
    ForgetIfKnown(place.known);
    // An entry that has vanished is not a problem.
    if (!absl::IsNotFound(problem))
      AddProblem(usages_[place.group], std::move(problem));
  }

  absl::Status OpenAnchor(const AnchorPtr& anchor) {
    if (anchor == current_anchor_) return absl::OkStatus();
    ASSIGN_OR_RETURN(current_dir_, scan_.anchors_.Open(anchor));
    current_anchor_ = anchor;
    return absl::OkStatus();
  }

  // Returns the stamp of the directory at path_ if `known` has everything
  // that the scan needs about its files.
  std::optional<FileStamp> StampIfKnown(const KnownDir* known) {
    if (known == nullptr || known->inode == 0) return std::nullopt;
    // A file can grow without changing its directory.
    if (!scan_.options_.counts_only && known->file_count > 0)
      return std::nullopt;
    const auto stamp = current_dir_->Stat(path_);
    if (!stamp.ok() || !IsStill(*known, *stamp)) return std::nullopt;
    ++work_;
    return *stamp;
  }

  // Reads the directory at path_ into summary_.
  absl::Status Summarize(uint64_t device) {
    RETURN_IF_ERROR(current_dir_->Summarize(
        path_, {.file_sizes = !scan_.options_.counts_only, .device = device},
        &summary_));
    work_ += kWorkOfReading + summary_.file_count;
    return absl::OkStatus();
  }

  void AddKnown(const KnownDir& known, const FileStamp& stamp,
                TreeUsage& usage) {
    usage.exists = true;
    usage.file_count += known.file_count;
    if (!scan_.options_.counts_only)
      usage.modify_time = std::max(usage.modify_time, stamp.modify_time);
  }

  void AddSummary(TreeUsage& usage) {
    usage.exists = true;
    usage.file_count += summary_.file_count;
    if (!summary_.problem.ok()) AddProblem(usage, summary_.problem);
    if (scan_.options_.counts_only) return;
    usage.size_bytes += summary_.size_bytes;
    usage.modify_time = std::max(
        {usage.modify_time, summary_.modify_time, summary_.stamp.modify_time});
  }

  // Stores summary_ in `known`. Returns the array for its subdirectories,
  // or null if they are not remembered.
  KnownDir* Remember(KnownDir* known) {
    if (known == nullptr) return nullptr;
    KnownTree& tree = *scan_.options_.known;
    // Keep what is known about subdirectories that still exist,
    // within the limit.
    if (known->subdirectories != summary_.subdirectories) {
      if (tree.bytes + BytesOf(summary_.subdirectories) > tree.max_bytes) {
        Forget(tree, *known);
        return nullptr;
      }
      ReplaceSubdirectories(tree, summary_.subdirectories, *known);
    }
    const FileStamp& stamp = summary_.stamp;
    // A stamp that may be racy is not trusted, but the subdirectories are
    // still useful.
    const bool exact =
        summary_.problem.ok() && !MayBeRacy(stamp, scan_.options_.now);
    known->inode = exact ? stamp.inode : 0;
    known->device = stamp.device;
    known->modify_ns = absl::ToUnixNanos(stamp.modify_time);
    known->change_ns = absl::ToUnixNanos(stamp.change_time);
    known->file_count = summary_.file_count;
    return known->children.get();
  }

  void ForgetIfKnown(KnownDir* known) {
    if (known != nullptr) Forget(*scan_.options_.known, *known);
  }

  // Returns the names of the groups, whether they exist or not, followed
  // by the other names.
  std::string GroupsFirst(const std::string& names) const {
    const auto groups = scan_.options_.groups;
    std::string result;
    for (absl::string_view group : groups)
      result.append(group.data(), group.size()).push_back('\0');
    for (const char* name = names.c_str(); name < names.c_str() + names.size();
         name += strlen(name) + 1) {
      if (std::find(groups.begin(), groups.end(), name) == groups.end())
        result.append(name).push_back('\0');
    }
    return result;
  }

  // Queues the subdirectories of the top: each group as a separate tree
  // on any device, then the rest.
  void PushGroups(const AnchorPtr& anchor, const std::string& names,
                  uint64_t device, KnownDir* known) {
    const size_t groups = scan_.options_.groups.size();
    size_t at = 0;
    for (size_t group = 0; group < groups; ++group) {
      const std::string name(names.c_str() + at);
      at += name.size() + 1;
      Push({.anchor = anchor,
            .parent = path_,
            .names = name + '\0',
            .group = group,
            .known = known == nullptr ? nullptr : known + group});
    }
    Push({.anchor = anchor,
          .parent = path_,
          .names = names.substr(at),
          .group = groups,
          .device = device,
          .known = known == nullptr ? nullptr : known + groups});
  }

  // Queues the subdirectories `names` of the directory at path_.
  void PushChildren(Batch place, const std::string& names, KnownDir* known) {
    if (names.empty()) return;
    // Begin a new anchor where paths get too long, or where so many names
    // follow that opening the directory pays off.
    if (path_.size() > kMaxPathBytes || names.size() > kNamesWorthAnAnchor) {
      place.anchor = std::make_shared<Anchor>(
          Anchor{.parent = std::move(place.anchor), .path = path_});
    } else {
      place.parent = path_;
    }
    place.names = names;
    ++place.depth;
    place.known = known;
    Push(std::move(place));
  }

  // Gives other workers the oldest batch, which is likely to lead to the most
  // work, or half of the only one.
  void ShareSome() {
    // The last batch is not empty, so this ends.
    while (batches_.front().empty()) batches_.erase(batches_.begin());
    if (batches_.size() > 1) {
      scan_.Share(std::move(batches_.front()));
      batches_.erase(batches_.begin());
    } else if (Batch half = SplitOff(batches_.back()); !half.empty()) {
      scan_.Share(std::move(half));
    }
  }

  Scan& scan_;
  std::vector<TreeUsage> usages_;
  // The last batch is next: depth first.
  std::vector<Batch> batches_;
  DirSummary summary_;
  std::string path_;
  AnchorPtr current_anchor_;
  std::shared_ptr<const Dir> current_dir_;
  int64_t work_ = 0;
};

absl::StatusOr<std::vector<TreeUsage>> Scan::Run(
    absl::FunctionRef<bool()> cancelled) {
  Worker worker(*this);
  ASSIGN_OR_RETURN(const FileStamp top, worker.ReadTop());
  bool asked_for_help = options_.helpers == nullptr;
  do {
    while (true) {
      if (cancelled()) stop_ = true;
      if (stop_ || !worker.Step()) break;
      if (!asked_for_help && worker.work() > kSoloWork) {
        asked_for_help = true;
        AskForHelp();
      }
    }
  } while (Take(worker, &cancelled));
  {
    // Helpers still refer to this scan's state, so wait for all of them
    // before summing up.
    absl::MutexLock lock(&mutex_);
    finished_ = true;
    const auto alone = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
      return helpers_ == 0;
    };
    mutex_.Await(absl::Condition(&alone));
    Merge(std::move(worker).usages());
  }
  if (stop_) return absl::CancelledError("the caller cancelled this scan");
  // If the tree was replaced meanwhile, the sums mix two trees.
  const auto top_now = top_->dir->Stat(path_);
  if (top_now.ok() &&
      (top_now->inode != top.inode || top_now->device != top.device))
    return absl::NotFoundError(path_);
  RETURN_IF_ERROR(top_now.status());
  absl::MutexLock lock(&mutex_);
  return std::move(usages_);
}

bool Scan::Take(Worker& worker, absl::FunctionRef<bool()>* cancelled) {
  const auto has_news = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return !queue_.empty() || busy_ == 0 || stop_;
  };
  absl::MutexLock lock(&mutex_);
  // A worker that waits counts as hungry, so that others share their work.
  --busy_;
  ++hungry_;
  while (!mutex_.AwaitWithTimeout(absl::Condition(&has_news), kAskEvery)) {
    if (cancelled == nullptr) continue;
    // Poll without the lock, because `cancelled` is foreign code.
    mutex_.Unlock();
    const bool stop = (*cancelled)();
    mutex_.Lock();
    if (stop) stop_ = true;
  }
  --hungry_;
  if (stop_ || queue_.empty()) return false;
  worker.Push(std::move(queue_.back()));
  queue_.pop_back();
  --queued_;
  ++busy_;
  return true;
}

void Scan::Share(Batch batch) {
  absl::MutexLock lock(&mutex_);
  queue_.push_back(std::move(batch));
  ++queued_;
}

void Scan::AskForHelp() {
  const int wanted = std::min(kMaxHelpers, options_.helpers->threads());
  for (int i = 0; i < wanted; ++i) {
    // If all threads are busy, the scan continues alone.
    if (!options_.helpers->TrySchedule(
            [scan = shared_from_this()] { scan->Help(); }))
      return;
  }
}

void Scan::Help() {
  {
    absl::MutexLock lock(&mutex_);
    // The pool started this task too late to be of use.
    if (finished_) return;
    ++helpers_;
    ++busy_;
  }
  Worker worker(*this);
  while (Take(worker, nullptr)) {
    while (!stop_ && worker.Step()) {
    }
  }
  absl::MutexLock lock(&mutex_);
  Merge(std::move(worker).usages());
  --helpers_;
}

void Scan::Merge(std::vector<TreeUsage> usages) {
  for (size_t i = 0; i < usages.size(); ++i)
    Add(std::move(usages[i]), usages_[i]);
}

}  // namespace

absl::StatusOr<std::vector<TreeUsage>> ScanTree(
    const Dir& dir, absl::string_view path, const ScanOptions& options,
    absl::FunctionRef<bool()> cancelled) {
  return std::make_shared<Scan>(dir, path, options)->Run(cancelled);
}

}  // namespace mlops::fs
