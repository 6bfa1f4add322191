#include "service/core/template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "tests/support/workspaces.h"

namespace mlops::core {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const TemplateVariables kVariables = {
    .project = "fraud", .root = "/base/fraud", .date = "2026-01-31"};

Template Parsed(absl::string_view text) {
  Template result;
  const auto problem = ParseTemplate(text, &result);
  EXPECT_FALSE(problem) << problem->line << ": " << problem->what;
  return result;
}

// Returns "<line>: <problem>", or "" if there is none.
std::string ProblemOf(absl::string_view text) {
  Template result;
  const auto problem = ParseTemplate(text, &result);
  return problem ? absl::StrCat(problem->line, ": ", problem->what) : "";
}

TEST(Template, HasTheValuesOfTheFile) {
  const Template tmpl = Parsed(
      "description: For tables\n"
      "settings: {bentoml_tag_prefix: 'tab-${project}:'}\n"
      "metadata: {team: risk, since: '${date}', n: 3}\n"
      "directories: [models/candidates, 'outputs/${project}']\n"
      "quota: {max_size_bytes: 1000, max_file_count: 7}\n");
  EXPECT_EQ(tmpl.description, "For tables");
  EXPECT_EQ(tmpl.settings.bentoml_tag_prefix, "tab-${project}:");
  EXPECT_EQ(tmpl.settings.dvc_remote_path, std::nullopt);
  EXPECT_EQ(tmpl.metadata["n"], 3);
  EXPECT_THAT(tmpl.directories,
              ElementsAre("models/candidates", "outputs/${project}"));
  EXPECT_EQ(tmpl.quota, (Quota{.max_size_bytes = 1000, .max_file_count = 7}));
}

TEST(Template, MayBeEmpty) {
  EXPECT_THAT(Parsed("description:\n").directories, IsEmpty());
  EXPECT_EQ(ProblemOf("# nothing but a comment\n~\n"), "");
}

TEST(Template, ReportsTheLineOfAProblem) {
  EXPECT_THAT(ProblemOf("descripton: x\n"), HasSubstr("1: descripton: is not"));
  EXPECT_THAT(ProblemOf("settings:\n  tracking: x\n"),
              HasSubstr("2: settings: \"tracking\" is not a setting"));
  EXPECT_THAT(ProblemOf("metadata:\n  a:\n  - ok\n  - ${proj}\n"),
              HasSubstr("4: metadata: has the unknown variable ${proj}"));
  EXPECT_THAT(ProblemOf("metadata:\n  a: '${project'\n"),
              HasSubstr("2: metadata: has \"${\" without"));
  EXPECT_THAT(ProblemOf("directories:\n- models\n- data/raw\n"),
              HasSubstr("3: directories: \"data/raw\" must begin with"));
  EXPECT_THAT(ProblemOf("directories:\n- models/${root}\n"),
              HasSubstr("cannot be part of a name"));
  EXPECT_THAT(ProblemOf("quota: {max_size_bytes: -1}\n"),
              HasSubstr("must not be negative"));
  EXPECT_THAT(ProblemOf("quota: {max_size_bytes: 1 GB}\n"),
              HasSubstr("must be an integer"));
  EXPECT_THAT(ProblemOf("a: [\n"), HasSubstr(": "));
}

TEST(Template, PathsStayInTheFiveDirectories) {
  for (const char* path : {"models", "models/${project}/a-${date}", "dvc/.x"})
    EXPECT_EQ(CheckTemplatePath(path), "") << path;
  for (const char* path :
       {"", "/models", "models/", "models//a", "models/../dvc", "models/./a",
        "workspace.yaml", ".uploads/a", "models/a\\b", "models/a\nb"})
    EXPECT_NE(CheckTemplatePath(path), "") << path;
  EXPECT_NE(CheckTemplatePath(absl::StrCat("models/", std::string(256, 'a'))),
            "");
}

TEST(Template, LinksStayInTheFiveDirectories) {
  const std::string link = "models/run/latest";
  for (const char* target : {"1", "../other/1", "../../outputs/1", "./1"})
    EXPECT_EQ(CheckTemplateLink(link, target), "") << target;
  for (const char* target :
       {"", "/etc/passwd", "../../workspace.yaml", "../../../x", "../..",
        "../../.uploads/x", "${what}"})
    EXPECT_NE(CheckTemplateLink(link, target), "") << target;
}

TEST(Template, ReplacesVariables) {
  EXPECT_EQ(Substitute("${project} of ${date} in ${root}", kVariables),
            "fraud of 2026-01-31 in /base/fraud");
  EXPECT_EQ(Substitute("$${project} $$ $x $", kVariables), "${project} $ $x $");
}

TEST(Template, TheRequestTakesPrecedence) {
  const Template tmpl = Parsed(
      "settings: {bentoml_tag_prefix: a, dvc_remote_path: '${root}/r'}\n"
      "metadata: {team: risk, nested: {x: '${project}', y: 1}, keep: yes}\n"
      "quota: {max_size_bytes: 1000, max_file_count: 7}\n");
  Settings settings{.bentoml_tag_prefix = "mine"};
  Metadata metadata = {{"team", "fraud"}, {"nested", {{"z", 2}}}};
  Quota quota{.max_file_count = 9};
  ApplyTemplate(tmpl, kVariables, &settings, &metadata, &quota);
  EXPECT_EQ(settings, (Settings{.dvc_remote_path = "/base/fraud/r",
                                .bentoml_tag_prefix = "mine"}));
  EXPECT_EQ(
      metadata,
      (Metadata{{"team", "fraud"}, {"nested", {{"z", 2}}}, {"keep", true}}));
  EXPECT_EQ(quota, (Quota{.max_size_bytes = 1000, .max_file_count = 9}));
}

TEST(Template, ReplacesVariablesInAllStringsOfMetadata) {
  const Template tmpl =
      Parsed("metadata: {a: ['${project}', {b: '${date}'}], c: 1}\n");
  Settings settings;
  Metadata metadata = Metadata::object();
  Quota quota;
  ApplyTemplate(tmpl, kVariables, &settings, &metadata, &quota);
  EXPECT_EQ(metadata.dump(), R"({"a":["fraud",{"b":"2026-01-31"}],"c":1})");
}

TEST(Template, TheDateIsUtc) {
  EXPECT_EQ(VariablesFor(support::Project("fraud"), "/base/fraud",
                         absl::FromUnixSeconds(1'767'225'599))
                .date,
            "2025-12-31");
}

TEST(Template, ListsEachPathOnce) {
  Template tmpl{.directories = {"models/b", "models/a"}};
  tmpl.files = {{.path = "models", .kind = Template::File::Kind::kDirectory},
                {.path = "models/a", .kind = Template::File::Kind::kDirectory},
                {.path = "models/a/x"}};
  EXPECT_THAT(ListedPaths(tmpl),
              ElementsAre("models", "models/a", "models/a/x", "models/b"));
}

}  // namespace
}  // namespace mlops::core
