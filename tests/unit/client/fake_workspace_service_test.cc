#include "mlops/testing/fake_workspace_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>

namespace mlops::testing {
namespace {

using absl::StatusCode;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Optional;

google::protobuf::Struct Json(const char* json) {
  return *MetadataFromJson(json);
}

class FakeTest : public ::testing::Test {
 protected:
  std::vector<std::string> Projects(const ListOptions& options = {}) const {
    std::vector<std::string> projects;
    EXPECT_TRUE(client_
                    .ListAll(
                        [&projects](const Workspace& workspace) {
                          projects.push_back(workspace.project);
                          return true;
                        },
                        options)
                    .ok());
    return projects;
  }

  FakeWorkspaceService service_;
  const WorkspaceClient client_ = service_.Client();
};

TEST_F(FakeTest, CreatesWithDefaults) {
  const auto made = client_.Create(
      "fraud", {.mlflow_experiment_id = "17", .metadata = Json(R"({"a":1})")});
  ASSERT_TRUE(made.ok()) << made.status();
  const auto read = client_.Get("fraud");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->uid, made->uid);
  EXPECT_EQ(read->etag, made->etag);
  EXPECT_EQ(read->root_path, "/fake/fraud");
  EXPECT_EQ(read->mlflow_experiment_id, "17");
  EXPECT_EQ(read->mlflow_tracking_uri,
            "sqlite:////fake/fraud/mlflow/mlflow.db");
  EXPECT_EQ(read->dvc_remote_path, "/fake/fraud/dvc/remote");
  EXPECT_EQ(read->bentoml_tag_prefix, "fraud:");
  EXPECT_EQ(MetadataToJson(read->metadata), R"({"a":1})");
}

TEST_F(FakeTest, RefusesATakenName) {
  const auto first = client_.Create("fraud", {}, {.request_id = "r1"});
  const absl::Status error = client_.Create("fraud").status();
  EXPECT_EQ(error.code(), StatusCode::kAlreadyExists);
  EXPECT_EQ(ErrorReason(error), "WORKSPACE_EXISTS");
  EXPECT_EQ(ErrorMetadata(error)["uid"], first->uid);
  EXPECT_EQ(client_.Create("fraud", {}, {.request_id = "r1"})->uid, first->uid);
}

TEST_F(FakeTest, RefusesBadNames) {
  for (const char* name : {"", "../x", "a/b", ".hidden", "a\n", "a-"}) {
    EXPECT_EQ(ErrorReason(client_.Create(name).status()), "FIELD_INVALID")
        << name;
  }
  EXPECT_EQ(ErrorReason(client_.Get(std::string(64, 'a')).status()),
            "FIELD_INVALID");
  EXPECT_TRUE(client_.Create(std::string(63, 'a')).ok());
}

TEST_F(FakeTest, ValidatingMakesNothing) {
  EXPECT_EQ(client_.Create("fraud", {}, {.validate_only = true})->project,
            "fraud");
  EXPECT_EQ(ErrorReason(client_.Get("fraud").status()), "WORKSPACE_NOT_FOUND");
}

TEST_F(FakeTest, EnsureMakesOnce) {
  EXPECT_TRUE(client_.Ensure("fraud", {.mlflow_experiment_id = "1"})->created);
  const auto again = client_.Ensure("fraud", {.mlflow_experiment_id = "2"});
  EXPECT_FALSE(again->created);
  EXPECT_EQ(again->workspace.mlflow_experiment_id, "1");
}

TEST_F(FakeTest, UpdateMergesWithoutAMask) {
  ASSERT_TRUE(client_
                  .Create("fraud", {.mlflow_experiment_id = "1",
                                    .metadata = Json(R"({"a":1,"b":2,"c":3})")})
                  .ok());
  const auto updated = client_.Update(
      "fraud", {.bentoml_tag_prefix = "", .metadata = Json(R"({"b":9})")},
      {.remove_metadata = {"c"}});
  ASSERT_TRUE(updated.ok()) << updated.status();
  EXPECT_EQ(updated->mlflow_experiment_id, "1");
  EXPECT_THAT(updated->bentoml_tag_prefix, Optional(std::string()));
  EXPECT_EQ(updated->metadata.fields().at("a").number_value(), 1);
  EXPECT_EQ(updated->metadata.fields().at("b").number_value(), 9);
  EXPECT_EQ(updated->metadata.fields().count("c"), 0u);
}

TEST_F(FakeTest, QuotasAreSetRemovedAndCompared) {
  ASSERT_TRUE(client_.Create("fraud", {.max_size_bytes = 10}).ok());
  const auto updated = client_.Update("fraud", {.max_file_count = 2});
  EXPECT_THAT(updated->max_size_bytes, Optional(int64_t{10}));
  EXPECT_THAT(updated->max_file_count, Optional(2));
  service_.SetUsage("fraud", {{.name = "models", .file_count = 3}});
  EXPECT_TRUE(client_.GetStatus("fraud")->over_quota);
  const auto removed =
      client_.Update("fraud", {}, {.update_mask = {"max_file_count"}});
  EXPECT_EQ(removed->max_file_count, std::nullopt);
  EXPECT_THAT(removed->max_size_bytes, Optional(int64_t{10}));
  EXPECT_FALSE(client_.GetStatus("fraud")->over_quota);
  EXPECT_EQ(
      ErrorReason(client_.Update("fraud", {.max_size_bytes = -1}).status()),
      "FIELD_INVALID");
}

TEST_F(FakeTest, AWorkspaceCanLookFull) {
  ASSERT_TRUE(client_.Create("fraud", {.max_size_bytes = 100}).ok());
  service_.SetUsage("fraud", {{.name = "models", .size_bytes = 99}});
  auto writer = client_.OpenForWrite("fraud", "models/a");
  ASSERT_TRUE(writer.ok());
  const absl::Status refused =
      writer->Write("xx").ok() ? writer->Finish().status() : writer->Write("");
  EXPECT_EQ(ErrorReason(refused), "NO_SPACE") << refused;
  EXPECT_EQ(ErrorMetadata(refused)["used"], "99");
}

TEST_F(FakeTest, TheTrashCanBeCounted) {
  const std::string uid = client_.Create("fraud")->uid;
  EXPECT_EQ(ErrorReason(client_.GetStatus("fraud", {.uid = uid}).status()),
            "WORKSPACE_NOT_FOUND");
  ASSERT_TRUE(client_.Delete("fraud", {.force = true}).ok());
  EXPECT_EQ(client_.GetStatus("fraud", {.uid = uid})->workspace.uid, uid);
  for (const bool show_deleted : {false, true}) {
    int seen = 0;
    const auto count = [&](const WorkspaceStatus&) { return ++seen > 0; };
    EXPECT_TRUE(
        client_.StreamStatuses(count, {.show_deleted = show_deleted}).ok());
    EXPECT_EQ(seen, show_deleted ? 1 : 0);
  }
}

TEST_F(FakeTest, UpdateReplacesWhatTheMaskNames) {
  ASSERT_TRUE(client_
                  .Create("fraud", {.mlflow_experiment_id = "1",
                                    .metadata = Json(R"({"a":1})")})
                  .ok());
  const auto masked =
      client_.Update("fraud", {.metadata = Json(R"({"b":2})")},
                     {.update_mask = {"metadata", "mlflow_experiment_id"}});
  EXPECT_EQ(MetadataToJson(masked->metadata), R"({"b":2})");
  EXPECT_EQ(masked->mlflow_experiment_id, std::nullopt);
  EXPECT_EQ(masked->bentoml_tag_prefix, "fraud:");
  const auto all = client_.Update("fraud", {.mlflow_experiment_id = "3"},
                                  {.update_mask = {"*"}});
  EXPECT_EQ(all->mlflow_experiment_id, "3");
  EXPECT_EQ(all->bentoml_tag_prefix, std::nullopt);
  EXPECT_TRUE(all->metadata.fields().empty());
}

TEST_F(FakeTest, UpdateRefusesUnknownPathsAndContradictions) {
  ASSERT_TRUE(client_.Create("fraud").ok());
  EXPECT_EQ(ErrorReason(
                client_.Update("fraud", {}, {.update_mask = {"uid"}}).status()),
            "FIELD_INVALID");
  EXPECT_EQ(ErrorReason(client_
                            .Update("fraud", {.metadata = Json(R"({"a":1})")},
                                    {.remove_metadata = {"a"}})
                            .status()),
            "FIELD_INVALID");
}

TEST_F(FakeTest, UpdateChecksTheEtag) {
  const auto made = client_.Create("fraud");
  ASSERT_TRUE(
      client_
          .Update("fraud", {.mlflow_experiment_id = "1"}, {.etag = made->etag})
          .ok());
  const absl::Status error =
      client_.Update("fraud", {}, {.etag = made->etag}).status();
  EXPECT_EQ(error.code(), StatusCode::kAborted);
  EXPECT_EQ(ErrorReason(error), "ETAG_MISMATCH");
  EXPECT_EQ(ErrorMetadata(error)["current_etag"], client_.Get("fraud")->etag);
}

TEST_F(FakeTest, UpdateMakesTheMissingOnlyIfAllowed) {
  EXPECT_EQ(ErrorReason(client_.Update("fraud", {}).status()),
            "WORKSPACE_NOT_FOUND");
  EXPECT_TRUE(
      client_
          .Update("fraud", {}, {.allow_missing = true, .validate_only = true})
          .ok());
  EXPECT_FALSE(client_.Get("fraud").ok());
  EXPECT_TRUE(client_.Update("fraud", {}, {.allow_missing = true}).ok());
  EXPECT_TRUE(client_.Get("fraud").ok());
}

TEST_F(FakeTest, DeleteNeedsForce) {
  ASSERT_TRUE(client_.Create("fraud").ok());
  const absl::Status error = client_.Delete("fraud", {}).status();
  EXPECT_EQ(ErrorReason(error), "FORCE_REQUIRED");
  EXPECT_EQ(ErrorMetadata(error)["path"], "/fake/fraud");
  EXPECT_TRUE(client_.Get("fraud").ok());
}

TEST_F(FakeTest, DeletedWorkspacesComeBack) {
  const auto first = client_.Create("fraud");
  const auto deleted = client_.Delete("fraud", {.force = true});
  ASSERT_TRUE(deleted.ok()) << deleted.status();
  EXPECT_TRUE(deleted->workspace->delete_time.has_value());
  EXPECT_EQ(*deleted->workspace->purge_time - *deleted->workspace->delete_time,
            absl::Hours(72));
  EXPECT_FALSE(client_.Get("fraud").ok());
  EXPECT_THAT(Projects(), IsEmpty());
  EXPECT_THAT(Projects({.show_deleted = true}), ElementsAre("fraud"));
  const auto back = client_.Undelete("fraud");
  EXPECT_EQ(back->uid, first->uid);
  EXPECT_EQ(back->delete_time, std::nullopt);
}

TEST_F(FakeTest, UndeleteTakesTheLastOrTheNamedOne) {
  const auto first = client_.Create("fraud");
  ASSERT_TRUE(client_.Delete("fraud", {.force = true}).ok());
  const auto second = client_.Create("fraud");
  EXPECT_EQ(ErrorReason(client_.Undelete("fraud").status()),
            "WORKSPACE_EXISTS");
  ASSERT_TRUE(client_.Delete("fraud", {.force = true}).ok());
  EXPECT_EQ(client_.Undelete("fraud")->uid, second->uid);
  ASSERT_TRUE(client_.Delete("fraud", {.force = true}).ok());
  EXPECT_EQ(client_.Undelete("fraud", {.uid = first->uid})->uid, first->uid);
  EXPECT_EQ(ErrorReason(client_.Undelete("other").status()),
            "WORKSPACE_NOT_FOUND");
}

TEST_F(FakeTest, DeleteObeysUidEtagAndAllowMissing) {
  const auto made = client_.Create("fraud");
  EXPECT_EQ(ErrorReason(
                client_.Delete("fraud", {.force = true, .uid = "x"}).status()),
            "WORKSPACE_NOT_FOUND");
  EXPECT_EQ(ErrorReason(
                client_.Delete("fraud", {.force = true, .etag = "x"}).status()),
            "ETAG_MISMATCH");
  EXPECT_TRUE(client_.Delete("fraud", {.force = true, .validate_only = true})
                  ->workspace.has_value());
  EXPECT_TRUE(client_
                  .Delete("fraud",
                          {.force = true, .etag = made->etag, .uid = made->uid})
                  .ok());
  EXPECT_EQ(client_.Delete("fraud", {.force = true, .allow_missing = true})
                ->workspace,
            std::nullopt);
}

TEST_F(FakeTest, PermanentDeletionEmptiesTheTrashToo) {
  const auto made = client_.Create("fraud");
  ASSERT_TRUE(client_.Delete("fraud", {.force = true}).ok());
  EXPECT_TRUE(
      client_
          .Delete("fraud", {.force = true, .permanent = true, .uid = made->uid})
          ->purged);
  EXPECT_EQ(ErrorReason(client_.Undelete("fraud").status()),
            "WORKSPACE_NOT_FOUND");
}

TEST_F(FakeTest, ListsInOrderPageByPage) {
  for (const char* project : {"b", "a", "c"})
    ASSERT_TRUE(client_.Create(project).ok());
  ASSERT_TRUE(client_.Update("b", {.mlflow_experiment_id = "1"}).ok());
  for (const int page_size : {0, 1, 2, 3}) {
    EXPECT_THAT(Projects({.page_size = page_size}), ElementsAre("a", "b", "c"));
    EXPECT_THAT(Projects({.page_size = page_size, .order_by = "project desc"}),
                ElementsAre("c", "b", "a"));
    EXPECT_THAT(Projects({.page_size = page_size, .order_by = "create_time"}),
                ElementsAre("b", "a", "c"));
    EXPECT_THAT(
        Projects({.page_size = page_size, .order_by = "update_time desc"}),
        ElementsAre("b", "c", "a"));
  }
  EXPECT_EQ(client_.List({.page_size = 2})->total_size, 3);
}

TEST_F(FakeTest, RefusesOrdersAndSizesItDoesNotKnow) {
  EXPECT_EQ(ErrorReason(client_.List({.order_by = "size"}).status()),
            "FILTER_INVALID");
  EXPECT_EQ(ErrorReason(client_.List({.page_size = -1}).status()),
            "FIELD_INVALID");
}

TEST_F(FakeTest, CreatesFromATemplate) {
  service_.AddTemplate({.name = "tabular",
                        .description = "For tables",
                        .settings = {.bentoml_tag_prefix = "tab:",
                                     .metadata = Json(R"({"a":1,"b":1})"),
                                     .max_size_bytes = 50,
                                     .max_file_count = 3},
                        .paths = {"models/x"}});
  service_.AddTemplate(
      {.name = "broken",
       .error = MakeError(StatusCode::kFailedPrecondition, "TEMPLATE_INVALID",
                          "template broken")});
  const auto made = client_.Create("fraud", {.metadata = Json(R"({"b":2})")},
                                   {.template_name = "tabular"});
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(made->bentoml_tag_prefix, "tab:");
  EXPECT_EQ(MetadataToJson(made->metadata), R"({"a":1,"b":2})");
  EXPECT_THAT(made->max_size_bytes, Optional(int64_t{50}));
  const EnsureOptions tabular = {.template_name = "tabular"};
  const auto ensured = client_.Ensure("churn", {.max_file_count = 5}, tabular);
  ASSERT_TRUE(ensured.ok()) << ensured.status();
  EXPECT_EQ(ensured->workspace.bentoml_tag_prefix, "tab:");
  EXPECT_THAT(ensured->workspace.max_size_bytes, Optional(int64_t{50}));
  EXPECT_THAT(ensured->workspace.max_file_count, Optional(5));
  EXPECT_EQ(client_.Ensure("fraud", {}, tabular)->workspace.uid, made->uid);
  EXPECT_EQ(
      ErrorReason(client_.Ensure("x", {}, {.template_name = "none"}).status()),
      "TEMPLATE_NOT_FOUND");
  EXPECT_EQ(
      ErrorReason(client_.Create("x", {}, {.template_name = "none"}).status()),
      "TEMPLATE_NOT_FOUND");
  EXPECT_EQ(ErrorReason(
                client_.Create("x", {}, {.template_name = "broken"}).status()),
            "TEMPLATE_INVALID");
  const auto templates = client_.ListTemplates();
  ASSERT_TRUE(templates.ok()) << templates.status();
  ASSERT_EQ(templates->size(), 2u);
  EXPECT_EQ(ErrorReason((*templates)[0].error), "TEMPLATE_INVALID");
  EXPECT_EQ((*templates)[1].description, "For tables");
  EXPECT_THAT((*templates)[1].paths, ElementsAre("models/x"));
  EXPECT_THAT((*templates)[1].settings.max_size_bytes, Optional(int64_t{50}));
  EXPECT_THAT((*templates)[1].settings.max_file_count, Optional(3));
}

TEST_F(FakeTest, ClonesFilesAndDerivesSettingsAgain) {
  ASSERT_TRUE(client_
                  .Create("fraud", {.mlflow_experiment_id = "17",
                                    .metadata = Json(R"({"a":1})")})
                  .ok());
  for (const char* path : {"models/m", "outputs/o"}) {
    auto writer = client_.OpenForWrite("fraud", path);
    ASSERT_TRUE(writer->Write("content").ok());
    ASSERT_TRUE(writer->Finish().ok());
  }
  const auto clone = client_.CloneWorkspace(
      "fraud", "copy", {.directories = {"models"}, .request_id = "r1"});
  ASSERT_TRUE(clone.ok()) << clone.status();
  EXPECT_EQ(clone->mlflow_experiment_id, "17");
  EXPECT_EQ(clone->dvc_remote_path, "/fake/copy/dvc/remote");
  EXPECT_EQ(clone->bentoml_tag_prefix, "copy:");
  EXPECT_EQ(MetadataToJson(clone->metadata), R"({"a":1})");
  EXPECT_NE(clone->uid, client_.Get("fraud")->uid);
  EXPECT_TRUE(client_.GetArtifact("copy", "models/m").ok());
  EXPECT_EQ(ErrorReason(client_.GetArtifact("copy", "outputs/o").status()),
            "ARTIFACT_NOT_FOUND");
  EXPECT_EQ(client_.CloneWorkspace("fraud", "copy", {.request_id = "r1"})->uid,
            clone->uid);
  EXPECT_EQ(ErrorReason(client_.CloneWorkspace("fraud", "copy").status()),
            "WORKSPACE_EXISTS");
  EXPECT_EQ(ErrorReason(client_.CloneWorkspace("none", "new").status()),
            "WORKSPACE_NOT_FOUND");
}

TEST_F(FakeTest, StatusTellsTheUsageThatWasSet) {
  ASSERT_TRUE(client_.Create("empty").ok());
  ASSERT_TRUE(client_.Create("full").ok());
  service_.SetUsage(
      "full",
      {{.name = "models", .exists = true, .file_count = 2, .size_bytes = 30},
       {.name = "outputs", .exists = true, .file_count = 1, .size_bytes = 4}});
  EXPECT_EQ(client_.GetStatus("empty")->directories.size(), 5u);
  EXPECT_EQ(client_.GetStatus("full")->size_bytes, 34);
  std::vector<int64_t> counts;
  ASSERT_TRUE(client_
                  .StreamStatuses([&counts](const WorkspaceStatus& status) {
                    counts.push_back(status.file_count);
                    return true;
                  })
                  .ok());
  EXPECT_THAT(counts, ElementsAre(0, 3));
  EXPECT_EQ(client_.Delete("full", {.force = true, .validate_only = true})
                ->size_bytes,
            34);
  EXPECT_EQ(ErrorReason(client_.GetStatus("none").status()),
            "WORKSPACE_NOT_FOUND");
}

TEST_F(FakeTest, InjectedErrorsComeInOrderAndChangeNothing) {
  service_.FailNext(MakeError(StatusCode::kResourceExhausted, "NO_SPACE",
                              "disk full", {{"path", "/fake"}}));
  service_.FailNext(absl::DeadlineExceededError("slow"));
  const absl::Status first = client_.Create("fraud").status();
  EXPECT_EQ(ErrorReason(first), "NO_SPACE");
  EXPECT_EQ(ErrorMetadata(first)["path"], "/fake");
  EXPECT_EQ(client_.GetServerInfo().status().code(),
            StatusCode::kDeadlineExceeded);
  EXPECT_EQ(client_.GetServerInfo()->workspace_count, 0);
}

TEST_F(FakeTest, AClientOutlivesItsService) {
  auto service = std::make_unique<FakeWorkspaceService>();
  const WorkspaceClient client = service->Client();
  service.reset();
  EXPECT_TRUE(client.Create("fraud").ok());
}

TEST_F(FakeTest, AnArchiveBecomesAWorkspace) {
  ASSERT_TRUE(client_.Create("fraud", {.mlflow_experiment_id = "7"}).ok());
  auto writer = client_.OpenForWrite("fraud", "models/a");
  ASSERT_TRUE(writer->Write("content").ok());
  ASSERT_TRUE(writer->Finish().ok());
  std::string archive;
  ASSERT_TRUE(client_
                  .ExportWorkspace("fraud",
                                   [&archive](std::string_view data) {
                                     archive += data;
                                     return absl::OkStatus();
                                   })
                  .ok());
  const auto import = [&](const std::string& project,
                          const std::string& request_id) {
    bool first = true;
    return client_.ImportWorkspace(
        [&]() -> absl::StatusOr<std::string> {
          return std::exchange(first, false) ? archive : "";
        },
        project, {.request_id = request_id});
  };
  const auto copy = import("copy", "r1");
  ASSERT_TRUE(copy.ok()) << copy.status();
  EXPECT_EQ(copy->mlflow_experiment_id, "7");
  EXPECT_EQ(copy->bentoml_tag_prefix, "copy:");
  EXPECT_EQ(client_.GetArtifact("copy", "models/a")->size_bytes, 7);
  EXPECT_EQ(import("copy", "r1")->uid, copy->uid);
  EXPECT_EQ(ErrorReason(import("copy", "r2").status()), "WORKSPACE_EXISTS");
  archive = "other";
  EXPECT_EQ(ErrorReason(import("bad", "").status()), "ARCHIVE_INVALID");
}

}  // namespace
}  // namespace mlops::testing
