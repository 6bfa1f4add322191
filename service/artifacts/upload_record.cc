#include "service/artifacts/upload_record.h"

#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"
#include "proto/cpp/base/status_macros.h"
#include "service/core/layout.h"

namespace mlops::artifacts {
namespace {

constexpr int64_t kMaxRecordBytes = 64 * 1024;

std::optional<int64_t> BirthOf(const fs::FileStamp& stamp) {
  if (stamp.birth_time == absl::InfinitePast()) return std::nullopt;
  return absl::ToUnixNanos(stamp.birth_time);
}

// Sets `value` to json[key]. Returns false if the key is missing or has another
// type.
template <typename T>
bool Take(const nlohmann::json& json, const char* key, T& value) {
  const auto it = json.find(key);
  if (it == json.end()) return false;
  if constexpr (std::is_same_v<T, std::string>) {
    if (!it->is_string()) return false;
  } else {
    if (!it->is_number_integer()) return false;
  }
  value = it->get<T>();
  return true;
}

std::optional<UploadRecord> ParseRecord(const std::string& text) {
  const auto json =
      nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  UploadRecord record;
  if (!json.is_object() || !Take(json, "path", record.path) ||
      !Take(json, "boot_id", record.boot_id) ||
      !Take(json, "inode", record.inode)) {
    return std::nullopt;
  }
  int64_t birth_ns = 0;
  if (Take(json, "birth_ns", birth_ns)) record.birth_ns = birth_ns;
  // Without all three values, the upload is not finished.
  UploadRecord::Content content;
  if (Take(json, "sha256", content.sha256) &&
      Take(json, "size_bytes", content.size_bytes) &&
      Take(json, "modify_ns", content.modify_ns)) {
    record.content = std::move(content);
  }
  return record;
}

std::string FormatRecord(const UploadRecord& record) {
  nlohmann::json json = {{"path", record.path},
                         {"boot_id", record.boot_id},
                         {"inode", record.inode}};
  if (record.birth_ns) json["birth_ns"] = *record.birth_ns;
  if (record.content) {
    json["sha256"] = record.content->sha256;
    json["size_bytes"] = record.content->size_bytes;
    json["modify_ns"] = record.content->modify_ns;
  }
  return absl::StrCat(json.dump(), "\n");
}

absl::Status WriteAndRename(fs::Dir& dir, const std::string& temp,
                            const std::string& name, const std::string& text) {
  ASSIGN_OR_RETURN(const auto file, dir.CreateFile(temp));
  RETURN_IF_ERROR(file->Write(text));
  RETURN_IF_ERROR(file->Close());
  return dir.Rename(temp, dir, name, fs::RenameMode::kReplace);
}

}  // namespace

bool UploadRecord::IsOf(const fs::FileStamp& stamp) const {
  const std::optional<int64_t> birth = BirthOf(stamp);
  const bool same_birth = !birth || !birth_ns || *birth == *birth_ns;
  return stamp.type == fs::EntryType::kFile && stamp.inode == inode &&
         same_birth;
}

bool UploadRecord::IsFinishedAs(const fs::FileStamp& stamp) const {
  return content && IsOf(stamp) && stamp.size_bytes == content->size_bytes &&
         absl::ToUnixNanos(stamp.modify_time) == content->modify_ns;
}

UploadRecord NewUploadRecord(std::string path, std::string boot_id,
                             const fs::FileStamp& part) {
  return {.path = std::move(path),
          .boot_id = std::move(boot_id),
          .inode = part.inode,
          .birth_ns = BirthOf(part)};
}

std::string PartName(absl::string_view upload_id) {
  return absl::StrCat(upload_id, core::layout::kPartSuffix);
}
std::string RecordName(absl::string_view upload_id) {
  return absl::StrCat(upload_id, core::layout::kAboutSuffix);
}

absl::StatusOr<std::optional<UploadRecord>> ReadUploadRecord(
    const fs::Dir& dir, absl::string_view upload_id) {
  const auto content = dir.ReadFile(RecordName(upload_id), kMaxRecordBytes);
  if (content.ok()) return ParseRecord(content->data);
  const absl::Status& status = content.status();
  // The server writes no records that are too large or not regular files.
  if (absl::IsNotFound(status) || absl::IsOutOfRange(status) ||
      absl::IsFailedPrecondition(status))
    return std::nullopt;
  return status;
}

absl::Status WriteUploadRecord(fs::Dir& dir, absl::string_view upload_id,
                               const UploadRecord& record) {
  // Named after the claim, so that no sweep removes it.
  const std::string temp = absl::StrCat(upload_id, core::layout::kTempSuffix);
  RETURN_IF_ERROR(RemoveIfThere(dir, temp));
  absl::Status written =
      WriteAndRename(dir, temp, RecordName(upload_id), FormatRecord(record));
  if (!written.ok()) RemoveIfThere(dir, temp).IgnoreError();
  return written;
}

absl::Status RemoveIfThere(fs::Dir& dir, absl::string_view name) {
  absl::Status removed = dir.RemoveFile(name);
  return absl::IsNotFound(removed) ? absl::OkStatus() : removed;
}

}  // namespace mlops::artifacts
