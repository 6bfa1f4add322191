#include "service/core/template.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/utf8.h"
#include "service/core/update_rules.h"
#include "service/core/workspace_yaml.h"

namespace mlops::core {
namespace {

using yaml::Node;
using yaml::Problem;

// The limits of artifact paths.
constexpr size_t kMaxPathBytes = 1024;
constexpr size_t kMaxNameBytes = 255;

enum class Where { kText, kName };

struct Variable {
  absl::string_view name;
  std::string TemplateVariables::*member;
};
constexpr std::array<Variable, 3> kVariables = {{
    {"project", &TemplateVariables::project},
    {"date", &TemplateVariables::date},
    {"root", &TemplateVariables::root},
}};

// A text up to the next variable, and that variable if there is one.
struct Piece {
  std::string text;
  const Variable* variable = nullptr;
};

// Splits `text` at its variables. Returns the problem, or "" if there is none.
std::string Split(absl::string_view text, Where where,
                  std::vector<Piece>* pieces) {
  constexpr absl::string_view kAdvice =
      "; write $$ for a dollar sign before a brace";
  pieces->emplace_back();
  while (!text.empty()) {
    const size_t dollar = std::min(text.find('$'), text.size());
    pieces->back().text.append(text.data(), dollar);
    text.remove_prefix(dollar);
    if (text.empty()) break;
    if (absl::StartsWith(text, "$$")) {
      pieces->back().text.push_back('$');
      text.remove_prefix(2);
      continue;
    }
    // A dollar sign before any other character is ordinary text.
    if (!absl::StartsWith(text, "${")) {
      pieces->back().text.push_back('$');
      text.remove_prefix(1);
      continue;
    }
    const size_t end = text.find('}');
    if (end == absl::string_view::npos)
      return absl::StrCat("has \"${\" without \"}\"", kAdvice);
    const absl::string_view name = text.substr(2, end - 2);
    text.remove_prefix(end + 1);
    const auto* variable = absl::c_find_if(
        kVariables, [name](const Variable& v) { return v.name == name; });
    if (variable == kVariables.end()) {
      return absl::StrCat("has the unknown variable ${", base::Echo(name),
                          "}; known are ${project}, ${date} and ${root}",
                          kAdvice);
    }
    if (where == Where::kName && name == "root")
      return "has ${root}, which is a path and cannot be part of a name";
    pieces->back().variable = variable;
    pieces->emplace_back();
  }
  return "";
}

std::string CheckVariables(absl::string_view text, Where where) {
  std::vector<Piece> pieces;
  return Split(text, where, &pieces);
}

// Checks the variables in all strings below `node`.
std::optional<Problem> CheckStrings(const Node& node) {
  if (node.kind == Node::Kind::kScalar) {
    if (std::string what = CheckVariables(node.text, Where::kText);
        !what.empty())
      return Problem{node.line, std::move(what)};
  }
  for (const Node& item : node.items) {
    if (auto problem = CheckStrings(item)) return problem;
  }
  for (const yaml::Entry& entry : node.entries) {
    if (auto problem = CheckStrings(entry.value)) return problem;
  }
  return std::nullopt;
}

std::optional<Problem> ReadText(const Node& node, std::string* text) {
  if (node.kind == Node::Kind::kNull) return std::nullopt;
  if (node.kind != Node::Kind::kScalar)
    return Problem{node.line, "must be text"};
  *text = node.text;
  return std::nullopt;
}

std::optional<Problem> ReadSettings(const Node& node, Settings* settings) {
  if (node.kind == Node::Kind::kNull) return std::nullopt;
  if (node.kind != Node::Kind::kMap) return Problem{node.line, "must be a map"};
  for (const auto& [key, value] : node.entries) {
    const auto* field = absl::c_find_if(
        kSettingFields,
        [&key = key](const SettingField& f) { return f.name == key.text; });
    if (field == kSettingFields.end()) {
      return Problem{key.line,
                     absl::StrCat("\"", base::Echo(key.text),
                                  "\" is not a setting; those are "
                                  "mlflow_experiment_id, mlflow_tracking_uri, "
                                  "dvc_remote_path and bentoml_tag_prefix")};
    }
    if (value.kind == Node::Kind::kNull) continue;
    std::string text;
    if (auto problem = ReadText(value, &text)) return problem;
    if (auto problem = CheckStrings(value)) return problem;
    settings->*field->member = std::move(text);
    // Check after each setting, so that the problem has the right line.
    if (absl::Status checked = CheckSettings(*settings); !checked.ok())
      return Problem{value.line, std::string(checked.message())};
  }
  return std::nullopt;
}

std::optional<Problem> ReadMetadata(const Node& node, Metadata* metadata) {
  if (node.kind == Node::Kind::kNull) return std::nullopt;
  if (node.kind != Node::Kind::kMap) return Problem{node.line, "must be a map"};
  if (auto problem = CheckStrings(node)) return problem;
  if (auto problem = yaml::Resolve(node, metadata)) return problem;
  if (absl::Status checked = CheckMetadata(*metadata); !checked.ok())
    return Problem{node.line, std::string(checked.message())};
  return std::nullopt;
}

std::optional<Problem> ReadDirectories(const Node& node,
                                       std::vector<std::string>* directories) {
  if (node.kind == Node::Kind::kNull) return std::nullopt;
  if (node.kind != Node::Kind::kSequence)
    return Problem{node.line, "must be a list of paths"};
  if (node.items.size() > kMaxTemplateDirectories) {
    return Problem{node.line, absl::StrCat("has more than ",
                                           kMaxTemplateDirectories, " items")};
  }
  for (const Node& item : node.items) {
    std::string path;
    if (auto problem = ReadText(item, &path)) return problem;
    if (std::string what = CheckTemplatePath(path); !what.empty()) {
      return Problem{item.line,
                     absl::StrCat("\"", base::Echo(path), "\" ", what)};
    }
    directories->push_back(std::move(path));
  }
  return std::nullopt;
}

std::optional<Problem> ReadQuota(const Node& node, Quota* quota) {
  if (node.kind == Node::Kind::kNull) return std::nullopt;
  if (node.kind != Node::Kind::kMap) return Problem{node.line, "must be a map"};
  for (const auto& [key, value] : node.entries) {
    nlohmann::json number;
    if (auto problem = yaml::Resolve(value, &number)) return problem;
    if (!number.is_number_integer())
      return Problem{value.line, "must be an integer"};
    const auto limit = number.get<int64_t>();
    if (key.text == kMaxSizeBytes) {
      quota->max_size_bytes = limit;
    } else if (key.text == kMaxFileCount) {
      if (limit > INT32_MAX)
        return Problem{value.line, absl::StrCat("must be at most ", INT32_MAX)};
      // The cast must not make a negative limit valid; CheckQuotaFields()
      // rejects -1.
      quota->max_file_count =
          static_cast<int32_t>(std::max<int64_t>(limit, -1));
    } else {
      return Problem{
          key.line, absl::StrCat("\"", base::Echo(key.text),
                                 "\" is not a quota; those are ", kMaxSizeBytes,
                                 " and ", kMaxFileCount)};
    }
    if (absl::Status checked = CheckQuotaFields(*quota); !checked.ok())
      return Problem{value.line, std::string(checked.message())};
  }
  return std::nullopt;
}

std::optional<Problem> ReadEntry(const Node& key, const Node& value,
                                 Template* result) {
  if (key.text == "description") {
    if (auto problem = ReadText(value, &result->description)) return problem;
    if (result->description.size() <= kMaxTemplateDescriptionBytes)
      return std::nullopt;
    return Problem{value.line,
                   absl::StrCat("is longer than ", kMaxTemplateDescriptionBytes,
                                " bytes")};
  }
  if (key.text == "settings") return ReadSettings(value, &result->settings);
  if (key.text == "metadata") return ReadMetadata(value, &result->metadata);
  if (key.text == "directories")
    return ReadDirectories(value, &result->directories);
  if (key.text == "quota") return ReadQuota(value, &result->quota);
  return Problem{key.line,
                 "is not known; the keys are description, settings, metadata, "
                 "directories and quota"};
}

// Replaces the variables in all strings below `value`.
void SubstituteStrings(Metadata& value, const TemplateVariables& variables) {
  if (value.is_string()) {
    value = Substitute(value.get_ref<const std::string&>(), variables);
  } else if (value.is_structured()) {
    for (Metadata& item : value) SubstituteStrings(item, variables);
  }
}

}  // namespace

std::vector<std::string> ListedPaths(const Template& tmpl) {
  std::vector<std::string> paths = tmpl.directories;
  for (const Template::File& file : tmpl.files) paths.push_back(file.path);
  // A directory may be listed in template.yaml and exist in `files/` too.
  absl::c_sort(paths);
  paths.erase(std::unique(paths.begin(), paths.end()), paths.end());
  if (paths.size() > kMaxListedPaths) paths.resize(kMaxListedPaths);
  return paths;
}

Amount AmountOf(const Template& tmpl) {
  Amount amount;
  // Only regular files count against a quota.
  for (const Template::File& file : tmpl.files) {
    if (file.kind != Template::File::Kind::kFile) continue;
    amount += {.file_count = 1, .size_bytes = file.size_bytes};
  }
  return amount;
}

TemplateVariables VariablesFor(const ProjectName& project,
                               absl::string_view root_path, absl::Time now) {
  return {.project = project.str(),
          .root = base::PathText(root_path),
          .date = absl::FormatTime("%Y-%m-%d", now, absl::UTCTimeZone())};
}

std::optional<Problem> ParseTemplate(absl::string_view text, Template* result) {
  Node root;
  if (auto problem = yaml::Parse(text, &root)) return problem;
  // A template without values, for example one that consists of comments.
  if (root.kind == Node::Kind::kNull) return std::nullopt;
  if (root.kind != Node::Kind::kMap)
    return Problem{root.line, "must be a map of keys to values"};
  for (const auto& [key, value] : root.entries) {
    if (auto problem = ReadEntry(key, value, result)) {
      problem->what = absl::StrCat(base::Echo(key.text), ": ", problem->what);
      return problem;
    }
  }
  return std::nullopt;
}

std::string CheckTemplatePath(absl::string_view path) {
  if (path.size() > kMaxPathBytes)
    return absl::StrCat("is longer than ", kMaxPathBytes, " bytes");
  if (!base::IsValidUtf8(path)) return "is not UTF-8";
  const std::vector<absl::string_view> names = absl::StrSplit(path, '/');
  for (absl::string_view name : names) {
    if (name.empty() || name == "." || name == "..")
      return "has an empty name, \".\" or \"..\"";
    if (name.size() > kMaxNameBytes) {
      return absl::StrCat("has a name longer than ", kMaxNameBytes, " bytes");
    }
    if (absl::c_any_of(name, [](char c) {
          return c == '\\' ||
                 absl::ascii_iscntrl(static_cast<unsigned char>(c));
        }))
      return "has a backslash or a control character";
    if (std::string what = CheckVariables(name, Where::kName); !what.empty())
      return what;
  }
  if (!absl::c_linear_search(kDirectories, names.front())) {
    return "must begin with mlflow/, dvc/, monitoring/, models/ or outputs/";
  }
  return "";
}

std::string CheckTemplateLink(absl::string_view path,
                              absl::string_view target) {
  if (target.empty() || target.front() == '/')
    return "is a link to an absolute path; links must be relative";
  // Follow the target by name, from the directory that contains the link. No
  // intermediate step may leave the workspace, even if a later one returns.
  std::vector<absl::string_view> names = absl::StrSplit(path, '/');
  names.pop_back();
  for (absl::string_view name : absl::StrSplit(target, '/')) {
    if (name.empty() || name == ".") continue;
    if (name != "..") {
      names.push_back(name);
    } else if (names.empty()) {
      return "is a link that leaves the workspace";
    } else {
      names.pop_back();
    }
  }
  if (names.empty() || !absl::c_linear_search(kDirectories, names.front()))
    return "is a link that leaves the five directories";
  return CheckVariables(target, Where::kName);
}

std::string Substitute(absl::string_view text,
                       const TemplateVariables& variables) {
  // The text has been checked, so it has no problem that Split() could return.
  std::vector<Piece> pieces;
  Split(text, Where::kText, &pieces);
  std::string result;
  for (const Piece& piece : pieces) {
    result.append(piece.text);
    if (piece.variable != nullptr)
      result.append(variables.*piece.variable->member);
  }
  return result;
}

void ApplyTemplate(const Template& tmpl, const TemplateVariables& variables,
                   Settings* settings, Metadata* metadata, Quota* quota) {
  for (const SettingField& field : kSettingFields) {
    auto& value = settings->*field.member;
    const auto& from_template = tmpl.settings.*field.member;
    if (!value && from_template) value = Substitute(*from_template, variables);
  }
  // Substitute before merging, because the request's metadata is literal.
  Metadata merged = tmpl.metadata;
  SubstituteStrings(merged, variables);
  merged.update(*metadata);
  *metadata = std::move(merged);
  if (!quota->max_size_bytes) quota->max_size_bytes = tmpl.quota.max_size_bytes;
  if (!quota->max_file_count) quota->max_file_count = tmpl.quota.max_file_count;
}

}  // namespace mlops::core
