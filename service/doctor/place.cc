#include "service/doctor/place.h"

#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace mlops::doctor {
namespace {

// Decodes %HH. Anything else after a '%' stays as it is.
std::string Unquoted(absl::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() &&
        absl::ascii_isxdigit(text[i + 1]) &&
        absl::ascii_isxdigit(text[i + 2])) {
      plain += absl::HexStringToBytes(text.substr(i + 1, 2));
      i += 2;
    } else {
      plain.push_back(text[i]);
    }
  }
  return plain;
}

}  // namespace

std::string Normalized(absl::string_view path) {
  std::vector<absl::string_view> parts;
  for (absl::string_view part : absl::StrSplit(path, '/', absl::SkipEmpty())) {
    if (part == "..") {
      if (!parts.empty()) parts.pop_back();
    } else if (part != ".") {
      parts.push_back(part);
    }
  }
  return absl::StrCat("/", absl::StrJoin(parts, "/"));
}

bool IsWithin(absl::string_view path, absl::string_view directory) {
  if (directory == "/" || path == directory) return true;
  // A name must end there: "/ab" is not within "/a".
  return absl::ConsumePrefix(&path, directory) && absl::StartsWith(path, "/");
}

std::optional<std::string> PathOf(absl::string_view location) {
  if (absl::StartsWith(location, "/")) return Normalized(location);
  if (!absl::ConsumePrefix(&location, "file:")) return std::nullopt;
  // "file:/path", "file:///path" and "file://localhost/path".
  if (absl::ConsumePrefix(&location, "//"))
    absl::ConsumePrefix(&location, "localhost");
  if (!absl::StartsWith(location, "/")) return std::nullopt;
  return Normalized(Unquoted(location));
}

bool IsRemoteUrl(absl::string_view location) {
  // "file://host/path" names a file of another host.
  return absl::StrContains(location, "://") && !PathOf(location).has_value();
}

std::string EntryOf(absl::string_view path, absl::string_view base) {
  if (path == base || !IsWithin(path, base)) return "";
  absl::ConsumePrefix(&path, base);
  absl::ConsumePrefix(&path, "/");
  return std::string(path.substr(0, path.find('/')));
}

}  // namespace mlops::doctor
