#include "service/archive/entry_rules.h"

#include <algorithm>
#include <utility>

#include "absl/hash/hash.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "service/artifacts/relative_path.h"
#include "service/core/workspace.h"

namespace mlops::archive {
namespace {

// A list is written once it has this size, which its last line may exceed.
constexpr size_t kFullListBytes = 256 * 1024;
constexpr size_t kSha256Digits = 64;

constexpr uint32_t kKeptBits = 0775;
constexpr uint32_t kOwnerUsesFile = 0600;
constexpr uint32_t kOwnerUsesDirectory = 0700;

bool IsTopDirectory(absl::string_view name) {
  return std::find(core::kDirectories.begin(), core::kDirectories.end(),
                   name) != core::kDirectories.end();
}

// Returns what is wrong with a path; "" if nothing is.
std::string PathProblem(absl::string_view path, TarType type) {
  const std::string shown = artifacts::ShowPath(path);
  const auto parsed = artifacts::RelativePath::Parse(
      shown, artifacts::RelativePath::Use::kFind);
  if (!parsed.ok()) {
    const absl::string_view message = parsed.status().message();
    return absl::StrCat("has an invalid path: ", message);
  }
  if (parsed->is_top() && type != TarType::kDirectory)
    return "is one of the workspace's directories, but not a directory";
  return "";
}

// Escapes a path as sha256sum does. Sets `*escaped` if that changes it.
std::string EscapePath(absl::string_view path, bool* escaped) {
  std::string text;
  for (const char c : path) {
    const char letter = c == '\n' ? 'n' : c == '\r' ? 'r' : c;
    *escaped |= letter != c || c == '\\';
    if (letter != c || c == '\\') text += '\\';
    text += letter;
  }
  return text;
}

}  // namespace

std::string ChecksumsName(int number) {
  return absl::StrFormat("%s/%06d.sha256", kChecksumsDir, number);
}

uint32_t ArchivedMode(TarType type, uint32_t mode) {
  return (mode & kKeptBits) |
         (type == TarType::kDirectory ? kOwnerUsesDirectory : kOwnerUsesFile);
}

std::string LinkProblem(absl::string_view path, absl::string_view target) {
  if (target.empty() || absl::StrContains(target, '\0'))
    return "is a symbolic link without a valid target";
  if (target.size() > kMaxLinkBytes)
    return absl::StrCat("is a symbolic link to a path of more than ",
                        kMaxLinkBytes, " bytes");
  if (absl::StartsWith(target, "/")) return "is an absolute symbolic link";
  // Follow the target as text, from the directory of the link.
  std::vector<absl::string_view> way = absl::StrSplit(path, '/');
  way.pop_back();
  bool down = false;
  for (const absl::string_view name : absl::StrSplit(target, '/')) {
    if (name.empty() || name == ".") continue;
    if (name != "..") {
      down = true;
      way.push_back(name);
      continue;
    }
    // After a name, which may be a link itself, ".." could lead anywhere.
    if (down) return "is a symbolic link with \"..\" after a name";
    if (way.empty())
      return "is a symbolic link that leads out of the workspace";
    way.pop_back();
  }
  if (way.empty() || !IsTopDirectory(way.front())) {
    return "is a symbolic link that leads out of the workspace's five "
           "directories";
  }
  return "";
}

bool MakeRelative(absl::string_view root_path, absl::string_view path,
                  absl::string_view target, std::string* relative) {
  if (!absl::ConsumePrefix(&target, root_path) ||
      !absl::ConsumePrefix(&target, "/"))
    return false;
  // Each ".." leaves one of the directories that contain the link.
  const auto depth = std::count(path.begin(), path.end(), '/');
  relative->clear();
  for (auto i = depth; i > 0; --i) absl::StrAppend(relative, "../");
  absl::StrAppend(relative, target);
  return true;
}

std::string EntryOrder::Add(absl::string_view path, TarType type) {
  if (std::string problem = PathProblem(path, type); !problem.empty())
    return problem;
  if (++entries_ > kMaxEntries)
    return absl::StrCat("is more than the maximum of ", kMaxEntries,
                        " entries");
  // With its final '/', a directory comes right before its content.
  std::string full = absl::StrCat(path, type == TarType::kDirectory ? "/" : "");
  // In byte order, equal names are adjacent, so this finds every duplicate.
  if (full == last_) return "occurs twice";
  if (full < last_)
    return absl::StrCat("is not in byte order: it comes after ", last_);
  // The entries of a directory are consecutive, so a directory that does
  // not contain this entry is complete.
  while (!absl::StartsWith(full, levels_.back().path)) {
    open_names_ -= levels_.back().names.size();
    levels_.pop_back();
  }
  Level& parent = levels_.back();
  const absl::string_view name = path.substr(parent.path.size());
  if (absl::StrContains(name, '/')) return "comes without its directory";
  if (!parent.names.insert(absl::HashOf(absl::AsciiStrToLower(name))).second) {
    return "differs from another name in its directory only in the case of "
           "letters, or is both a file and a directory";
  }
  if (++open_names_ > kMaxOpenNames)
    return absl::StrCat("is in a directory of more than ", kMaxOpenNames,
                        " entries");
  last_ = std::move(full);
  if (type == TarType::kDirectory) levels_.push_back({.path = last_});
  return "";
}

void ChecksumList::Add(absl::string_view path, absl::string_view sha256) {
  bool escaped = false;
  const std::string text = EscapePath(path, &escaped);
  absl::StrAppend(&text_, escaped ? "\\" : "", sha256, "  ", text, "\n");
}

bool ChecksumList::full() const { return text_.size() >= kFullListBytes; }

std::string ChecksumList::FirstDifference(absl::string_view other) const {
  const std::vector<absl::string_view> others = absl::StrSplit(other, '\n');
  size_t line_number = 0;
  for (absl::string_view line : absl::StrSplit(text_, '\n')) {
    const absl::string_view theirs =
        line_number < others.size() ? others[line_number] : "";
    ++line_number;
    if (line == theirs) continue;
    // The other list is longer: return its first additional file.
    if (line.empty()) line = theirs;
    // Skip the escape mark, the checksum and two spaces.
    absl::ConsumePrefix(&line, "\\");
    return std::string(line.substr(std::min(line.size(), kSha256Digits + 2)));
  }
  return "";
}

}  // namespace mlops::archive
