#include "service/artifacts/upload_record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/time/time.h"
#include "tests/support/matchers.h"
#include "tests/support/temp_dir.h"

namespace mlops::artifacts {
namespace {

const absl::Time kBirth = absl::FromUnixSeconds(1'700'000'000);

fs::FileStamp PartStamp() {
  return {.type = fs::EntryType::kFile,
          .device = 1,
          .inode = 7,
          .size_bytes = 3,
          .modify_time = kBirth + absl::Seconds(1),
          .change_time = kBirth + absl::Seconds(1),
          .birth_time = kBirth};
}

UploadRecord Finished() {
  UploadRecord record = NewUploadRecord("models/x", "boot", PartStamp());
  record.content = UploadRecord::Content{
      .sha256 = "abc",
      .size_bytes = 3,
      .modify_ns = absl::ToUnixNanos(PartStamp().modify_time)};
  return record;
}

TEST(UploadRecordTest, KnowsItsFileByInodeAndBirth) {
  const UploadRecord record = Finished();
  fs::FileStamp stamp = PartStamp();
  // A rename changes ctime.
  stamp.change_time += absl::Hours(1);
  EXPECT_TRUE(record.IsOf(stamp));
  EXPECT_TRUE(record.IsFinishedAs(stamp));
  stamp.birth_time += absl::Nanoseconds(1);
  EXPECT_FALSE(record.IsOf(stamp));
  // On a file system without birth times, the other attributes decide.
  stamp.birth_time = absl::InfinitePast();
  EXPECT_TRUE(record.IsOf(stamp));
  stamp.inode = 8;
  EXPECT_FALSE(record.IsOf(stamp));
  stamp = PartStamp();
  stamp.type = fs::EntryType::kOther;
  EXPECT_FALSE(record.IsOf(stamp));
}

TEST(UploadRecordTest, IsFinishedOnlyAsWhatTheUploadMade) {
  fs::FileStamp stamp = PartStamp();
  EXPECT_FALSE(NewUploadRecord("models/x", "boot", stamp).IsFinishedAs(stamp));
  ++stamp.size_bytes;
  EXPECT_FALSE(Finished().IsFinishedAs(stamp));
  stamp = PartStamp();
  stamp.modify_time += absl::Nanoseconds(1);
  EXPECT_FALSE(Finished().IsFinishedAs(stamp));
}

TEST(UploadRecordTest, IsReadAsItWasWritten) {
  const support::TempDir temp;
  const auto dir = fs::OpenBaseDir(temp.path()).value();
  EXPECT_FALSE(ReadUploadRecord(*dir, "id").value().has_value());
  ASSERT_OK(WriteUploadRecord(
      *dir, "id", NewUploadRecord("models/x", "boot", PartStamp())));
  EXPECT_FALSE(ReadUploadRecord(*dir, "id").value()->content.has_value());
  ASSERT_OK(WriteUploadRecord(*dir, "id", Finished()));
  const UploadRecord record = ReadUploadRecord(*dir, "id").value().value();
  EXPECT_EQ(record.path, "models/x");
  EXPECT_EQ(record.boot_id, "boot");
  EXPECT_TRUE(record.IsFinishedAs(PartStamp()));
  EXPECT_EQ(record.content->sha256, "abc");
  temp.Remove("id.json");
  temp.MakeFifo("id.json");
  EXPECT_FALSE(ReadUploadRecord(*dir, "id").value().has_value());
}

}  // namespace
}  // namespace mlops::artifacts
