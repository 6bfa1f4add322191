#include "service/artifacts/relative_path.h"

#include <algorithm>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "proto/cpp/base/utf8.h"
#include "service/core/errors.h"
#include "service/core/workspace.h"

namespace mlops::artifacts {
namespace {

constexpr absl::string_view kHexDigits = "0123456789abcdef";
constexpr size_t kEscapeBytes = 4;  // "\xHH"

bool IsControl(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

// Replaces the escapes in `text` with the bytes that they represent.
// Returns nullopt if a '\' does not begin an escape.
std::optional<std::string> Unescape(absl::string_view text) {
  std::string bytes;
  while (!text.empty()) {
    if (text[0] != '\\') {
      bytes += text[0];
      text.remove_prefix(1);
      continue;
    }
    if (text.size() < kEscapeBytes || text[1] != 'x') return std::nullopt;
    const size_t high = kHexDigits.find(text[2]),
                 low = kHexDigits.find(text[3]);
    if (high == absl::string_view::npos || low == absl::string_view::npos)
      return std::nullopt;
    bytes += static_cast<char>(high << 4 | low);
    text.remove_prefix(kEscapeBytes);
  }
  return bytes;
}

// Returns the problem of a name on disk, apart from bytes that are shown
// escaped; "" if there is none.
absl::string_view NameProblem(absl::string_view name) {
  if (name.empty())
    return "contains an empty name; it must not begin or end with '/', or "
           "contain '//'";
  if (name == "." || name == "..") return "contains the name \".\" or \"..\"";
  if (name.size() > kMaxNameBytes)
    return "contains a name of more than 255 bytes";
  return "";
}

// Returns the problem of `text`, whose bytes on disk are `on_disk`;
// "" if there is none.
absl::string_view Problem(absl::string_view text, absl::string_view on_disk,
                          RelativePath::Use use) {
  if (absl::StartsWith(text, "/"))
    return "is absolute; it must be relative to the workspace";
  if (std::any_of(text.begin(), text.end(), IsControl))
    return "contains control characters";
  if (!base::IsValidUtf8(text)) return "is not valid UTF-8";
  if (use == RelativePath::Use::kMake && absl::StrContains(text, '\\'))
    return "contains '\\'";
  // Each name has exactly one text: bytes that need no escape must not have
  // one, and escapes must not hide '/' or NUL.
  if (ShowPath(on_disk) != text || absl::StrContains(on_disk, '\0')) {
    return "contains a '\\' that is not an escape as lists show it";
  }
  if (on_disk.size() > kMaxPathBytes) return "is longer than 1024 bytes";
  for (absl::string_view name : absl::StrSplit(on_disk, '/')) {
    if (absl::string_view problem = NameProblem(name); !problem.empty())
      return problem;
  }
  // The record and the hidden directories must not be reachable as artifacts.
  const absl::string_view first = on_disk.substr(0, on_disk.find('/'));
  if (std::find(core::kDirectories.begin(), core::kDirectories.end(), first) ==
      core::kDirectories.end()) {
    return "must begin with one of mlflow, dvc, monitoring, models and outputs";
  }
  return "";
}

}  // namespace

absl::StatusOr<RelativePath> RelativePath::Parse(absl::string_view text,
                                                 Use use,
                                                 absl::string_view field) {
  if (text.empty()) return core::FieldInvalid(field, "is required");
  // Escaping makes a path at most four times as long.
  if (text.size() > kEscapeBytes * kMaxPathBytes)
    return core::PathInvalid(text, "is longer than 1024 bytes");
  // If the escapes are invalid, Problem() reports it, because ShowPath()
  // of the raw text differs from the text.
  std::optional<std::string> on_disk = Unescape(text);
  if (!on_disk.has_value()) on_disk = std::string(text);
  if (absl::string_view problem = Problem(text, *on_disk, use);
      !problem.empty())
    return core::PathInvalid(text, problem);
  return RelativePath(*std::move(on_disk), text);
}

absl::string_view RelativePath::parent() const {
  const size_t slash = on_disk_.rfind('/');
  return slash == std::string::npos
             ? ""
             : absl::string_view(on_disk_).substr(0, slash);
}

absl::string_view RelativePath::name() const {
  const size_t slash = on_disk_.rfind('/');
  return slash == std::string::npos
             ? on_disk_
             : absl::string_view(on_disk_).substr(slash + 1);
}

bool RelativePath::IsWithin(const RelativePath& other) const {
  return absl::StartsWith(on_disk_, other.on_disk_) &&
         (on_disk_.size() == other.on_disk_.size() ||
          on_disk_[other.on_disk_.size()] == '/');
}

std::string ShowPath(absl::string_view on_disk) {
  std::string shown;
  while (!on_disk.empty()) {
    char32_t ignored;
    size_t length = base::DecodeUtf8(on_disk, &ignored);
    if (length == 0 || on_disk[0] == '\\' || IsControl(on_disk[0])) {
      const auto byte = static_cast<unsigned char>(on_disk[0]);
      absl::StrAppend(&shown, "\\x", kHexDigits.substr(byte >> 4, 1),
                      kHexDigits.substr(byte & 15, 1));
      length = 1;
    } else {
      shown.append(on_disk.data(), length);
    }
    on_disk.remove_prefix(length);
  }
  return shown;
}

}  // namespace mlops::artifacts
