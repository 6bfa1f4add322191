#include "service/archive/tar_reader.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "proto/cpp/base/status_macros.h"
#include "service/core/errors.h"

namespace mlops::archive {
namespace {

// Maximum size of the zeros at the end. Other programs pad the last record:
// tar to a multiple of 10 KiB, dd to any block size.
constexpr size_t kMaxEndBytes = 1 << 20;
constexpr uint32_t kPermissions = 07777;

bool IsZero(absl::string_view bytes) {
  return std::all_of(bytes.begin(), bytes.end(),
                     [](char c) { return c == '\0'; });
}

// Returns why an entry of this type is refused.
absl::string_view TypeProblem(char type) {
  switch (type) {
    case '1':
      return "is a hard link";
    case '3':
    case '4':
      return "is a device";
    case '6':
      return "is a FIFO";
    case 'g':
      return "is a global extended header, which is not supported";
    case 'S':
      return "is a sparse file in the format of GNU tar";
    default:
      return "has a type that is not supported";
  }
}

}  // namespace

absl::Status TarReader::Invalid(absl::string_view problem) const {
  return core::ArchiveInvalid(path_, problem);
}

absl::Status TarReader::Feed(absl::string_view bytes) {
  // Each call below consumes at least one byte, so the loop ends.
  while (!bytes.empty()) {
    switch (state_) {
      case State::kHeader:
        RETURN_IF_ERROR(FeedHeader(&bytes));
        break;
      case State::kPax:
        RETURN_IF_ERROR(FeedPax(&bytes));
        break;
      case State::kData:
        RETURN_IF_ERROR(FeedData(&bytes));
        break;
      case State::kPadding:
        RETURN_IF_ERROR(FeedPadding(&bytes));
        break;
      case State::kEnd:
        RETURN_IF_ERROR(FeedEnd(&bytes));
        break;
    }
  }
  return absl::OkStatus();
}

absl::Status TarReader::Finish() const {
  if (state_ == State::kEnd && end_bytes_ >= kTarEndBytes)
    return absl::OkStatus();
  return Invalid(path_.empty() ? "is missing"
                               : "is the last entry of an incomplete archive");
}

bool TarReader::Fill(absl::string_view* bytes, size_t size) {
  const size_t taken = std::min(size - buffer_.size(), bytes->size());
  buffer_.append(bytes->data(), taken);
  bytes->remove_prefix(taken);
  return buffer_.size() == size;
}

absl::Status TarReader::FeedHeader(absl::string_view* bytes) {
  if (!Fill(bytes, kTarBlockBytes)) return absl::OkStatus();
  const std::string block = std::exchange(buffer_, "");
  // No header is all zeros, so this is the end of the archive.
  if (IsZero(block)) {
    if (has_pax_) return Invalid("has an extended header without an entry");
    state_ = State::kEnd;
    end_bytes_ = kTarBlockBytes;
    return absl::OkStatus();
  }
  auto header = DecodeTarHeader(block);
  if (!header.ok()) {
    return core::ArchiveInvalid(path_,
                                absl::StrCat("is followed by an entry that ",
                                             header.status().message()));
  }
  return header->type == 'x' ? BeginPax(*header)
                             : BeginEntry(*std::move(header));
}

absl::Status TarReader::BeginPax(const TarHeader& header) {
  if (has_pax_) return Invalid("is followed by two extended headers");
  if (header.size_bytes > static_cast<int64_t>(kMaxPaxBytes)) {
    return Invalid(
        absl::StrCat("is followed by an extended header of more "
                     "than ",
                     kMaxPaxBytes, " bytes"));
  }
  has_pax_ = true;
  pax_bytes_ = static_cast<size_t>(header.size_bytes);
  if (pax_bytes_ > 0) state_ = State::kPax;
  return absl::OkStatus();
}

absl::Status TarReader::FeedPax(absl::string_view* bytes) {
  // Wait for the padding too, so that the header can be decoded as a whole.
  const size_t padded =
      pax_bytes_ + TarPadding(static_cast<int64_t>(pax_bytes_));
  if (!Fill(bytes, padded)) return absl::OkStatus();
  const std::string data = std::exchange(buffer_, "");
  if (!IsZero(absl::string_view(data).substr(pax_bytes_)))
    return Invalid("is followed by an extended header with invalid padding");
  auto pax = DecodePaxHeader(absl::string_view(data).substr(0, pax_bytes_));
  if (!pax.ok()) {
    return Invalid(
        absl::StrCat("is followed by an entry that ", pax.status().message()));
  }
  pax_ = *std::move(pax);
  state_ = State::kHeader;
  return absl::OkStatus();
}

absl::Status TarReader::BeginEntry(const TarHeader& header) {
  // The extended header overrides the block, for this entry only.
  const PaxFields pax = std::exchange(pax_, {});
  has_pax_ = false;
  TarEntry entry{.path = pax.path.value_or(header.path),
                 .size_bytes = pax.size_bytes.value_or(header.size_bytes),
                 .mode = header.mode & kPermissions,
                 .modify_time = pax.modify_time.value_or(
                     absl::FromUnixSeconds(header.modify_seconds)),
                 .link_target = pax.link_target.value_or(header.link_target)};
  // From here on, errors name this entry.
  path_ = entry.path;
  switch (header.type) {
    case '0':
      break;
    case '5':
      entry.type = TarType::kDirectory;
      break;
    case '2':
      entry.type = TarType::kSymlink;
      break;
    default:
      return Invalid(TypeProblem(header.type));
  }
  const bool file = entry.type == TarType::kFile;
  if (!file && entry.size_bytes != 0)
    return Invalid("has data, but is not a file");
  if ((entry.type == TarType::kSymlink) == entry.link_target.empty())
    return Invalid("has no link target, or is not a link but has one");
  // Some programs write directories without the final '/'.
  if (entry.type == TarType::kDirectory) {
    entry.path = std::string(absl::StripSuffix(entry.path, "/"));
  } else if (absl::EndsWith(entry.path, "/")) {
    return Invalid("ends with '/', but is not a directory");
  }
  data_bytes_ = entry.size_bytes;
  padding_bytes_ = TarPadding(entry.size_bytes);
  RETURN_IF_ERROR(visitor_->Begin(entry));
  // Without data, no later call would end the entry.
  if (data_bytes_ == 0) return EndEntry();
  state_ = State::kData;
  return absl::OkStatus();
}

absl::Status TarReader::FeedData(absl::string_view* bytes) {
  const size_t taken = static_cast<size_t>(
      std::min<int64_t>(data_bytes_, static_cast<int64_t>(bytes->size())));
  RETURN_IF_ERROR(visitor_->Data(bytes->substr(0, taken)));
  bytes->remove_prefix(taken);
  data_bytes_ -= static_cast<int64_t>(taken);
  return data_bytes_ == 0 ? EndEntry() : absl::OkStatus();
}

absl::Status TarReader::EndEntry() {
  state_ = padding_bytes_ > 0 ? State::kPadding : State::kHeader;
  return visitor_->End();
}

absl::Status TarReader::FeedPadding(absl::string_view* bytes) {
  const size_t taken = std::min(padding_bytes_, bytes->size());
  if (!IsZero(bytes->substr(0, taken)))
    return Invalid("is followed by padding that is not zero");
  bytes->remove_prefix(taken);
  padding_bytes_ -= taken;
  if (padding_bytes_ == 0) state_ = State::kHeader;
  return absl::OkStatus();
}

absl::Status TarReader::FeedEnd(absl::string_view* bytes) {
  if (!IsZero(*bytes) || bytes->size() > kMaxEndBytes - end_bytes_)
    return Invalid("is the last one, but data follows the end");
  end_bytes_ += bytes->size();
  *bytes = {};
  return absl::OkStatus();
}

}  // namespace mlops::archive
