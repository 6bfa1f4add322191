#include "service/catalog/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "service/core/workspace_yaml.h"
#include "tests/support/workspaces.h"

namespace mlops::catalog {
namespace {

using support::TimeAt;
using testing::IsEmpty;
using testing::SizeIs;

SavedRecord Record(absl::string_view name, int64_t seconds) {
  core::Workspace workspace = support::NewWorkspace(name, "/base", seconds);
  workspace.settings.mlflow_experiment_id = "";
  workspace.metadata = core::Metadata::parse(
      R"({"int": 7, "float": 2.0, "text": "ö", "list": [null, true, {}]})");
  workspace.etag = absl::StrCat("etag-", name);
  workspace.request_id = "r-1";
  if (seconds % 2 == 0) workspace.quota.max_size_bytes = seconds;
  if (seconds % 3 == 0) workspace.quota.max_file_count = 7;
  workspace.unknown_keys = "team: risk\n";
  return {.workspace =
              std::make_shared<const core::Workspace>(std::move(workspace)),
          .stamp = {.type = fs::EntryType::kFile,
                    .device = ~uint64_t{0},
                    .inode = uint64_t{1} << 63,
                    .size_bytes = 512,
                    .modify_time = TimeAt(seconds) + absl::Nanoseconds(7),
                    .change_time = TimeAt(-seconds)},
          .read_time = TimeAt(seconds + 1)};
}

std::vector<SavedRecord> Records(int count) {
  std::vector<SavedRecord> records;
  for (int i = 0; i < count; ++i)
    records.push_back(Record(absl::StrCat("p", 10'000 + i), i));
  return records;
}

// Decodes the records of all blocks.
std::vector<SavedRecord> Decode(absl::string_view bytes,
                                absl::string_view base_path) {
  const Checkpoint checkpoint(bytes, base_path);
  std::vector<SavedRecord> all;
  for (size_t i = 0; i < checkpoint.block_count(); ++i) {
    for (SavedRecord& record : checkpoint.Decode(i))
      all.push_back(std::move(record));
  }
  return all;
}

void ExpectSame(const SavedRecord& a, const SavedRecord& b) {
  EXPECT_EQ(core::EncodeWorkspace(*a.workspace),
            core::EncodeWorkspace(*b.workspace));
  EXPECT_EQ(a.workspace->etag, b.workspace->etag);
  EXPECT_EQ(a.workspace->quota, b.workspace->quota);
  EXPECT_EQ(a.workspace->metadata["float"].is_number_float(),
            b.workspace->metadata["float"].is_number_float());
  EXPECT_EQ(a.stamp, b.stamp);
  EXPECT_EQ(a.read_time, b.read_time);
}

TEST(Checkpoint, ComesBackAsItWent) {
  for (const int count : {0, 1, 5, 1024, 3000}) {
    const std::vector<SavedRecord> records = Records(count);
    const std::string bytes = EncodeCheckpoint(records, "/base");
    const std::vector<SavedRecord> decoded = Decode(bytes, "/base");
    ASSERT_THAT(decoded, SizeIs(count));
    for (int i = 0; i < count; ++i) ExpectSame(decoded[i], records[i]);
  }
}

// A record of version 2 has no quota, and keeps its keys as unknown ones.
TEST(Checkpoint, OfAnotherVersionIsIgnored) {
  std::string bytes = EncodeCheckpoint(Records(3), "/base");
  const size_t digit = bytes.find('\n') - 1;
  ASSERT_EQ(bytes[digit], '5');
  bytes[digit] = '4';
  EXPECT_THAT(Decode(bytes, "/base"), IsEmpty());
}

TEST(Checkpoint, OfAnotherBaseIsIgnored) {
  EXPECT_THAT(Decode(EncodeCheckpoint(Records(3), "/base"), "/base2"),
              IsEmpty());
  EXPECT_THAT(Decode(EncodeCheckpoint(Records(3), "/base"), "/bas"), IsEmpty());
}

TEST(Checkpoint, KeepsTheHistory) {
  const std::string bytes = EncodeCheckpoint(
      Records(2), "/base", {.changes = "text\n", .unreachable = {"a", "b"}});
  const Checkpoint checkpoint(bytes, "/base");
  EXPECT_EQ(checkpoint.block_count(), 1u);
  EXPECT_EQ(checkpoint.history().changes, "text\n");
  EXPECT_THAT(checkpoint.history().unreachable, testing::ElementsAre("a", "b"));
  EXPECT_EQ(Checkpoint(bytes, "/other").history().changes, "");
}

TEST(Checkpoint, EveryFlippedBitIsNoticed) {
  const std::string good = EncodeCheckpoint(Records(2), "/base");
  for (size_t i = 0; i < good.size() * 8; ++i) {
    std::string bad = good;
    bad[i / 8] ^= static_cast<char>(1 << (i % 8));
    ASSERT_THAT(Decode(bad, "/base"), IsEmpty()) << "bit " << i;
  }
}

TEST(Checkpoint, ADamagedBlockIsLostAlone) {
  std::string bytes = EncodeCheckpoint(Records(1100), "/base");
  bytes[bytes.size() / 2] ^= 1;
  EXPECT_THAT(Decode(bytes, "/base"), SizeIs(76));
}

TEST(Checkpoint, EveryCutIsNoticed) {
  const std::string good = EncodeCheckpoint(Records(1030), "/base");
  // The end of the first block.
  const size_t end = EncodeCheckpoint(Records(1024), "/base").size();
  for (size_t length = 0; length < good.size();) {
    ASSERT_THAT(Decode(good.substr(0, length), "/base"), IsEmpty()) << length;
    // Try every length near the end of the header and of the first block.
    const bool near =
        length < 200 || (length + 1'000 > end && length < end + 300);
    length += near ? 1 : 997;
  }
}

TEST(Checkpoint, OtherBytesAreIgnored) {
  for (const std::string& bytes :
       {std::string(), std::string("x"), std::string(1000, '\0'),
        std::string(1000, '\xff')}) {
    EXPECT_THAT(Decode(bytes, "/base"), IsEmpty());
  }
}

}  // namespace
}  // namespace mlops::catalog
