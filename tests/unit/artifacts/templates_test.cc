// Tests templates with a real directory, a real catalog and an Authority.
#include "service/artifacts/templates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "service/catalog/file_catalog.h"
#include "service/catalog/usage_scan.h"
#include "service/core/authority.h"
#include "tests/support/matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/workspaces.h"

namespace mlops::artifacts {
namespace {

using absl::StatusCode;
using support::HasDetail;
using support::IsError;
using support::Project;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr char kYaml[] = ".templates/tabular/template.yaml";

class TemplatesTest : public testing::Test {
 protected:
  TemplatesTest() {
    authority.SetTemplates(&templates, "");
    temp.WriteFile(kYaml,
                   "description: For tables\n"
                   "metadata: {kind: tabular}\n"
                   "directories: ['outputs/${project}/plots']\n");
    temp.WriteFile(".templates/tabular/files/models/${project}.md",
                   "about ${project}");
    temp.WriteFile(".templates/tabular/files/models/sub/run.sh", "#!/bin/sh");
    std::filesystem::permissions(
        temp.Path(".templates/tabular/files/models/sub/run.sh"),
        std::filesystem::perms::owner_all);
    temp.Link("../${project}.md", ".templates/tabular/files/models/sub/readme");
  }

  absl::StatusOr<core::WorkspacePtr> Create(const std::string& name,
                                            const std::string& tmpl = "tabular",
                                            bool validate_only = false) {
    return authority.Create({.project = Project(name),
                             .validate_only = validate_only,
                             .template_name = tmpl});
  }
  std::vector<std::string> Names(int page_size, std::string* token) {
    const auto page =
        templates.List(page_size, *token, core::NeverCancelled).value();
    *token = page.next_page_token;
    std::vector<std::string> names;
    for (const ListedTemplate& listed : page.templates)
      names.push_back(listed.problem.ok()
                          ? listed.tmpl->name
                          : absl::StrCat(listed.tmpl->name, "!"));
    return names;
  }
  bool StagingIsEmpty() const {
    return std::filesystem::is_empty(temp.Path(".staging"));
  }

  const support::TempDir temp;
  const std::shared_ptr<fs::Dir> base = fs::OpenBaseDir(temp.path()).value();
  const std::unique_ptr<catalog::FileCatalog> catalog =
      catalog::FileCatalog::Open(base, temp.path(), {}).value();
  Stage stage{base, std::make_shared<core::DiskHealth>()};
  Templates templates{base, &stage};
  core::Authority authority{
      catalog.get(),
      catalog::MakeUsageScanner(base, temp.path(), base::SystemClock()),
      temp.path()};
};

TEST_F(TemplatesTest, CreateCopiesTheTree) {
  const auto created = Create("churn");
  ASSERT_OK(created);
  EXPECT_EQ((*created)->metadata["kind"], "tabular");
  EXPECT_EQ((*created)->settings.bentoml_tag_prefix, "churn:");
  EXPECT_EQ(temp.ReadFile("churn/models/churn.md"), "about ${project}");
  EXPECT_EQ(std::filesystem::read_symlink(temp.Path("churn/models/sub/readme")),
            "../churn.md");
  EXPECT_EQ(std::filesystem::status(temp.Path("churn/models/sub/run.sh"))
                .permissions(),
            std::filesystem::perms::owner_all);
  for (const char* dir : {"mlflow", "dvc", "monitoring", "outputs/churn/plots"})
    EXPECT_TRUE(
        std::filesystem::is_directory(temp.Path(absl::StrCat("churn/", dir))));
  temp.MakeDirs("plain");
  EXPECT_EQ(std::filesystem::status(temp.Path("churn")).permissions(),
            std::filesystem::status(temp.Path("plain")).permissions());
  EXPECT_TRUE(StagingIsEmpty());
}

TEST_F(TemplatesTest, EnsureAnswersTheSameWhetherOrNotTheWorkspaceExists) {
  const core::CreateArgs args{.project = Project("churn"),
                              .template_name = "tabular"};
  EXPECT_TRUE(authority.Ensure(args).value().created);
  EXPECT_FALSE(authority.Ensure(args).value().created);
  for (const char* name : {"churn", "other"}) {
    EXPECT_THAT(authority.Ensure(
                    {.project = Project(name), .template_name = "missing"}),
                IsError(StatusCode::kNotFound, "TEMPLATE_NOT_FOUND"));
    EXPECT_THAT(
        authority.Ensure({.project = Project(name), .template_name = "../x"}),
        IsError(StatusCode::kInvalidArgument, "FIELD_INVALID"));
  }
  EXPECT_TRUE(StagingIsEmpty());
}

TEST_F(TemplatesTest, AnExistingWorkspaceKeepsItsFiles) {
  ASSERT_OK(Create("churn"));
  EXPECT_THAT(Create("churn"),
              IsError(StatusCode::kAlreadyExists, "WORKSPACE_EXISTS"));
  temp.WriteFile("hand/models/mine", "mine");
  EXPECT_THAT(Create("hand"),
              IsError(StatusCode::kFailedPrecondition, "PATH_UNSUITABLE"));
  EXPECT_FALSE(temp.Exists("hand/workspace.yaml"));
  EXPECT_TRUE(StagingIsEmpty());
}

TEST_F(TemplatesTest, ALongListHasEveryTemplateOnce) {
  constexpr int kCount = 2'500;
  for (int i = 0; i < kCount; ++i)
    temp.WriteFile(absl::StrCat(".templates/t", i, "/template.yaml"), "");
  std::vector<std::string> all;
  std::string token;
  do {
    for (std::string& name : Names(1'000, &token))
      all.push_back(std::move(name));
  } while (!token.empty());
  EXPECT_TRUE(std::is_sorted(all.begin(), all.end()));
  EXPECT_EQ(std::unique(all.begin(), all.end()), all.end());
  EXPECT_EQ(all.size(), kCount + 1u);
}

TEST_F(TemplatesTest, ValidateOnlyReadsTheTemplateAndCreatesNothing) {
  EXPECT_EQ(Create("churn", "tabular", true).value()->metadata["kind"],
            "tabular");
  EXPECT_FALSE(temp.Exists("churn"));
  temp.WriteFile(kYaml, "settings: 3\n");
  EXPECT_THAT(
      Create("churn", "tabular", true),
      AllOf(IsError(StatusCode::kFailedPrecondition, "TEMPLATE_INVALID"),
            HasDetail("template", "tabular"),
            HasDetail("file", "template.yaml"), HasDetail("line", "1")));
}

TEST_F(TemplatesTest, FilesMustFitIntoTheQuota) {
  temp.WriteFile(".templates/three/template.yaml",
                 "quota: {max_size_bytes: 20}\n");
  temp.WriteFile(".templates/three/files/models/a", "12345678");
  temp.WriteFile(".templates/three/files/models/b", "12345678");
  temp.WriteFile(".templates/three/files/outputs/c", "1234");
  core::CreateArgs args{.project = Project("churn"), .template_name = "three"};
  args.quota.max_file_count = 2;
  for (const bool validate_only : {false, true}) {
    args.validate_only = validate_only;
    EXPECT_THAT(authority.Create(args),
                AllOf(IsError(StatusCode::kResourceExhausted, "NO_SPACE"),
                      HasDetail("quota", "max_file_count"),
                      HasDetail("limit", "2"), HasDetail("wanted", "3")));
  }
  EXPECT_THAT(authority.Ensure({.project = Project("churn"),
                                .quota = {.max_size_bytes = 19},
                                .template_name = "three"}),
              AllOf(IsError(StatusCode::kResourceExhausted, "NO_SPACE"),
                    HasDetail("quota", "max_size_bytes")));
  EXPECT_FALSE(temp.Exists("churn"));
  EXPECT_TRUE(StagingIsEmpty());
  EXPECT_OK(Create("churn", "three"));
  // A workspace that exists is not measured by the template.
  EXPECT_FALSE(authority.Ensure(args).value().created);
}

TEST_F(TemplatesTest, TheDefaultIsUsedWhereTheRequestNamesNone) {
  authority.SetTemplates(&templates, "tabular");
  temp.WriteFile(".templates/empty/template.yaml", "description: none\n");
  EXPECT_EQ(Create("a", "").value()->metadata["kind"], "tabular");
  EXPECT_TRUE(Create("b", "empty").value()->metadata.empty());
  const auto updated = authority.Update({.project = Project("c"),
                                         .spec = {.metadata = {{"mine", 1}}},
                                         .allow_missing = true});
  ASSERT_OK(updated);
  EXPECT_EQ(updated->workspace->metadata,
            (core::Metadata{{"kind", "tabular"}, {"mine", 1}}));
  EXPECT_TRUE(temp.Exists("c/models/c.md"));
  EXPECT_TRUE(StagingIsEmpty());
}

TEST_F(TemplatesTest, BrokenTreesAreInvalid) {
  const auto problem_of = [this](const std::string& name) {
    const auto loaded = templates.Load(name);
    EXPECT_THAT(loaded,
                IsError(StatusCode::kFailedPrecondition, "TEMPLATE_INVALID"));
    return std::string(loaded.status().message());
  };
  const auto make = [this](const std::string& name) {
    temp.WriteFile(absl::StrCat(".templates/", name, "/template.yaml"),
                   "description: x\n");
    return absl::StrCat(".templates/", name, "/files/");
  };
  temp.WriteFile(absl::StrCat(make("top"), "notes.txt"), "x");
  EXPECT_THAT(problem_of("top"), HasSubstr("files/notes.txt"));
  temp.WriteFile(absl::StrCat(make("name"), "models/${x}"), "x");
  EXPECT_THAT(problem_of("name"), HasSubstr("unknown variable ${x}"));
  temp.MakeDirs(absl::StrCat(make("fifo"), "models"));
  temp.MakeFifo(".templates/fifo/files/models/pipe");
  EXPECT_THAT(problem_of("fifo"), HasSubstr("is a device, FIFO or socket"));
  temp.MakeDirs(absl::StrCat(make("link"), "models"));
  temp.Link("../../../fraud", ".templates/link/files/models/out");
  EXPECT_THAT(problem_of("link"), HasSubstr("leaves the"));
  temp.MakeDirs(".templates/no-yaml/files");
  EXPECT_THAT(problem_of("no-yaml"), HasSubstr("template.yaml: does not"));
  temp.WriteFile(absl::StrCat(make("twice"), "models/${project}"), "x");
  temp.WriteFile(absl::StrCat(make("twice"), "models/churn"), "x");
  EXPECT_THAT(Create("churn", "twice"),
              IsError(StatusCode::kFailedPrecondition, "TEMPLATE_INVALID"));
  EXPECT_FALSE(temp.Exists("churn"));
  EXPECT_TRUE(StagingIsEmpty());
}

TEST_F(TemplatesTest, ABrokenOneHidesNoOtherInTheList) {
  temp.WriteFile(".templates/broken/template.yaml", "settings: 3\n");
  temp.WriteFile(".templates/zero/template.yaml", "description: 0\n");
  temp.MakeDirs(".templates/bad name");
  temp.MakeDirs(".templates/.git");
  temp.WriteFile(".templates/README.md", "about");
  std::string token;
  EXPECT_THAT(Names(0, &token),
              ElementsAre("bad name!", "broken!", "tabular", "zero"));
  EXPECT_EQ(token, "");
  EXPECT_THAT(Names(3, &token), ElementsAre("bad name!", "broken!", "tabular"));
  EXPECT_THAT(Names(3, &token), ElementsAre("zero"));
  EXPECT_EQ(token, "");
  EXPECT_THAT(templates.List(0, "damaged", core::NeverCancelled),
              IsError(StatusCode::kInvalidArgument, "TOKEN_INVALID"));
  EXPECT_THAT(templates.List(-1, "", core::NeverCancelled),
              IsError(StatusCode::kInvalidArgument, "FIELD_INVALID"));
}

TEST_F(TemplatesTest, WithoutADirectoryOfTemplatesThereIsNone) {
  temp.Remove(".templates");
  std::string token;
  EXPECT_THAT(Names(0, &token), testing::IsEmpty());
  EXPECT_THAT(Create("churn"),
              IsError(StatusCode::kNotFound, "TEMPLATE_NOT_FOUND"));
}

}  // namespace
}  // namespace mlops::artifacts
