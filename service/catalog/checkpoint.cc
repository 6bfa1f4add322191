#include "service/catalog/checkpoint.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace mlops::catalog {

using core::Metadata;
using core::Workspace;

namespace {

// The first line. The base path and the number of blocks follow, then the
// unreachable projects, the history, and the records in blocks, which threads
// can decode in parallel. The CRC-32 and the length precede each part after the
// number of blocks.
constexpr absl::string_view kMagic = "mlops-workspace checkpoint 5\n";
// The beginning of checkpoints of all versions.
constexpr absl::string_view kAnyMagic = "mlops-workspace checkpoint ";
constexpr size_t kRecordsPerBlock = 1024;
// Represents an absent limit of a quota.
constexpr int64_t kNoLimit = -1;

class Writer {
 public:
  void Int(int64_t value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  void Text(absl::string_view text) {
    Int(static_cast<int64_t>(text.size()));
    bytes_.append(text.data(), text.size());
  }
  void Time(absl::Time time) { Int(absl::ToUnixNanos(time)); }
  // Writes a time of a record. Nanoseconds would limit it to the year 2262.
  void Micros(absl::Time time) { Int(absl::ToUnixMicros(time)); }
  std::string Take() && { return std::move(bytes_); }

 private:
  std::string bytes_;
};

// Reads the output of Writer. Past the end, returns empty values, and ok()
// returns false.
class Reader {
 public:
  explicit Reader(absl::string_view bytes) : bytes_(bytes) {}

  int64_t Int() {
    int64_t value = 0;
    const absl::string_view raw = Raw(sizeof(value));
    if (ok_) std::memcpy(&value, raw.data(), sizeof(value));
    return value;
  }
  absl::string_view Text() { return Raw(static_cast<size_t>(Int())); }
  absl::Time Time() { return absl::FromUnixNanos(Int()); }
  absl::Time Micros() { return absl::FromUnixMicros(Int()); }
  bool ok() const { return ok_; }
  bool done() const { return !ok_ || bytes_.empty(); }

 private:
  absl::string_view Raw(size_t size) {
    // A negative length was cast to a huge `size`, so this rejects it too.
    ok_ = ok_ && size <= bytes_.size();
    if (!ok_) return "";
    const absl::string_view raw = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return raw;
  }

  absl::string_view bytes_;
  bool ok_ = true;
};

uint32_t Crc32(absl::string_view bytes) {
  return static_cast<uint32_t>(::crc32_z(
      0, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size()));
}

void Write(const SavedRecord& record, Writer& out) {
  const Workspace& workspace = *record.workspace;
  out.Text(workspace.project.str());
  out.Text(workspace.uid);
  for (const core::SettingField& field : core::kSettingFields) {
    const auto& value = workspace.settings.*field.member;
    out.Int(value.has_value());
    if (value) out.Text(*value);
  }
  // Empty metadata, the common case, takes no space.
  std::string metadata;
  if (!workspace.metadata.empty())
    Metadata::to_cbor(workspace.metadata, metadata);
  out.Text(metadata);
  const core::Quota& quota = workspace.quota;
  out.Int(quota.max_size_bytes.value_or(kNoLimit));
  out.Int(quota.max_file_count.value_or(kNoLimit));
  out.Micros(workspace.create_time);
  out.Micros(workspace.update_time);
  out.Text(workspace.etag);
  out.Text(workspace.request_id);
  out.Text(workspace.unknown_keys);
  out.Int(static_cast<int64_t>(record.stamp.device));
  out.Int(static_cast<int64_t>(record.stamp.inode));
  out.Int(record.stamp.size_bytes);
  out.Time(record.stamp.modify_time);
  out.Time(record.stamp.change_time);
  out.Time(record.read_time);
}

std::optional<SavedRecord> Read(Reader& in, absl::string_view base_path) {
  auto project = core::ProjectName::Parse(in.Text());
  if (!project.ok()) return std::nullopt;
  Workspace workspace{.project = *std::move(project)};
  // The path is not saved, because the base path and the project determine it.
  workspace.root_path = absl::StrCat(base_path, "/", workspace.project.str());
  workspace.uid = std::string(in.Text());
  for (const core::SettingField& field : core::kSettingFields) {
    if (in.Int() != 0)
      workspace.settings.*field.member = std::string(in.Text());
  }
  if (const absl::string_view metadata = in.Text(); !metadata.empty()) {
    // Malformed metadata must not throw; the block counts as damaged instead.
    workspace.metadata = Metadata::from_cbor(metadata.begin(), metadata.end(),
                                             true, /*allow_exceptions=*/false);
    if (!workspace.metadata.is_object()) return std::nullopt;
  }
  if (const int64_t limit = in.Int(); limit != kNoLimit)
    workspace.quota.max_size_bytes = limit;
  if (const int64_t limit = in.Int(); limit != kNoLimit)
    workspace.quota.max_file_count = static_cast<int32_t>(limit);
  workspace.create_time = in.Micros();
  workspace.update_time = in.Micros();
  workspace.etag = std::string(in.Text());
  workspace.request_id = std::string(in.Text());
  workspace.unknown_keys = std::string(in.Text());
  SavedRecord record{.stamp = {.type = fs::EntryType::kFile}};
  record.stamp.device = static_cast<uint64_t>(in.Int());
  record.stamp.inode = static_cast<uint64_t>(in.Int());
  record.stamp.size_bytes = in.Int();
  record.stamp.modify_time = in.Time();
  record.stamp.change_time = in.Time();
  record.read_time = in.Time();
  if (!in.ok()) return std::nullopt;
  record.workspace = std::make_shared<const Workspace>(std::move(workspace));
  return record;
}

}  // namespace

std::string EncodeCheckpoint(const std::vector<SavedRecord>& records,
                             absl::string_view base_path,
                             const SavedHistory& history) {
  Writer out;
  out.Text(base_path);
  // Tells a reader whether whole blocks are missing at the end.
  out.Int(static_cast<int64_t>((records.size() + kRecordsPerBlock - 1) /
                               kRecordsPerBlock));
  const auto part = [&out](absl::string_view bytes) {
    out.Int(Crc32(bytes));
    out.Text(bytes);
  };
  part(absl::StrJoin(history.unreachable, "\n"));
  part(history.changes);
  for (size_t begin = 0; begin < records.size(); begin += kRecordsPerBlock) {
    Writer block;
    const size_t end = std::min(begin + kRecordsPerBlock, records.size());
    for (size_t i = begin; i < end; ++i) Write(records[i], block);
    part(std::move(block).Take());
  }
  return absl::StrCat(kMagic, std::move(out).Take());
}

CheckpointState InspectCheckpoint(absl::string_view bytes,
                                  absl::string_view base_path) {
  // Read the header here too, because Checkpoint does not tell why it is
  // unusable.
  absl::string_view rest = bytes;
  if (!absl::ConsumePrefix(&rest, kMagic)) {
    return absl::StartsWith(bytes, kAnyMagic) ? CheckpointState::kOtherVersion
                                              : CheckpointState::kDamaged;
  }
  Reader in(rest);
  const absl::string_view path = in.Text();
  if (!in.ok()) return CheckpointState::kDamaged;
  if (path != base_path) return CheckpointState::kOtherBase;
  const Checkpoint checkpoint(bytes, base_path);
  bool good = checkpoint.usable();
  // Blocks are never empty, so an empty result means that one is damaged.
  for (size_t i = 0; good && i < checkpoint.block_count(); ++i)
    good = !checkpoint.Decode(i).empty();
  return good ? CheckpointState::kGood : CheckpointState::kDamaged;
}

Checkpoint::Checkpoint(absl::string_view bytes, absl::string_view base_path)
    : base_path_(base_path) {
  if (!absl::ConsumePrefix(&bytes, kMagic)) return;
  Reader in(bytes);
  if (in.Text() != base_path) return;
  const int64_t block_count = in.Int();
  bool intact = true;
  const auto part = [&] {
    const int64_t crc = in.Int();
    const absl::string_view bytes = in.Text();
    intact = intact && crc == Crc32(bytes);
    return bytes;
  };
  const absl::string_view unreachable = part();
  const absl::string_view changes = part();
  std::vector<Block> blocks;
  while (!in.done()) {
    const int64_t crc = in.Int();
    blocks.push_back({.bytes = in.Text(), .crc = crc});
  }
  // The history belongs to all records, so without some of the blocks it would
  // report their workspaces as new. Decode() checks the CRC of each block.
  if (!in.ok() || !intact) return;
  if (block_count != static_cast<int64_t>(blocks.size())) return;
  usable_ = true;
  blocks_ = std::move(blocks);
  history_.changes = std::string(changes);
  history_.unreachable = absl::StrSplit(unreachable, '\n', absl::SkipEmpty());
}

std::vector<SavedRecord> Checkpoint::Decode(size_t block) const {
  const auto& [bytes, crc] = blocks_[block];
  // Check here, not in the constructor, so that threads share this work too.
  if (crc != Crc32(bytes)) return {};
  std::vector<SavedRecord> records;
  records.reserve(kRecordsPerBlock);
  for (Reader in(bytes); !in.done();) {
    auto record = Read(in, base_path_);
    if (!record) return {};
    records.push_back(*std::move(record));
  }
  return records;
}

}  // namespace mlops::catalog
