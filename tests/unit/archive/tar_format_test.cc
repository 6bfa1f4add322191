#include "service/archive/tar_format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/support/matchers.h"

namespace mlops::archive {
namespace {

using testing::HasSubstr;

absl::Time At(int64_t seconds, int64_t nanos = 0) {
  return absl::FromUnixSeconds(seconds) + absl::Nanoseconds(nanos);
}

TEST(TarFormatTest, EncodesPlainEntriesInOneBlock) {
  const std::string block = EncodeTarEntry({.path = "models/a.bin",
                                            .size_bytes = 1234,
                                            .mode = 0640,
                                            .modify_time = At(1'700'000'000)});
  ASSERT_EQ(block.size(), kTarBlockBytes);
  const auto header = DecodeTarHeader(block);
  ASSERT_OK(header);
  EXPECT_EQ(header->path, "models/a.bin");
  EXPECT_EQ(header->type, '0');
  EXPECT_EQ(header->size_bytes, 1234);
  EXPECT_EQ(header->mode, 0640u);
  EXPECT_EQ(header->modify_seconds, 1'700'000'000);
}

TEST(TarFormatTest, MarksDirectoriesAndLinks) {
  const auto directory = DecodeTarHeader(
      EncodeTarEntry({.path = "models", .type = TarType::kDirectory}));
  ASSERT_OK(directory);
  EXPECT_EQ(directory->path, "models/");
  EXPECT_EQ(directory->type, '5');
  const auto link = DecodeTarHeader(EncodeTarEntry(
      {.path = "models/l", .type = TarType::kSymlink, .link_target = "a.bin"}));
  ASSERT_OK(link);
  EXPECT_EQ(link->type, '2');
  EXPECT_EQ(link->link_target, "a.bin");
}

// Returns the data of the extended header that `encoded` begins with.
std::string PaxOf(const std::string& encoded) {
  const auto header = DecodeTarHeader(encoded.substr(0, kTarBlockBytes));
  if (!header.ok() || header->type != 'x') return "";
  return encoded.substr(kTarBlockBytes,
                        static_cast<size_t>(header->size_bytes));
}

TEST(TarFormatTest, PutsTheRestIntoAnExtendedHeader) {
  const std::string path = absl::StrCat("models/", std::string(100, 'x'));
  const auto pax = DecodePaxHeader(
      PaxOf(EncodeTarEntry({.path = path,
                            .type = TarType::kFile,
                            .size_bytes = int64_t{9} << 30,
                            .modify_time = At(1'700'000'000, 120'000'000)})));
  ASSERT_OK(pax);
  EXPECT_EQ(pax->path, path);
  EXPECT_EQ(pax->size_bytes, int64_t{9} << 30);
  EXPECT_EQ(pax->modify_time, At(1'700'000'000, 120'000'000));
  EXPECT_EQ(PaxOf(EncodeTarEntry({.path = "dvc/\xc3\xbc"})),
            "15 path=dvc/\xc3\xbc\n");
}

TEST(TarFormatTest, ExtendedHeadersNameTheirOwnLength) {
  // The length has one digit more than the rest alone.
  const std::string path = absl::StrCat("models/", std::string(100, 'x'));
  for (size_t extra = 0; extra < 1000; ++extra) {
    const std::string longer = path + std::string(extra, 'y');
    const auto pax = DecodePaxHeader(PaxOf(EncodeTarEntry({.path = longer})));
    ASSERT_OK(pax);
    ASSERT_EQ(pax->path, longer);
  }
}

TEST(TarFormatTest, KeepsBytesThatAreNotUtf8) {
  EXPECT_EQ(PaxOf(EncodeTarEntry({.path = "models/\xff"})), "");
  const std::string path = absl::StrCat("models/", std::string(100, '\xff'));
  const std::string pax = PaxOf(EncodeTarEntry({.path = path}));
  EXPECT_THAT(pax, HasSubstr("hdrcharset=BINARY"));
  EXPECT_EQ(DecodePaxHeader(pax)->path, path);
}

TEST(TarFormatTest, KeepsTimesToTheNanosecond) {
  for (const absl::Time time :
       {At(0, 1), At(-1), At(-2, 500'000'000), At(-1, 999'999'999),
        At(1'700'000'000, 123'456'789), At(253'402'300'799),
        At(int64_t{1} << 33), At(-62'135'596'800)}) {
    const auto pax = DecodePaxHeader(
        PaxOf(EncodeTarEntry({.path = "dvc", .modify_time = time})));
    ASSERT_OK(pax);
    EXPECT_EQ(pax->modify_time, time) << time;
  }
  EXPECT_EQ(PaxOf(EncodeTarEntry(
                {.path = "dvc", .modify_time = At(-2, 500'000'000)})),
            "14 mtime=-1.5\n");
}

TEST(TarFormatTest, RefusesMalformedExtendedHeaders) {
  for (const absl::string_view data : {"x",
                                       "5",
                                       "5 ",
                                       "0 a=\n",
                                       "-5 a=\n",
                                       "999 path=a\n",
                                       "6 path=a\n",
                                       "10 path=ab",
                                       "9 path=a\n9 path=b\n",
                                       "7 path=\n",
                                       "9 size=x\n",
                                       "10 size=-1\n",
                                       "31 size=99999999999999999999999\n",
                                       "10 mtime=x\n",
                                       "11 mtime=1.\n",
                                       "12 mtime=1.x\n",
                                       "25 mtime=9999999999999999\n",
                                       "7 =abc\n",
                                       "22 GNU.sparse.major=1\n",
                                       "11 atime=1\n",
                                       "21 hdrcharset=LATIN1\n",
                                       "99999999999999999999 path=a\n",
                                       " 9 path=a\n"}) {
    EXPECT_THAT(DecodePaxHeader(data).status().message(), HasSubstr("has "))
        << data;
  }
  EXPECT_FALSE(DecodePaxHeader(absl::string_view("11 path=a\0b\n", 12)).ok());
  EXPECT_OK(DecodePaxHeader(""));
}

TEST(TarFormatTest, RefusesBlocksThatAreNoHeaders) {
  const std::string block = EncodeTarEntry({.path = "models/a"});
  for (size_t i = 0; i < 500; ++i) {
    std::string damaged = block;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x08);
    EXPECT_FALSE(DecodeTarHeader(damaged).ok()) << i;
  }
}

}  // namespace
}  // namespace mlops::archive
