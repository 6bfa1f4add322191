// Checks where a workspace's DVC remotes are.
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "service/core/layout.h"
#include "service/doctor/check.h"
#include "service/doctor/place.h"

namespace mlops::doctor {
namespace {

constexpr int64_t kMaxConfigBytes = 1 << 20;
// DVC reads both files; the second takes precedence.
constexpr absl::string_view kConfigs[] = {"dvc/.dvc/config",
                                          "dvc/.dvc/config.local"};

struct Remote {
  std::string name;
  std::string url;
};

// Returns the content of a quoted or plain value, without a comment.
std::string ValueOf(absl::string_view text) {
  text = absl::StripAsciiWhitespace(text);
  for (char quote : {'"', '\''}) {
    if (text.empty() || text.front() != quote) continue;
    const size_t end = text.find(quote, 1);
    if (end != absl::string_view::npos)
      return std::string(text.substr(1, end - 1));
  }
  // A comment may follow a plain value.
  return std::string(
      absl::StripTrailingAsciiWhitespace(text.substr(0, text.find('#'))));
}

// Returns the name of the remote in a section header such as ['remote "name"'],
// or "" for other sections.
std::string RemoteOf(absl::string_view header) {
  std::string inner = ValueOf(header.substr(1, header.rfind(']') - 1));
  absl::string_view rest = inner;
  if (!absl::StartsWithIgnoreCase(rest, "remote ")) return "";
  rest.remove_prefix(absl::string_view("remote ").size());
  return ValueOf(rest);
}

std::vector<Remote> ReadRemotes(absl::string_view text) {
  std::vector<Remote> remotes;
  // The remote whose section is being read; "" in any other section.
  std::string remote;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    line = absl::StripAsciiWhitespace(line);
    if (absl::StartsWith(line, "[") && absl::StrContains(line, "]")) {
      remote = RemoteOf(line);
      continue;
    }
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(line, absl::MaxSplits('=', 1));
    if (!remote.empty() && absl::StripAsciiWhitespace(parts.first) == "url")
      remotes.push_back({remote, ValueOf(parts.second)});
  }
  return remotes;
}

// Reports the remote `url`, found in the workspace's file `path`, unless
// it lies in the workspace. Relative URLs are relative to `directory`.
void CheckRemote(const ProjectView& project, absl::string_view path,
                 absl::string_view what, const std::string& url,
                 absl::string_view directory, Findings& findings) {
  Finding finding = project.At(Severity::kNote, "dvc-remote-outside", path);
  finding.problem =
      absl::StrCat(what, " is ", url,
                   ", outside of the workspace, so copies, "
                   "backups and exports of the workspace lack its data");
  finding.fix = "Nothing to do if that is intended";
  if (IsRemoteUrl(url)) {
    // "remote://name/path" refers to another remote of the same file.
    if (!absl::StartsWith(url, "remote://")) findings.Add(std::move(finding));
    return;
  }
  std::string place = PathOf(url).value_or(
      Normalized(absl::StrCat(project.path(), "/", directory, "/", url)));
  // Resolve links, because a directory may have several paths.
  if (!IsWithin(place, project.path())) place = fs::ResolvedPath(place);
  if (IsWithin(place, project.path())) return;
  if (const std::string other = EntryOf(place, project.base.path);
      core::ProjectName::IsValid(other)) {
    finding.severity = Severity::kWarning;
    finding.code = "dvc-remote-elsewhere";
    finding.problem = absl::StrCat(
        what, " is ", url, ", in the directory of ", other,
        ": if that is deleted or cleaned, the data of this workspace is lost");
    finding.fix =
        "Set dvc_remote_path to a place of this workspace, or to one outside "
        "of all, and push again";
  }
  findings.Add(std::move(finding));
}

}  // namespace

void CheckDvc(ProjectView& project, Findings& findings) {
  if (!project.workspace) return;
  if (const auto& remote = project.workspace->settings.dvc_remote_path)
    CheckRemote(project, core::layout::kRecord, "dvc_remote_path", *remote,
                "dvc", findings);
  for (absl::string_view config : kConfigs) {
    const auto content = project.dir.ReadFile(config, kMaxConfigBytes);
    if (!content.ok()) continue;
    for (const Remote& remote : ReadRemotes(content->data)) {
      // The client also copies dvc_remote_path to this file, so the same
      // location may be reported for both files.
      CheckRemote(project, config, absl::StrCat("the remote ", remote.name),
                  remote.url, "dvc/.dvc", findings);
    }
  }
}

}  // namespace mlops::doctor
