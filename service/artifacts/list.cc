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

namespace mlops::core {
namespace {

struct Entry {
  std::string name;
  fs::EntryType type;

  bool operator<(const Entry& other) const { return name < other.name; }
};

// Directories on the way to the one that is being listed that are kept open.
// Deeper ones are closed while what is in them is listed, and opened again by
// their path: a list has few descriptors, however deep the tree is.
constexpr int kMaxOpenLevels = 4;

// One walk that fills a page.
class Walk {
 public:
  // `top` is at `path`, "" being the workspace.
  Walk(const fs::Dir& top, const std::string& path, bool recursive,
       size_t page_size, DirNamesCache* cache)
      : top_(top),
        path_(path),
        recursive_(recursive),
        page_size_(page_size),
        cache_(cache) {}

  // Lists the top from behind `after` on, which is relative to it and may be
  // "".
  absl::Status Run(absl::string_view after) {
    Level top{.path = path_};
    return List(top, after);
  }

  // One more than asked for tells that there is more.
  TreePage TakePage() {
    page_.more = page_.artifacts.size() > page_size_;
    if (page_.more) page_.artifacts.pop_back();
    return std::move(page_);
  }

 private:
  bool full() const { return page_.artifacts.size() > page_size_; }

  // A directory on the way from the top to what is being listed.
  struct Level {
    std::string path;
    int depth = 0;                 // Below the top.
    std::unique_ptr<fs::Dir> dir;  // Null while it is closed, and of the top.
  };

  // The directory of `level`, which is opened if it is closed.
  absl::StatusOr<const fs::Dir*> Open(Level& level) const {
    if (level.depth == 0) return &top_;
    if (level.dir == nullptr) {
      const size_t begin = path_.empty() ? 0 : path_.size() + 1;
      ASSIGN_OR_RETURN(
          level.dir, top_.OpenDir(absl::string_view(level.path).substr(begin)));
    }
    return level.dir.get();
  }

  // Lists the directory of `level` from behind `after` on, which is relative to
  // it and may be "".
  absl::Status List(Level& level, absl::string_view after) {
    std::string last(after.substr(0, after.find('/')));
    // What the last page ended in goes on first: its directory was listed
    // already.
    if (recursive_ && !last.empty()) {
      RETURN_IF_ERROR(Descend(
          level, last,
          after.size() > last.size() ? after.substr(last.size() + 1) : ""));
    }
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

  // The first entries behind `last` in order, as many as the page may need;
  // `whole` tells whether these are all.
  absl::StatusOr<std::vector<Entry>> NextEntries(const fs::Dir& dir,
                                                 bool is_workspace,
                                                 absl::string_view last,
                                                 bool* whole) const {
    const size_t wanted = page_size_ + 1 - page_.artifacts.size();
    // A directory is read at least once before what was read is of use.
    const auto known = last.empty() ? nullptr : cache_->Find(dir, last);
    if (known != nullptr) return KnownEntries(*known, last, wanted, whole);
    DirNamesCache::Collector collector(cache_, last);
    // A heap with the greatest on top once there are enough.
    std::vector<Entry> entries;
    *whole = true;
    RETURN_IF_ERROR(dir.ForEachEntry([&](absl::string_view name,
                                         fs::EntryType type) {
      if (type != fs::EntryType::kFile && type != fs::EntryType::kDirectory)
        return true;
      if (is_workspace && std::find(kDirectories.begin(), kDirectories.end(),
                                    name) == kDirectories.end())
        return true;
      if (!last.empty() && name <= last) return true;
      if (entries.size() == wanted) {
        // Of those that there is room for nothing needs to be kept.
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
    if (path.size() > kMaxPathBytes) return absl::OkStatus();
    ASSIGN_OR_RETURN(const fs::Dir* const dir, Open(level));
    const auto stamp = dir->Stat(entry.name);
    if (!stamp.ok() && !absl::IsNotFound(stamp.status())) return stamp.status();
    // Gone, or something else by now.
    if (!stamp.ok() || stamp->type != entry.type) return absl::OkStatus();
    if (level.path.empty() && stamp->type != fs::EntryType::kDirectory)
      return absl::OkStatus();
    page_.artifacts.push_back(DescribeArtifact(ShowPath(path), *stamp));
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
    if (parent.depth >= kMaxOpenLevels) parent.dir.reset();
    if (opened.ok()) child.dir = *std::move(opened);
    absl::Status listed =
        child.dir != nullptr ? List(child, after) : opened.status();
    // Vanished, a file, or a link by now; or the server may not read it.
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

}  // namespace mlops::core
