#include "service/archive/tar_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tests/support/matchers.h"

namespace mlops::archive {
namespace {

using absl::StatusCode;
using support::IsError;
using testing::ElementsAre;
using testing::HasSubstr;

const auto kInvalid = IsError(StatusCode::kInvalidArgument, "ARCHIVE_INVALID");

// Notes what it receives, one line per entry.
class Notes : public TarVisitor {
 public:
  absl::Status Begin(const TarEntry& entry) override {
    lines.push_back(absl::StrFormat(
        "%s %d %d %o %d %s", entry.path, static_cast<int>(entry.type),
        entry.size_bytes, entry.mode, absl::ToUnixNanos(entry.modify_time),
        entry.link_target));
    return absl::OkStatus();
  }
  absl::Status Data(absl::string_view bytes) override {
    EXPECT_FALSE(bytes.empty());
    absl::StrAppend(&lines.back(), bytes);
    return absl::OkStatus();
  }
  absl::Status End() override {
    absl::StrAppend(&lines.back(), ".");
    return absl::OkStatus();
  }

  std::vector<std::string> lines;
};

absl::Status Read(const std::string& archive, size_t chunk, Notes* notes) {
  TarReader reader(notes);
  for (size_t i = 0; i < archive.size(); i += chunk) {
    absl::Status fed = reader.Feed(absl::string_view(archive).substr(i, chunk));
    if (!fed.ok()) return fed;
  }
  return reader.Finish();
}
absl::Status Read(const std::string& archive, size_t chunk = 1 << 20) {
  Notes notes;
  return Read(archive, chunk, &notes);
}

std::string File(const std::string& path, const std::string& content) {
  return absl::StrCat(
      EncodeTarEntry(
          {.path = path, .size_bytes = static_cast<int64_t>(content.size())}),
      content,
      std::string(TarPadding(static_cast<int64_t>(content.size())), '\0'));
}
const std::string& End() {
  static const std::string end(kTarEndBytes, '\0');
  return end;
}

// Returns the header of an empty file with one byte changed and the checksum
// corrected.
std::string Header(size_t offset, absl::string_view bytes) {
  std::string block = EncodeTarEntry({.path = "models/x"});
  block.replace(offset, bytes.size(), bytes.data(), bytes.size());
  block.replace(148, 8, "        ");
  int sum = 0;
  for (const char c : block) sum += static_cast<unsigned char>(c);
  block.replace(148, 8, absl::StrFormat("%06o%c ", sum, '\0'));
  return block;
}
std::string Type(char type) { return Header(156, std::string(1, type)); }

TEST(TarReaderTest, ReadsChunksOfEverySize) {
  const std::string long_path = absl::StrCat("models/", std::string(200, 'x'));
  const std::string archive = absl::StrCat(
      EncodeTarEntry({.path = "models",
                      .type = TarType::kDirectory,
                      .mode = 0755,
                      .modify_time = absl::FromUnixNanos(1'500'000'000)}),
      File("models/a", "hello"), File("models/empty", ""),
      EncodeTarEntry({.path = "models/l",
                      .type = TarType::kSymlink,
                      .mode = 0777,
                      .link_target = "a"}),
      File(long_path, std::string(512, 'z')), End());
  for (const size_t chunk : {1, 2, 3, 7, 511, 512, 513, 1000, 100'000}) {
    Notes notes;
    ASSERT_OK(Read(archive, chunk, &notes)) << chunk;
    EXPECT_THAT(
        notes.lines,
        ElementsAre("models 1 0 755 1500000000 .", "models/a 0 5 644 0 hello.",
                    "models/empty 0 0 644 0 .", "models/l 2 0 777 0 a.",
                    absl::StrCat(long_path, " 0 512 644 0 ",
                                 std::string(512, 'z'), ".")));
  }
}

TEST(TarReaderTest, RefusesEveryTruncation) {
  const std::string archive =
      absl::StrCat(File(std::string(150, 'x'), "hello"), End());
  for (size_t size = 0; size < archive.size(); ++size)
    EXPECT_THAT(Read(archive.substr(0, size)), kInvalid) << size;
  EXPECT_OK(Read(archive));
}

TEST(TarReaderTest, AcceptsOnlyZerosAfterTheEnd) {
  const std::string archive = absl::StrCat(File("models/x", "hello"), End());
  EXPECT_OK(Read(absl::StrCat(archive, std::string(9 * 1024, '\0'))));
  EXPECT_THAT(Read(absl::StrCat(archive, "x")), kInvalid);
  EXPECT_THAT(Read(absl::StrCat(archive, File("models/y", ""))), kInvalid);
  EXPECT_THAT(Read(absl::StrCat(archive, std::string(2 << 20, '\0'))),
              kInvalid);
  // A single block of zeros does not end an archive.
  EXPECT_THAT(Read(absl::StrCat(File("models/x", ""), std::string(512, '\0'),
                                File("models/y", ""))),
              kInvalid);
}

struct BadArchive {
  std::string archive;
  std::string problem;
};

TEST(TarReaderTest, RefusesWhatItDoesNotKnow) {
  const std::string pax =
      EncodeTarEntry({.path = absl::StrCat("models/", std::string(99, 'x'))});
  const std::string only_pax = pax.substr(0, 2 * kTarBlockBytes);
  std::string dirty = File("models/x", "hello");
  dirty.back() = 'x';
  const std::vector<BadArchive> bad = {
      {Type('1'), "hard link"},
      {Type('3'), "device"},
      {Type('4'), "device"},
      {Type('6'), "FIFO"},
      {Type('g'), "global"},
      {Type('S'), "sparse"},
      {Type('L'), "not supported"},
      {Type('7'), "not supported"},
      {Type('2'), "link target"},
      {Header(157, "target"), "link"},
      {Header(0, "models/x/"), "'/'"},
      {Header(124, "\x80"), "binary size"},
      {Header(124, "9"), "not octal"},
      {Header(257, absl::string_view("ustar  \0", 8)), "GNU tar"},
      {std::string(512, 'x'), "not a header"},
      {dirty, "padding"},
      {absl::StrCat(only_pax, End()), "without an entry"},
      {absl::StrCat(only_pax, only_pax, File("models/x", "")),
       "two extended headers"},
  };
  for (const BadArchive& each : bad) {
    const absl::Status read = Read(absl::StrCat(each.archive, End()));
    EXPECT_THAT(read, kInvalid) << each.problem;
    EXPECT_THAT(std::string(read.message()), HasSubstr(each.problem));
  }
}

TEST(TarReaderTest, BoundsExtendedHeaders) {
  std::string header =
      EncodeTarEntry({.path = std::string(150, 'x')}).substr(0, 512);
  header.replace(124, 11, "00000300000");
  header.replace(148, 8, "        ");
  int sum = 0;
  for (const char c : header) sum += static_cast<unsigned char>(c);
  header.replace(148, 8, absl::StrFormat("%06o%c ", sum, '\0'));
  const absl::Status read = Read(header);
  EXPECT_THAT(read, kInvalid);
  EXPECT_THAT(std::string(read.message()), HasSubstr("65536"));
}

}  // namespace
}  // namespace mlops::archive
