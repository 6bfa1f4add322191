#include "service/core/layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/workspaces.h"

namespace mlops::core::layout {
namespace {

using support::Project;

TEST(Layout, TheRecordIsInTheProjectsDirectory) {
  EXPECT_EQ(RecordPath(Project("fraud")), "fraud/workspace.yaml");
}

TEST(Layout, TemporaryRecordsAreKnownByTheirNames) {
  EXPECT_TRUE(IsRecordTempFile(RecordTempFile("0123")));
  EXPECT_FALSE(IsRecordTempFile(kRecord));
  EXPECT_FALSE(IsRecordTempFile(".workspace.yml"));
}

TEST(Layout, NoNameOfTheServersIsAProject) {
  for (const absl::string_view name : {kStagingDir, kTrashDir, kServerDir})
    EXPECT_FALSE(ProjectName::IsValid(name));
}

TEST(Layout, NamesInTheTrashComeBackAsTheyWent) {
  const TrashName full = {.delete_time = support::TimeAt(5),
                          .purge_time = support::TimeAt(9),
                          .uid = "0f-_1",
                          .project = Project("a.b.c-1")};
  EXPECT_EQ(FormatTrashName(full),
            "1700000005123456-1700000009123456.0f-_1.a.b.c-1");
  EXPECT_EQ(ParseTrashName(FormatTrashName(full))->purge_time, full.purge_time);
  EXPECT_EQ(FormatTrashName(*ParseTrashName(FormatTrashName(full))),
            FormatTrashName(full));

  const TrashName name = {.delete_time = support::TimeAt(5),
                          .uid = "0f-_1",
                          .project = Project("a.b.c-1")};
  EXPECT_EQ(FormatTrashName(name), "1700000005123456.0f-_1.a.b.c-1");
  const auto parsed = ParseTrashName(FormatTrashName(name));
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(parsed->delete_time, name.delete_time);
  EXPECT_EQ(parsed->uid, name.uid);
  EXPECT_EQ(parsed->project, name.project);
  EXPECT_FALSE(parsed->being_removed());
}

TEST(Layout, TheEpochMeansBeingRemoved) {
  const TrashName name = {.delete_time = absl::UnixEpoch(),
                          .uid = "1",
                          .project = Project("fraud")};
  EXPECT_EQ(FormatTrashName(name), "0.1.fraud");
  EXPECT_TRUE(ParseTrashName("0.1.fraud")->being_removed());
}

TEST(Layout, HiddenNamesAreOnlyThoseThatTheServerGives) {
  EXPECT_EQ(FormatHiddenName("1", Project("fraud")), ".trash.0.1.fraud");
  EXPECT_TRUE(IsHiddenName(FormatHiddenName("0f", Project("a.b"))));
  for (const char* name : {".trash", ".trash.", ".trash.fraud", ".trash.0.1.",
                           ".trash.5.1.fraud", "trash.0.1.fraud", "0.1.fraud"})
    EXPECT_FALSE(IsHiddenName(name)) << name;
}

TEST(Layout, HiddenArtifactsAreOnlyThoseThatTheServerNames) {
  const std::string id(32, 'a');
  EXPECT_EQ(ParseHiddenArtifact(FormatHiddenArtifact(id)), id);
  for (const std::string& name :
       {std::string(".uploads"), std::string(".uploads..trash"),
        std::string(".uploads.old.trash"), FormatHiddenArtifact(id + "a"),
        FormatHiddenArtifact(std::string(32, 'x'))})
    EXPECT_EQ(ParseHiddenArtifact(name), "") << name;
}

TEST(Layout, OtherNamesInTheTrashAreNotOurs) {
  for (const char* name : {"", ".", "..", "1", "1.2", "1..fraud", "x.uid.fraud",
                           "-1.uid.fraud", "1.uid.", "1.uid..x", "1.uid.a/b",
                           "99999999999999999999.uid.fraud", "1.uid.-x"}) {
    EXPECT_FALSE(ParseTrashName(name).has_value()) << name;
  }
}

}  // namespace
}  // namespace mlops::core::layout
