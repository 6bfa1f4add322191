#include "service/archive/entry_rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/matchers.h"

namespace mlops::archive {
namespace {

using testing::HasSubstr;

// Adds paths, of which those that end with '/' are directories. Returns
// the problem with the last, after the others had none.
std::string AddAll(const std::vector<std::string>& paths) {
  EntryOrder order;
  std::string problem;
  for (const std::string& path : paths) {
    EXPECT_EQ(problem, "");
    const bool directory = path.back() == '/';
    problem = order.Add(directory ? path.substr(0, path.size() - 1) : path,
                        directory ? TarType::kDirectory : TarType::kFile);
  }
  return problem;
}

TEST(EntryOrderTest, TakesTreesInByteOrder) {
  EXPECT_EQ(AddAll({"dvc/", "mlflow/", "mlflow/db", "models/", "models/a-b",
                    "models/a/", "models/a/b/", "models/a/b/c", "models/a/d",
                    "models/a0", "models/\xff", "outputs/"}),
            "");
  EXPECT_EQ(AddAll({"models/", "models/A", "models/b"}), "");
}

TEST(EntryOrderTest, RefusesOtherTrees) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> bad = {
      {{"models/", "models/"}, "twice"},
      {{"models/", "models/a", "models/a"}, "twice"},
      {{"models/", "models/b", "models/a"}, "byte order"},
      {{"models/", "models/a/", "models/a-b"}, "byte order"},
      {{"models/", "models/A", "models/a"}, "case"},
      {{"models/", "models/README", "models/readme/"}, "case"},
      {{"models/", "models/a", "models/a/"}, "case"},
      {{"models/a"}, "without its directory"},
      {{"models/", "models/a/b"}, "without its directory"},
      {{"models/", "outputs/", "outputs/a/", "outputs/b/c"},
       "without its directory"},
      {{"models"}, "not a directory"},
      {{"other/"}, "must begin with"},
      {{"workspace.yaml"}, "must begin with"},
      {{".uploads/"}, "must begin with"},
      {{"models/", "models/../x"}, ".."},
      {{"models/", "models/./x"}, "\".\""},
      {{"models/", "models//x"}, "empty name"},
      {{"models/", "/etc/passwd"}, "absolute"},
      {{"../x"}, ".."},
      {{"models/", absl::StrCat("models/", std::string(256, 'x'))}, "255"},
  };
  for (const auto& [paths, problem] : bad)
    EXPECT_THAT(AddAll(paths), HasSubstr(problem)) << paths.back();
}

TEST(EntryOrderTest, NamesThatDifferInCaseMayLieInDifferentDirectories) {
  EXPECT_EQ(
      AddAll({"models/", "models/a/", "models/a/X", "models/b/", "models/b/x"}),
      "");
}

TEST(LinkProblemTest, TakesLinksThatStay) {
  for (const auto& [path, target] :
       std::vector<std::pair<std::string, std::string>>{
           {"models/latest", "v1"},
           {"models/latest", "./v1//x"},
           {"models/a/b", "../c/d"},
           {"models/a/b", "../../dvc/x"},
           {"models/up", ".."},
           {"models/a/top", ".."},
           {"models/broken", "missing"}}) {
    const bool leaves = path == "models/up";
    EXPECT_EQ(LinkProblem(path, target).empty(), !leaves) << path << target;
  }
}

TEST(LinkProblemTest, RefusesLinksThatLeave) {
  for (const std::string& target :
       {std::string("/etc/passwd"), std::string(".."), std::string("../.."),
        std::string("../../x"), std::string("../workspace.yaml"),
        std::string("../.uploads/x"), std::string("a/../../../x"),
        std::string("a/.."), std::string(""), std::string("a\0b", 3),
        std::string(5000, 'x')}) {
    EXPECT_NE(LinkProblem("models/link", target), "") << target;
  }
}

TEST(MakeRelativeTest, ConvertsPathsInTheWorkspace) {
  std::string relative;
  EXPECT_TRUE(MakeRelative("/b/p", "models/a/link", "/b/p/dvc/x", &relative));
  EXPECT_EQ(relative, "../../dvc/x");
  EXPECT_FALSE(MakeRelative("/b/p", "models/link", "/b/p2/dvc", &relative));
  EXPECT_FALSE(MakeRelative("/b/p", "models/link", "dvc", &relative));
}

TEST(ArchivedModeTest, KeepsWhatOthersMayRead) {
  EXPECT_EQ(ArchivedMode(TarType::kFile, 04777), 0775u);
  EXPECT_EQ(ArchivedMode(TarType::kFile, 0400), 0600u);
  EXPECT_EQ(ArchivedMode(TarType::kFile, 0755), 0755u);
  EXPECT_EQ(ArchivedMode(TarType::kDirectory, 02500), 0700u);
}

TEST(ChecksumListTest, WritesWhatSha256sumReads) {
  const std::string sha256(64, 'a');
  ChecksumList list;
  list.Add("models/x y", sha256);
  list.Add("models/a\nb\\c\r", sha256);
  EXPECT_EQ(list.text(), absl::StrCat(sha256, "  models/x y\n\\", sha256,
                                      "  models/a\\nb\\\\c\\r\n"));
}

TEST(ChecksumListTest, FindsTheFileThatDiffers) {
  ChecksumList ours, theirs;
  for (const char* path : {"models/a", "models/b"}) {
    ours.Add(path, std::string(64, 'a'));
    theirs.Add(path, std::string(64, path[7]));
  }
  EXPECT_EQ(ours.FirstDifference(theirs.text()), "models/b");
  EXPECT_EQ(ours.FirstDifference(""), "models/a");
  EXPECT_EQ(ChecksumList().FirstDifference(ours.text()), "models/a");
  EXPECT_EQ(ours.FirstDifference(ours.text()), "");
}

TEST(ChecksumListTest, IsFullBeforeItIsLarge) {
  ChecksumList list;
  while (!list.full()) list.Add(std::string(1024, '\n'), std::string(64, 'a'));
  EXPECT_LT(list.text().size(), 300u * 1024);
  list.Clear();
  EXPECT_TRUE(list.empty());
}

}  // namespace
}  // namespace mlops::archive
