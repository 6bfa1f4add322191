#include "service/artifacts/list.h"

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/status_macros.h"
#include "service/artifacts/relative_path.h"
#include "service/core/workspace.h"

namespace mlops::artifacts {
namespace {

struct Entry {
  std::string name;
  fs::EntryType type;

  bool operator<(const Entry& other) const { return name < other.name; }
};

// Maximum number of directories kept open above the one being listed. Deeper
// ones are closed while their content is listed and then reopened by path,
// so the number of descriptors does not depend on the depth of the tree.
constexpr int kMaxOpenLevels = 4;

// Walks a tree to fill one page.
class Walk {
 public:
  // `top` is the directory at `path`; "" stands for the workspace.
  Walk(const fs::Dir& top, const std::string& path, bool recursive,
       size_t page_size, DirNamesCache* cache)
      : top_(top),
        path_(path),
        recursive_(recursive),
        page_size_(page_size),
        cache_(cache) {}

  // Lists the top directory, starting after the path `after`, which is relative
  // to it; "" means at the beginning.
  absl::Status Run(absl::string_view after) {
    Level top{.path = path_};
    return List(top, after);
  }

  // The walk collects one artifact more than requested, which shows that there
  // is another page.
  TreePage TakePage() {
    page_.more = page_.artifacts.size() > page_size_;
    if (page_.more) page_.artifacts.pop_back();
    return std::move(page_);
  }

 private:
  bool full() const { return page_.artifacts.size() > page_size_; }

  // A directory on the path from the top to the directory being listed.
  struct Level {
    std::string path;
    // Levels below the top.
    int depth = 0;
    // Null while closed, and for the top.
    std::unique_ptr<fs::Dir> dir;
  };

  // Returns the directory of `level`, opening it if it is closed.
  absl::StatusOr<const fs::Dir*> Open(Level& level) const {
    if (level.depth == 0) return &top_;
    if (level.dir == nullptr) {
      const size_t begin = path_.empty() ? 0 : path_.size() + 1;
      ASSIGN_OR_RETURN(
          level.dir, top_.OpenDir(absl::string_view(level.path).substr(begin)));
    }
    return level.dir.get();
  }

  // Lists the directory of `level`, starting after the path `after`,
  // which is relative to it; "" means at the beginning.
  absl::Status List(Level& level, absl::string_view after) {
    std::string last(after.substr(0, after.find('/')));
    // Resume inside the directory in which the last page ended;
    // the directory itself was already listed.
    if (recursive_ && !last.empty()) {
      RETURN_IF_ERROR(Descend(
          level, last,
          after.size() > last.size() ? after.substr(last.size() + 1) : ""));
    }
    // Some names of a batch may turn out not to be listed, so read further
    // batches until the page is full.
    while (!full()) {
      bool whole = true;
      ASSIGN_OR_RETURN(const fs::Dir* const dir, Open(level));
      ASSIGN_OR_RETURN(const std::vector<Entry> entries,
                       NextEntries(*dir, level.path.empty(), last, &whole));
      for (const Entry& entry : entries) {
        if (full()) return absl::OkStatus();
        RETURN_IF_ERROR(Add(level, entry));
        last = entry.name;
      }
      if (whole) break;
    }
    return absl::OkStatus();
  }

  static std::string Join(absl::string_view path, absl::string_view name) {
    return path.empty() ? std::string(name) : absl::StrCat(path, "/", name);
  }

  // Returns the first entries after `last` in order, as many as the page may
  // need. Sets `whole` if these are all.
  absl::StatusOr<std::vector<Entry>> NextEntries(const fs::Dir& dir,
                                                 bool is_workspace,
                                                 absl::string_view last,
                                                 bool* whole) const {
    const size_t wanted = page_size_ + 1 - page_.artifacts.size();
    // Names are worth looking up only after the directory has been read
    // for an earlier page.
    const auto known = last.empty() ? nullptr : cache_->Find(dir, last);
    if (known != nullptr) return KnownEntries(*known, last, wanted, whole);
    DirNamesCache::Collector collector(cache_, last);
    // A max-heap of the smallest names so far, so that memory does not depend
    // on the size of the directory.
    std::vector<Entry> entries;
    *whole = true;
    RETURN_IF_ERROR(
        dir.ForEachEntry([&](absl::string_view name, fs::EntryType type) {
          if (type != fs::EntryType::kFile && type != fs::EntryType::kDirectory)
            return true;
          // Nothing beside the five directories is an artifact.
          if (is_workspace &&
              std::find(core::kDirectories.begin(), core::kDirectories.end(),
                        name) == core::kDirectories.end())
            return true;
          // Earlier pages have listed these names.
          if (!last.empty() && name <= last) return true;
          if (entries.size() == wanted) {
            // If all entries fit into the page, there is nothing to cache.
            if (std::exchange(*whole, false)) {
              for (const Entry& entry : entries)
                collector.Add(entry.name, entry.type);
            }
            collector.Add(name, type);
            if (name >= entries.front().name) return true;
            std::pop_heap(entries.begin(), entries.end());
            entries.pop_back();
          }
          entries.push_back({.name = std::string(name), .type = type});
          std::push_heap(entries.begin(), entries.end());
          return true;
        }));
    std::sort_heap(entries.begin(), entries.end());
    if (!*whole) collector.Keep(dir);
    return entries;
  }

  static std::vector<Entry> KnownEntries(const DirNames& names,
                                         absl::string_view last, size_t wanted,
                                         bool* whole) {
    const size_t begin = names.Behind(last);
    const size_t end = std::min(names.size(), begin + wanted);
    *whole = end == names.size();
    std::vector<Entry> entries;
    entries.reserve(end - begin);
    for (size_t i = begin; i < end; ++i)
      entries.push_back(
          {.name = std::string(names.name(i)), .type = names.type(i)});
    return entries;
  }

  absl::Status Add(Level& level, const Entry& entry) {
    const std::string path = Join(level.path, entry.name);
    // No request could name such a path.
    if (path.size() > kMaxPathBytes) return absl::OkStatus();
    ASSIGN_OR_RETURN(const fs::Dir* const dir, Open(level));
    const auto stamp = dir->Stat(entry.name);
    if (!stamp.ok() && !absl::IsNotFound(stamp.status())) return stamp.status();
    // The entry was deleted or replaced in the meantime.
    if (!stamp.ok() || stamp->type != entry.type) return absl::OkStatus();
    // A file in place of one of the five directories is not an artifact.
    if (level.path.empty() && stamp->type != fs::EntryType::kDirectory)
      return absl::OkStatus();
    page_.artifacts.push_back(DescribeArtifact(ShowPath(path), *stamp));
    // The surplus artifact belongs to the next page.
    if (!full()) page_.last = path;
    if (!recursive_ || full() || stamp->type != fs::EntryType::kDirectory)
      return absl::OkStatus();
    return Descend(level, entry.name, "");
  }

  absl::Status Descend(Level& parent, const std::string& name,
                       absl::string_view after) {
    ASSIGN_OR_RETURN(const fs::Dir* const dir, Open(parent));
    Level child{.path = Join(parent.path, name), .depth = parent.depth + 1};
    auto opened = dir->OpenDir(name);
    // Limit the number of descriptors; Open() reopens the parent when
    // it is needed.
    if (parent.depth >= kMaxOpenLevels) parent.dir.reset();
    if (opened.ok()) child.dir = *std::move(opened);
    absl::Status listed =
        child.dir != nullptr ? List(child, after) : opened.status();
    // Skip a directory that disappeared, was replaced by a file or link,
    // or that the server may not read.
    const auto info = base::GetErrorInfo(listed);
    const bool refused = info && info->metadata.contains("errno") &&
                         info->metadata.at("errno") == absl::StrCat(EACCES);
    return absl::IsNotFound(listed) || absl::IsFailedPrecondition(listed) ||
                   refused
               ? absl::OkStatus()
               : listed;
  }

  const fs::Dir& top_;
  const std::string path_;
  const bool recursive_;
  const size_t page_size_;
  DirNamesCache* const cache_;
  TreePage page_;
};

}  // namespace

absl::StatusOr<TreePage> ListTree(const fs::Dir& dir, const std::string& path,
                                  bool recursive, absl::string_view after,
                                  size_t page_size, DirNamesCache* cache) {
  Walk walk(dir, path, recursive, page_size, cache);
  RETURN_IF_ERROR(walk.Run(after));
  return walk.TakePage();
}

}  // namespace mlops::artifacts
