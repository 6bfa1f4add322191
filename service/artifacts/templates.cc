#include "service/artifacts/templates.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/id.h"
#include "proto/cpp/base/status_macros.h"
#include "service/artifacts/relative_path.h"
#include "service/core/authority.h"
#include "service/core/errors.h"
#include "service/core/layout.h"
#include "service/core/project_name.h"

namespace mlops::artifacts {

using core::Template;
using core::TemplateInvalid;
using core::layout::kTemplateFile;
using core::layout::kTemplateFilesDir;
using core::layout::kTemplatesDir;

namespace {

constexpr int64_t kCopyStep = int64_t{8} << 20;
// More than a page has, because some may be removed while it is read.
constexpr size_t kMaxNames = 2 * core::kMaxPageSize;
// Approximate size at which a page of a list ends.
constexpr size_t kMaxListBytes = size_t{4} << 20;

// Returns the approximate size of the template in a list, in bytes.
size_t ListedBytes(const Template& tmpl) {
  size_t bytes = tmpl.description.size() + tmpl.metadata.dump().size();
  for (const std::string& path : core::ListedPaths(tmpl)) bytes += path.size();
  for (const core::SettingField& field : core::kSettingFields)
    bytes += (tmpl.settings.*field.member).value_or("").size();
  return bytes;
}

// Converts an error of fs::Dir to TEMPLATE_INVALID, unless the operating system
// failed. That includes a missing entry, which may never have existed.
absl::Status Problem(const absl::Status& status, absl::string_view name,
                     absl::string_view file) {
  if (status.ok()) return status;
  if (absl::IsNotFound(status))
    return TemplateInvalid(name, file, 0, "does not exist");
  if (absl::IsOutOfRange(status)) {
    return TemplateInvalid(
        name, file, 0,
        absl::StrCat("is larger than ", core::kMaxTemplateYamlBytes, " bytes"));
  }
  const auto info = base::GetErrorInfo(status);
  if (info && info->reason == "PATH_UNSUITABLE" &&
      info->metadata.contains("problem"))
    return TemplateInvalid(name, file, 0, info->metadata.at("problem"));
  return status;
}

std::string ShownFile(absl::string_view path) {
  return ShowPath(absl::StrCat(kTemplateFilesDir, "/", path));
}

// Reads the tree of files below `dir`, the template's directory `files`.
class FilesReader {
 public:
  FilesReader(const fs::Dir& dir, Template* tmpl) : dir_(dir), tmpl_(tmpl) {}

  absl::Status Read() { return ReadDir(dir_, ""); }

 private:
  absl::Status Invalid(absl::string_view path, absl::string_view problem) {
    return TemplateInvalid(tmpl_->name, ShownFile(path), 0, problem);
  }

  absl::Status ReadDir(const fs::Dir& dir, const std::string& prefix) {
    std::vector<std::pair<std::string, fs::EntryType>> entries;
    bool too_many = false;
    RETURN_IF_ERROR(dir.ForEachEntry([&](absl::string_view name,
                                         fs::EntryType type) {
      too_many = static_cast<int64_t>(tmpl_->files.size() + entries.size()) >=
                 core::kMaxTemplateFiles;
      if (!too_many) entries.emplace_back(name, type);
      return !too_many;
    }));
    if (too_many) {
      return Invalid(prefix, absl::StrCat("the template has more than ",
                                          core::kMaxTemplateFiles,
                                          " files and directories"));
    }
    // Sort, because a directory returns its entries in any order.
    std::sort(entries.begin(), entries.end());
    for (const auto& [name, type] : entries)
      RETURN_IF_ERROR(ReadEntry(dir, name, type, absl::StrCat(prefix, name)));
    return absl::OkStatus();
  }

  // `path` ends with `name`. Its depth is bounded by that of paths.
  absl::Status ReadEntry(const fs::Dir& dir, const std::string& name,
                         fs::EntryType type, const std::string& path) {
    if (std::string what = core::CheckTemplatePath(path); !what.empty())
      return Invalid(path, what);
    const bool top = path == name;
    if (top && type != fs::EntryType::kDirectory)
      return Invalid(path, "must be a directory");
    Template::File file{.path = path};
    switch (type) {
      case fs::EntryType::kDirectory: {
        file.kind = Template::File::Kind::kDirectory;
        tmpl_->files.push_back(std::move(file));
        ASSIGN_OR_RETURN(const auto sub, dir.OpenDir(name));
        return ReadDir(*sub, absl::StrCat(path, "/"));
      }
      case fs::EntryType::kFile: {
        ASSIGN_OR_RETURN(const fs::FileStamp stamp, dir.Stat(name));
        size_bytes_ += stamp.size_bytes;
        if (size_bytes_ > core::kMaxTemplateFileBytes) {
          return Invalid(path, absl::StrCat("the template has more than ",
                                            core::kMaxTemplateFileBytes,
                                            " bytes of files"));
        }
        file.size_bytes = stamp.size_bytes;
        break;
      }
      case fs::EntryType::kSymlink: {
        ASSIGN_OR_RETURN(const auto target, dir.ReadLink(name));
        file.kind = Template::File::Kind::kLink;
        file.target = target.value_or("");
        if (std::string what = core::CheckTemplateLink(path, file.target);
            !what.empty())
          return Invalid(path, what);
        break;
      }
      case fs::EntryType::kOther:
        return Invalid(path, "is a device, FIFO or socket");
    }
    tmpl_->files.push_back(std::move(file));
    return absl::OkStatus();
  }

  const fs::Dir& dir_;
  Template* const tmpl_;
  int64_t size_bytes_ = 0;
};

// Creates the directory unless it exists.
absl::Status MakeDirIfMissing(fs::Dir& dir, absl::string_view path) {
  absl::Status made = dir.MakeDir(path);
  if (!absl::IsAlreadyExists(made)) return made;
  ASSIGN_OR_RETURN(const fs::FileStamp stamp, dir.Stat(path));
  return stamp.type == fs::EntryType::kDirectory ? absl::OkStatus() : made;
}

absl::Status MakeDirs(fs::Dir& dir, const std::string& path) {
  for (size_t end = path.find('/'); end != std::string::npos;
       end = path.find('/', end + 1))
    RETURN_IF_ERROR(MakeDirIfMissing(dir, path.substr(0, end)));
  return MakeDirIfMissing(dir, path);
}

absl::Status CopyFile(const fs::Dir& from, const std::string& path,
                      StagedTree& to, const std::string& to_path) {
  ASSIGN_OR_RETURN(const auto source, from.OpenFile(path));
  ASSIGN_OR_RETURN(const fs::FileStamp stamp, source->Stat());
  ASSIGN_OR_RETURN(auto target, to.root().CreateFile(to_path));
  int64_t offset = 0;
  int64_t copied = kCopyStep;
  // The limit also ends the copy of a file that grows meanwhile.
  while (copied == kCopyStep && offset < core::kMaxTemplateFileBytes) {
    ASSIGN_OR_RETURN(copied, target->CopyFrom(*source, offset, kCopyStep));
    offset += copied;
  }
  RETURN_IF_ERROR(target->SetMode(stamp.mode));
  return to.Finish(std::move(target));
}

// --- Page tokens: the last name, with a checksum ---

std::string EncodeToken(const std::string& last) {
  return absl::StrCat(base::HashHex(absl::StrCat("templates ", last), 8), "-",
                      last);
}

absl::StatusOr<std::string> DecodeToken(absl::string_view token) {
  const size_t dash = token.find('-');
  if (dash != absl::string_view::npos) {
    std::string last(token.substr(dash + 1));
    if (EncodeToken(last) == token) return last;
  }
  return core::TokenInvalid("page_token");
}

}  // namespace

absl::StatusOr<std::unique_ptr<fs::Dir>> Templates::Open(
    absl::string_view name) const {
  auto dir = base_->OpenDir(absl::StrCat(kTemplatesDir, "/", name));
  if (dir.ok()) return dir;
  if (absl::IsNotFound(dir.status())) return core::TemplateNotFound(name);
  return Problem(dir.status(), name, ".");
}

absl::StatusOr<core::TemplatePtr> Templates::Load(absl::string_view name) {
  if (!core::ProjectName::IsValid(name)) {
    return core::FieldInvalid(
        "template",
        absl::StrCat("\"", base::Echo(name),
                     "\" is not the name of a template: these follow the rule "
                     "for the names of projects"));
  }
  ASSIGN_OR_RETURN(const auto dir, Open(name));
  const auto text = dir->ReadFile(kTemplateFile, core::kMaxTemplateYamlBytes);
  if (!text.ok()) return Problem(text.status(), name, kTemplateFile);
  auto tmpl = std::make_shared<Template>();
  tmpl->name = std::string(name);
  if (const auto problem = core::ParseTemplate(text->data, tmpl.get()))
    return TemplateInvalid(name, kTemplateFile, problem->line, problem->what);
  // A template may have no files.
  const auto files = dir->OpenDir(kTemplateFilesDir);
  if (files.ok()) {
    RETURN_IF_ERROR(Problem(FilesReader(**files, tmpl.get()).Read(), name,
                            kTemplateFilesDir));
  } else if (!absl::IsNotFound(files.status())) {
    return Problem(files.status(), name, kTemplateFilesDir);
  }
  return tmpl;
}

absl::StatusOr<std::unique_ptr<core::StagedFiles>> Templates::Fill(
    const Template& tmpl, const core::TemplateVariables& variables) {
  if (tmpl.directories.empty() && tmpl.files.empty()) return nullptr;
  ASSIGN_OR_RETURN(auto tree, stage_->Begin());
  for (const std::string& path : tmpl.directories) {
    const std::string name = core::Substitute(path, variables);
    RETURN_IF_ERROR(Problem(MakeDirs(tree->root(), name), tmpl.name,
                            absl::StrCat("directories: ", name)));
  }
  if (!tmpl.files.empty()) {
    ASSIGN_OR_RETURN(const auto dir, Open(tmpl.name));
    const auto from = dir->OpenDir(kTemplateFilesDir);
    if (!from.ok()) return Problem(from.status(), tmpl.name, kTemplateFilesDir);
    RETURN_IF_ERROR(CopyFiles(**from, tmpl, variables, *tree));
  }
  RETURN_IF_ERROR(tree->Sync());
  return tree;
}

absl::Status Templates::CopyFiles(const fs::Dir& from, const Template& tmpl,
                                  const core::TemplateVariables& variables,
                                  StagedTree& to) const {
  for (const Template::File& file : tmpl.files) {
    const std::string path = core::Substitute(file.path, variables);
    absl::Status made;
    switch (file.kind) {
      case Template::File::Kind::kDirectory:
        made = MakeDirIfMissing(to.root(), path);
        break;
      case Template::File::Kind::kFile:
        made = CopyFile(from, file.path, to, path);
        break;
      case Template::File::Kind::kLink:
        made = to.root().MakeSymlink(path,
                                     core::Substitute(file.target, variables));
        break;
    }
    // Substituting variables may make two names equal.
    if (absl::IsAlreadyExists(made)) {
      return TemplateInvalid(tmpl.name, ShownFile(file.path), 0,
                             absl::StrCat("the name ", path, " occurs twice"));
    }
    if (!made.ok()) return Problem(made, tmpl.name, ShownFile(file.path));
  }
  return absl::OkStatus();
}

absl::StatusOr<TemplatePage> Templates::List(int page_size,
                                             absl::string_view page_token,
                                             core::Cancelled cancelled) {
  if (page_size < 0)
    return core::FieldInvalid("page_size", "must not be negative");
  const size_t wanted = static_cast<size_t>(
      page_size == 0 ? core::kDefaultPageSize
                     : std::min(page_size, core::kMaxPageSize));
  std::string last;
  if (!page_token.empty()) {
    ASSIGN_OR_RETURN(last, DecodeToken(page_token));
  }
  TemplatePage page;
  const auto dir = base_->OpenDir(kTemplatesDir);
  if (absl::IsNotFound(dir.status())) return page;
  RETURN_IF_ERROR(dir.status());
  // The first names after the last page, in order. Directories have none.
  std::set<std::string> names;
  bool more = false;
  RETURN_IF_ERROR(
      (*dir)->ForEachEntry([&](absl::string_view name, fs::EntryType type) {
        const bool maybe = type == fs::EntryType::kDirectory ||
                           type == fs::EntryType::kSymlink;
        if (maybe && !absl::StartsWith(name, ".") && name > last)
          names.emplace(name);
        if (names.size() > kMaxNames) {
          names.erase(std::prev(names.end()));
          more = true;
        }
        return !cancelled();
      }));
  size_t bytes = 0;
  for (const std::string& name : names) {
    if (cancelled()) return absl::CancelledError("the call was cancelled");
    if (page.templates.size() == wanted || bytes > kMaxListBytes) {
      page.next_page_token = EncodeToken(last);
      break;
    }
    last = name;
    auto tmpl = Load(name);
    // The template was removed meanwhile.
    if (base::GetReason(tmpl.status()) == "TEMPLATE_NOT_FOUND") continue;
    if (!tmpl.ok()) {
      absl::Status problem = tmpl.status();
      // Load() rejects such a name as the caller's mistake, but this one was
      // found on disk.
      if (absl::IsInvalidArgument(problem)) {
        problem = TemplateInvalid(
            ShowPath(name), ".", 0,
            "its name breaks the rule for the names of projects");
      }
      // List a broken template with its problem, so that someone can repair it.
      auto broken = std::make_shared<Template>();
      broken->name = ShowPath(name);
      page.templates.push_back(
          {.tmpl = std::move(broken), .problem = std::move(problem)});
      continue;
    }
    bytes += ListedBytes(**tmpl);
    page.templates.push_back({.tmpl = *std::move(tmpl)});
  }
  // Some of the names were no templates any more.
  if (more && page.next_page_token.empty())
    page.next_page_token = EncodeToken(last);
  return page;
}

}  // namespace mlops::artifacts
