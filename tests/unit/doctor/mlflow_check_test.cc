#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>

#include "absl/strings/str_cat.h"
#include "tests/unit/doctor/fixture.h"

namespace mlops::doctor {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

// A store with MLflow's tables, as far as they hold locations.
class MlflowTest : public DoctorTest {
 protected:
  void SetUp() override {
    Execute(
        "CREATE TABLE experiments (experiment_id INTEGER, artifact_location "
        "TEXT); CREATE TABLE runs (artifact_uri TEXT);");
    AddExperiment(0, absl::StrCat(base, "/fraud/mlflow/artifacts/0"));
  }

  void Execute(const std::string& sql) const {
    sqlite3* store = nullptr;
    ASSERT_EQ(sqlite3_open(file.c_str(), &store), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(store, sql.c_str(), nullptr, nullptr, nullptr),
              SQLITE_OK)
        << sqlite3_errmsg(store);
    sqlite3_close(store);
  }
  void AddExperiment(int id, absl::string_view location) const {
    Execute(absl::StrCat("INSERT INTO experiments VALUES (", id, ", '",
                         location, "')"));
  }
  void AddRun(absl::string_view location) const {
    Execute(absl::StrCat("INSERT INTO runs VALUES ('", location, "')"));
  }

  const std::string file = temp.Path("base/fraud/mlflow/mlflow.db");
};

TEST_F(MlflowTest, LocationsInTheWorkspaceOrOnOtherMachinesAreFine) {
  AddRun(absl::StrCat("file://", base, "/fraud/mlflow/artifacts/0/1"));
  AddRun("s3://bucket/1");
  AddRun("/srv/shared/1");
  AddRun("workspace://fraud/mlflow/artifacts/0/1");
  EXPECT_THAT(Lines(), IsEmpty());
}

TEST_F(MlflowTest, LocationsInAnotherWorkspaceAreReported) {
  AddRun(absl::StrCat(base, "/churn/mlflow/artifacts/0/1"));
  AddRun(absl::StrCat(base, "/churn/mlflow/artifacts/0/2"));
  const Finding finding = Only();
  EXPECT_EQ(finding.code, "mlflow-elsewhere");
  EXPECT_THAT(finding.problem, HasSubstr("2 locations"));
  EXPECT_THAT(finding.problem, HasSubstr("runs.artifact_uri"));
}

TEST_F(MlflowTest, LocationsOfACopiedWorkspaceAreReported) {
  temp.Move("base/fraud", "base/copy");
  const std::vector<Finding> findings = Run().findings;
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].code, "mlflow-moved");
  EXPECT_THAT(findings[0].problem, HasSubstr(base + "/fraud"));
}

TEST_F(MlflowTest, TheRecordedRootWins) {
  Execute(
      "CREATE TABLE mlops_workspace (root TEXT); INSERT INTO mlops_workspace "
      "VALUES ('/former/fraud')");
  AddRun("/former/fraud/mlflow/artifacts/0/1");
  EXPECT_EQ(Only().code, "mlflow-moved");
}

TEST_F(MlflowTest, AnotherPathOfTheSameDirectoryIsNotAMove) {
  temp.Link("base", "alias");
  Execute(absl::StrCat(
      "CREATE TABLE mlops_workspace (root TEXT); INSERT INTO mlops_workspace "
      "VALUES ('",
      temp.Path("alias/fraud"), "')"));
  AddRun(temp.Path("alias/fraud/mlflow/artifacts/0/1"));
  EXPECT_THAT(Lines(), IsEmpty());
}

TEST_F(MlflowTest, AFileThatIsNoDatabaseIsReported) {
  temp.WriteFile("base/fraud/mlflow/mlflow.db", "not a database at all");
  EXPECT_EQ(Only().code, "mlflow-unreadable");
}

TEST_F(MlflowTest, AStoreThatIsBeingWrittenIsLeftAlone) {
  AddRun(absl::StrCat(base, "/churn/mlflow/artifacts/0/1"));
  temp.WriteFile("base/fraud/mlflow/mlflow.db-journal", "x");
  EXPECT_THAT(Lines(), IsEmpty());
}

TEST_F(MlflowTest, NoFileIsCreated) {
  Execute("PRAGMA journal_mode=WAL");
  const std::string before = temp.ReadFile("base/fraud/mlflow/mlflow.db");
  EXPECT_THAT(Lines(), IsEmpty());
  EXPECT_EQ(temp.ReadFile("base/fraud/mlflow/mlflow.db"), before);
  EXPECT_FALSE(temp.Exists("base/fraud/mlflow/mlflow.db-wal"));
  EXPECT_FALSE(temp.Exists("base/fraud/mlflow/mlflow.db-shm"));
}

}  // namespace
}  // namespace mlops::doctor
