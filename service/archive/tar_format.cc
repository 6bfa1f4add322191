#include "service/archive/tar_format.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/status_macros.h"
#include "proto/cpp/base/utf8.h"

namespace mlops::archive {
namespace {

// A field of a header block.
struct Field {
  size_t offset;
  size_t size;
};
constexpr Field kName = {0, 100};
constexpr Field kMode = {100, 8};
constexpr Field kUid = {108, 8};
constexpr Field kGid = {116, 8};
constexpr Field kSize = {124, 12};
constexpr Field kMtime = {136, 12};
constexpr Field kChecksum = {148, 8};
constexpr Field kType = {156, 1};
constexpr Field kLink = {157, 100};
constexpr Field kMagic = {257, 8};
constexpr Field kDevMajor = {329, 8};
constexpr Field kDevMinor = {337, 8};
constexpr Field kPrefix = {345, 155};

constexpr absl::string_view kUstarMagic("ustar\00000", 8);
constexpr absl::string_view kGnuMagic("ustar  \0", 8);
// The largest value of 11 octal digits.
constexpr int64_t kMaxOctal = (int64_t{1} << 33) - 1;
// The name of extended headers, which only very old programs see.
constexpr absl::string_view kPaxName = "././@PaxHeader";

constexpr int64_t kNanosPerSecond = 1'000'000'000;
constexpr size_t kNanosDigits = 9;
// Times of the years 1 to 9999.
constexpr int64_t kMinSeconds = -62'135'596'800;
constexpr int64_t kMaxSeconds = 253'402'300'799;

absl::Status Invalid(absl::string_view problem) {
  return absl::InvalidArgumentError(problem);
}

absl::string_view Get(absl::string_view block, const Field& field) {
  return block.substr(field.offset, field.size);
}

void Put(std::string& block, const Field& field, absl::string_view text) {
  const absl::string_view fitting = text.substr(0, field.size);
  block.replace(field.offset, fitting.size(), fitting.data(), fitting.size());
}

// Stores `value` as octal digits that fill the field up to a final NUL.
void PutOctal(std::string& block, const Field& field, int64_t value) {
  Put(block, field,
      absl::StrFormat("%0*o", static_cast<int>(field.size - 1), value));
}

// Returns the checksum of a header: the sum of its bytes, with spaces in place
// of the checksum itself.
int64_t ChecksumOf(absl::string_view block) {
  int64_t sum = 0;
  for (size_t i = 0; i < block.size(); ++i) {
    const bool own = i - kChecksum.offset < kChecksum.size;
    sum += own ? ' ' : static_cast<unsigned char>(block[i]);
  }
  return sum;
}

std::string EncodeBlock(absl::string_view name, char type, int64_t size_bytes,
                        uint32_t mode, int64_t modify_seconds,
                        absl::string_view link) {
  std::string block(kTarBlockBytes, '\0');
  Put(block, kName, name);
  PutOctal(block, kMode, mode);
  PutOctal(block, kUid, 0);
  PutOctal(block, kGid, 0);
  PutOctal(block, kSize, size_bytes);
  PutOctal(block, kMtime, modify_seconds);
  Put(block, kType, absl::string_view(&type, 1));
  Put(block, kLink, link);
  Put(block, kMagic, kUstarMagic);
  PutOctal(block, kDevMajor, 0);
  PutOctal(block, kDevMinor, 0);
  // Six digits, a NUL and a space, as every tar writes it.
  Put(block, kChecksum, absl::StrFormat("%06o", ChecksumOf(block)));
  block[kChecksum.offset + kChecksum.size - 1] = ' ';
  return block;
}

// Appends "<length> <key>=<value>\n", whose length includes its own digits.
void AppendPax(absl::string_view key, absl::string_view value,
               std::string* data) {
  const size_t rest = key.size() + value.size() + 3;
  // The length depends on its own number of digits, so search for it.
  size_t length = rest + 1;
  while (rest + absl::StrCat(length).size() != length) ++length;
  absl::StrAppend(data, length, " ", key, "=", value, "\n");
}

bool IsAscii(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), absl::ascii_isascii);
}

// Returns whether a header block can hold `text`. Other programs read bytes
// that are not UTF-8 as they are, but do not agree on how to read UTF-8.
bool FitsBlock(absl::string_view text, const Field& field) {
  return text.size() <= field.size &&
         (IsAscii(text) || !base::IsValidUtf8(text));
}

// Splits a time into whole seconds, rounded down, and nanoseconds.
std::pair<int64_t, int64_t> SplitTime(absl::Time time) {
  const int64_t seconds = absl::ToUnixSeconds(time);
  return {seconds,
          absl::ToInt64Nanoseconds(time - absl::FromUnixSeconds(seconds))};
}

// Returns seconds since 1970 in decimal, without trailing zeros.
std::string PaxTime(int64_t seconds, int64_t nanos) {
  const bool negative = seconds < 0;
  // SplitTime() rounds down, but the text has a sign and a magnitude.
  if (negative && nanos > 0) {
    ++seconds;
    nanos = kNanosPerSecond - nanos;
  }
  std::string text =
      absl::StrCat(negative ? "-" : "", negative ? -seconds : seconds);
  if (nanos == 0) return text;
  const std::string digits = absl::StrFormat("%09d", nanos);
  return absl::StrCat(text, ".",
                      digits.substr(0, digits.find_last_not_of('0') + 1));
}

std::optional<int64_t> ParseDigits(absl::string_view text) {
  int64_t value = 0;
  const bool digits = !text.empty() && std::all_of(text.begin(), text.end(),
                                                   absl::ascii_isdigit);
  if (!digits || !absl::SimpleAtoi(text, &value)) return std::nullopt;
  return value;
}

std::optional<absl::Time> ParsePaxTime(absl::string_view text) {
  const bool negative = absl::ConsumePrefix(&text, "-");
  const size_t dot = std::min(text.find('.'), text.size());
  const auto seconds = ParseDigits(text.substr(0, dot));
  if (!seconds || *seconds > kMaxSeconds) return std::nullopt;
  std::string fraction(text.substr(std::min(dot + 1, text.size())));
  if (dot < text.size() && fraction.empty()) return std::nullopt;
  // Drop digits beyond nanoseconds, as they cannot be stored.
  fraction.resize(kNanosDigits, '0');
  const auto nanos = ParseDigits(fraction);
  if (!nanos) return std::nullopt;
  const absl::Duration since =
      absl::Seconds(*seconds) + absl::Nanoseconds(*nanos);
  const absl::Time time = absl::UnixEpoch() + (negative ? -since : since);
  if (time < absl::FromUnixSeconds(kMinSeconds)) return std::nullopt;
  return time;
}

absl::StatusOr<int64_t> GetOctal(absl::string_view block, const Field& field,
                                 absl::string_view name) {
  absl::string_view text = Get(block, field);
  // GNU tar marks binary numbers with the highest bit.
  if (!text.empty() && (static_cast<unsigned char>(text[0]) & 0x80) != 0) {
    return Invalid(
        absl::StrCat("has a binary ", name, ", an extension of GNU tar"));
  }
  // Writers fill up the digits with spaces or NULs.
  text = absl::StripLeadingAsciiWhitespace(
      text.substr(0, text.find_last_not_of(absl::string_view("\0 ", 2)) + 1));
  int64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '7')
      return Invalid(absl::StrCat("has a ", name, " that is not octal"));
    value = value * 8 + (c - '0');
  }
  return value;
}

// Returns a text that ends at the first NUL or at the end of the field.
std::string GetText(absl::string_view block, const Field& field) {
  const absl::string_view text = Get(block, field);
  return std::string(text.substr(0, text.find('\0')));
}

absl::Status SetPaxField(absl::string_view key, absl::string_view value,
                         PaxFields* fields) {
  const absl::Status twice =
      Invalid(absl::StrCat("has \"", key, "\" twice in its extended header"));
  const auto set_text = [&](std::optional<std::string>& field) {
    if (field.has_value()) return twice;
    if (value.empty() || absl::StrContains(value, '\0')) {
      return Invalid(
          absl::StrCat("has an invalid \"", key, "\" in its extended header"));
    }
    field = std::string(value);
    return absl::OkStatus();
  };
  if (key == "path") return set_text(fields->path);
  if (key == "linkpath") return set_text(fields->link_target);
  if (key == "size") {
    if (fields->size_bytes.has_value()) return twice;
    fields->size_bytes = ParseDigits(value);
    return fields->size_bytes.has_value()
               ? absl::OkStatus()
               : Invalid("has an invalid size in its extended header");
  }
  if (key == "mtime") {
    if (fields->modify_time.has_value()) return twice;
    fields->modify_time = ParsePaxTime(value);
    return fields->modify_time.has_value()
               ? absl::OkStatus()
               : Invalid("has an invalid time in its extended header");
  }
  // Accept both, because names are treated as bytes.
  if (key == "hdrcharset" &&
      (value == "BINARY" || value == "ISO-IR 10646 2000 UTF-8"))
    return absl::OkStatus();
  return Invalid(absl::StrCat("has the extended header \"", base::Echo(key),
                              "\", which is not supported"));
}

char TypeFlag(TarType type) {
  switch (type) {
    case TarType::kFile:
      return '0';
    case TarType::kDirectory:
      return '5';
    case TarType::kSymlink:
      return '2';
  }
  return '0';
}

}  // namespace

std::string EncodeTarEntry(const TarEntry& entry) {
  const bool directory = entry.type == TarType::kDirectory;
  const std::string path = absl::StrCat(entry.path, directory ? "/" : "");
  const auto [seconds, nanos] = SplitTime(entry.modify_time);
  const bool plain_time = nanos == 0 && seconds >= 0 && seconds <= kMaxOctal;
  const bool plain_path = FitsBlock(path, kName);
  const bool plain_link = FitsBlock(entry.link_target, kLink);
  const bool plain_size = entry.size_bytes <= kMaxOctal;

  // The extended header has only the fields that the block cannot hold.
  std::string pax;
  // pax requires UTF-8 unless hdrcharset says otherwise.
  const bool binary = (!plain_path && !base::IsValidUtf8(path)) ||
                      (!plain_link && !base::IsValidUtf8(entry.link_target));
  if (binary) AppendPax("hdrcharset", "BINARY", &pax);
  if (!plain_path) AppendPax("path", path, &pax);
  if (!plain_link) AppendPax("linkpath", entry.link_target, &pax);
  if (!plain_size) AppendPax("size", absl::StrCat(entry.size_bytes), &pax);
  if (!plain_time) AppendPax("mtime", PaxTime(seconds, nanos), &pax);

  std::string encoded;
  if (!pax.empty()) {
    encoded = EncodeBlock(kPaxName, 'x', static_cast<int64_t>(pax.size()), 0644,
                          0, "");
    absl::StrAppend(
        &encoded, pax,
        std::string(TarPadding(static_cast<int64_t>(pax.size())), '\0'));
  }
  // Programs that ignore extended headers get the values that fit.
  const int64_t block_seconds = std::clamp<int64_t>(seconds, 0, kMaxOctal);
  absl::StrAppend(
      &encoded,
      EncodeBlock(path, TypeFlag(entry.type), plain_size ? entry.size_bytes : 0,
                  entry.mode, block_seconds, entry.link_target));
  return encoded;
}

absl::StatusOr<TarHeader> DecodeTarHeader(absl::string_view block) {
  const absl::string_view magic = Get(block, kMagic);
  if (magic == kGnuMagic)
    return Invalid("is in the format of GNU tar, not in the pax format");
  if (magic != kUstarMagic) return Invalid("is not a header of a tar archive");
  // Verify the checksum before using any field.
  ASSIGN_OR_RETURN(const int64_t checksum,
                   GetOctal(block, kChecksum, "checksum"));
  if (checksum != ChecksumOf(block))
    return Invalid("has a header with a wrong checksum");
  TarHeader header{.path = GetText(block, kName),
                   .type = Get(block, kType)[0],
                   .link_target = GetText(block, kLink)};
  // ustar splits a path of more than 100 bytes into two fields.
  if (const std::string prefix = GetText(block, kPrefix); !prefix.empty())
    header.path = absl::StrCat(prefix, "/", header.path);
  // Very old programs write NUL for a file.
  if (header.type == '\0') header.type = '0';
  ASSIGN_OR_RETURN(header.size_bytes, GetOctal(block, kSize, "size"));
  ASSIGN_OR_RETURN(const int64_t mode, GetOctal(block, kMode, "mode"));
  header.mode = static_cast<uint32_t>(mode);
  ASSIGN_OR_RETURN(header.modify_seconds, GetOctal(block, kMtime, "time"));
  return header;
}

absl::StatusOr<PaxFields> DecodePaxHeader(absl::string_view data) {
  PaxFields fields;
  const absl::Status malformed = Invalid("has a malformed extended header");
  while (!data.empty()) {
    const size_t space = data.find(' ');
    if (space == absl::string_view::npos) return malformed;
    // The length includes its own digits, the space and the newline.
    const auto length = ParseDigits(data.substr(0, space));
    if (!length || *length <= static_cast<int64_t>(space) + 1 ||
        *length > static_cast<int64_t>(data.size()))
      return malformed;
    absl::string_view record =
        data.substr(space + 1, static_cast<size_t>(*length) - space - 1);
    if (!absl::ConsumeSuffix(&record, "\n")) return malformed;
    const size_t equals = record.find('=');
    if (equals == absl::string_view::npos || equals == 0) return malformed;
    RETURN_IF_ERROR(SetPaxField(record.substr(0, equals),
                                record.substr(equals + 1), &fields));
    data.remove_prefix(static_cast<size_t>(*length));
  }
  return fields;
}

}  // namespace mlops::archive
