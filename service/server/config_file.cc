#include "service/server/config_file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "proto/cpp/base/status_macros.h"

#define TOML_EXCEPTIONS 0
#include "toml++/toml.h"

namespace mlops::server {
namespace {

constexpr size_t kMaxFileBytes = size_t{1} << 20;

absl::StatusOr<std::string> ReadText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(kMaxFileBytes + 1, '\0');
  // Opening a directory succeeds, so only the read may reveal the reason.
  if (!file.read(text.data(), static_cast<std::streamsize>(text.size())) &&
      !file.eof()) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot read ", path, ": ", std::strerror(errno)));
  }
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.size() > kMaxFileBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is larger than ", kMaxFileBytes,
                     " bytes, so it is not a configuration file"));
  }
  return text;
}

std::optional<std::vector<std::string>> Strings(const toml::array& array) {
  std::vector<std::string> strings;
  for (const toml::node& node : array) {
    const auto* text = node.as_string();
    if (text == nullptr) return std::nullopt;
    strings.push_back(text->get());
  }
  return strings;
}

FileSetting Convert(const std::string& path, const toml::key& key,
                    const toml::node& node) {
  using Type = FileSetting::Type;
  FileSetting setting = {
      .key = std::string(key.str()),
      .position = absl::StrCat(path, ":", key.source().begin.line)};
  if (const auto* boolean = node.as_boolean()) {
    setting.type = Type::kBoolean;
    setting.values = {boolean->get() ? "true" : "false"};
  } else if (const auto* integer = node.as_integer()) {
    setting.type = Type::kInteger;
    setting.values = {absl::StrCat(integer->get())};
  } else if (const auto* text = node.as_string()) {
    setting.type = Type::kString;
    setting.values = {text->get()};
  } else if (auto strings =
                 node.is_array() ? Strings(*node.as_array()) : std::nullopt) {
    setting.type = Type::kStrings;
    setting.values = *std::move(strings);
  }
  return setting;
}

}  // namespace

absl::StatusOr<std::vector<FileSetting>> ReadConfigFile(
    const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadText(path));
  const toml::parse_result parsed = toml::parse(text, path);
  if (!parsed) {
    const toml::parse_error& error = parsed.error();
    return absl::InvalidArgumentError(
        absl::StrCat(path, ":", error.source().begin.line, ": ",
                     std::string(error.description())));
  }
  // toml++ sorts the table by key, but errors should appear in the order of
  // lines.
  std::vector<std::pair<const toml::key*, const toml::node*>> entries;
  for (const auto& [key, node] : parsed.table())
    entries.push_back({&key, &node});
  std::sort(entries.begin(), entries.end(), [](auto& a, auto& b) {
    return a.first->source().begin.line < b.first->source().begin.line;
  });
  std::vector<FileSetting> settings;
  for (const auto& [key, node] : entries)
    settings.push_back(Convert(path, *key, *node));
  return settings;
}

}  // namespace mlops::server
