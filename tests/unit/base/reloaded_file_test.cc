#include "service/base/reloaded_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/support/matchers.h"
#include "tests/support/temp_dir.h"

namespace mlops::base {
namespace {

using support::HasMessage;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class ReloadedFileTest : public testing::Test {
 protected:
  ReloadedFileTest() { temp.WriteFile("file", "1"); }

  // Calls Check() often enough for a change to settle. Returns what it did.
  std::vector<std::string> Poll() {
    std::vector<std::string> events;
    for (int i = 0; i < 4; ++i) {
      const auto applied = file.Check();
      if (!applied.ok()) events.emplace_back(applied.status().message());
      if (applied.ok() && *applied) events.push_back(applied_);
    }
    return events;
  }

  const support::TempDir temp;
  std::string applied_;
  ReloadedFile file{
      {.what = "test file", .path = temp.Path("file"), .max_bytes = 100},
      [this](absl::string_view text) {
        if (absl::StartsWith(text, "bad"))
          return absl::InvalidArgumentError("is bad");
        applied_ = std::string(text);
        return absl::OkStatus();
      }};
};

TEST_F(ReloadedFileTest, IsAppliedOnlyWhenItChanges) {
  EXPECT_TRUE(file.Load().value());
  EXPECT_EQ(applied_, "1");
  EXPECT_THAT(Poll(), IsEmpty());
  EXPECT_FALSE(file.Load().value());
  temp.WriteFile("file", "2");
  EXPECT_THAT(Poll(), ElementsAre("2"));
  EXPECT_EQ(file.loads(), 2);
  EXPECT_EQ(file.failures(), 0);
}

TEST_F(ReloadedFileTest, ChangesOfTheSameSizeWithinATickAreSeen) {
  EXPECT_OK(file.Load());
  for (int i = 2; i < 10; ++i) {
    temp.WriteFile("file", absl::StrCat(i));
    EXPECT_THAT(Poll(), ElementsAre(absl::StrCat(i)));
  }
}

TEST_F(ReloadedFileTest, AFileThatIsBeingWrittenWaits) {
  EXPECT_OK(file.Load());
  for (int size = 2; size < 10; ++size) {
    temp.WriteFile("file", std::string(size, 'x'));
    EXPECT_FALSE(file.Check().value());
  }
  EXPECT_TRUE(file.Check().value());
  EXPECT_EQ(applied_, std::string(9, 'x'));
}

TEST_F(ReloadedFileTest, ErrorsAreReportedOnce) {
  EXPECT_OK(file.Load());
  temp.WriteFile("file", "bad");
  const std::string prefix = absl::StrCat("test file ", temp.Path("file"));
  EXPECT_THAT(Poll(), ElementsAre(prefix + ": is bad"));
  EXPECT_TRUE(file.failing());
  EXPECT_EQ(applied_, "1");
  temp.Remove("file");
  EXPECT_THAT(Poll(), ElementsAre(HasSubstr("No such file")));
  EXPECT_THAT(Poll(), IsEmpty());
  EXPECT_EQ(file.failures(), 2);
  temp.WriteFile("file", "1");
  EXPECT_THAT(Poll(), ElementsAre("1"));
  EXPECT_FALSE(file.failing());
}

TEST_F(ReloadedFileTest, RedirectedLinksAreFollowed) {
  temp.WriteFile("v1/file", "one");
  temp.WriteFile("v2/file", "two");
  temp.Remove("file");
  temp.Link("v1", "data");
  temp.Link("data/file", "file");
  EXPECT_OK(file.Load());
  EXPECT_EQ(applied_, "one");
  temp.Link("v2", "data2");
  temp.Remove("data");
  temp.Move("data2", "data");
  EXPECT_THAT(Poll(), ElementsAre("two"));
}

TEST_F(ReloadedFileTest, UnusableFilesAreRefused) {
  const auto problem = [this] {
    return std::string(file.Load().status().message());
  };
  temp.WriteFile("file", std::string(101, 'x'));
  EXPECT_THAT(problem(), HasSubstr("is larger than 100 bytes"));
  temp.WriteFile("file", std::string(100, 'x'));
  EXPECT_EQ(problem(), "");
  ::chmod(temp.Path("file").c_str(), 0602);
  EXPECT_THAT(problem(), HasSubstr("has the mode 0602"));
  temp.Remove("file");
  EXPECT_THAT(problem(), HasSubstr("cannot be opened: No such file"));
  temp.MakeFifo("file");
  EXPECT_THAT(problem(), HasSubstr("is not a regular file"));
  temp.Remove("file");
  temp.MakeDirs("file");
  EXPECT_THAT(problem(), HasSubstr("is not a regular file"));
}

TEST_F(ReloadedFileTest, ANewModeIsEnoughForAnotherTry) {
  ::chmod(temp.Path("file").c_str(), 0666);
  EXPECT_FALSE(file.Load().ok());
  ::chmod(temp.Path("file").c_str(), 0644);
  EXPECT_THAT(Poll(), ElementsAre("1"));
}

}  // namespace
}  // namespace mlops::base
