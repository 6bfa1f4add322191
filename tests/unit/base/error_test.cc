#include "proto/cpp/base/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "proto/cpp/base/status_macros.h"
#include "proto/cpp/base/utf8.h"

namespace mlops::base {
namespace {

using absl::StatusCode;
using testing::IsEmpty;
using testing::Pair;
using testing::UnorderedElementsAre;

TEST(Echo, KeepsPlainText) {
  EXPECT_EQ(Echo(""), "");
  EXPECT_EQ(Echo("fraud-1 /x"), "fraud-1 /x");
  EXPECT_EQ(Echo("Größe 🚀"), "Größe 🚀");
}

TEST(Echo, EscapesControlCharactersAndInvalidUtf8) {
  EXPECT_EQ(Echo("a\nb"), "a\\nb");
  EXPECT_EQ(Echo(absl::string_view("\0", 1)), "\\x00");
  EXPECT_EQ(Echo("\x7f"), "\\x7f");
  EXPECT_EQ(Echo("\xff\xc3"), "\\xff\\xc3");
  EXPECT_EQ(Echo("\xed\xa0\x80"), "\\xed\\xa0\\x80");
}

TEST(Echo, CutsAtWholeCharacters) {
  const std::string text = std::string(300, 'x');
  EXPECT_EQ(Echo(text), std::string(kMaxEchoBytes - 3, 'x') + "...");
  for (size_t max = 4; max < 30; ++max) {
    const std::string cut = Echo("öäü🚀\n\xff and so on and on", max);
    EXPECT_LE(cut.size(), max);
    EXPECT_TRUE(IsValidUtf8(cut)) << cut;
  }
}

TEST(Error, CarriesItsInfo) {
  const absl::Status status =
      MakeError(StatusCode::kAborted, "changed",
                {.reason = "ETAG_MISMATCH",
                 .metadata = {{"etag", "1"}, {"project", "fraud"}},
                 .retry_delay = absl::Milliseconds(100)});
  EXPECT_EQ(status.code(), StatusCode::kAborted);
  EXPECT_EQ(status.message(), "changed");
  const auto info = GetErrorInfo(status);
  ASSERT_TRUE(info.has_value());
  EXPECT_EQ(info->reason, "ETAG_MISMATCH");
  EXPECT_THAT(info->metadata, UnorderedElementsAre(Pair("etag", "1"),
                                                   Pair("project", "fraud")));
  EXPECT_EQ(info->retry_delay, absl::Milliseconds(100));
}

TEST(Error, OthersCarryNone) {
  EXPECT_EQ(GetErrorInfo(absl::OkStatus()), std::nullopt);
  EXPECT_EQ(GetReason(absl::InternalError("x")), "");
  const auto info = GetErrorInfo(
      MakeError(StatusCode::kInternal, "x", {.reason = "IO_ERROR"}));
  EXPECT_THAT(info->metadata, IsEmpty());
  EXPECT_EQ(info->retry_delay, std::nullopt);
}

TEST(Error, MetadataIsMadeFitForTheWire) {
  const auto status = MakeError(
      StatusCode::kInternal, "x",
      {.reason = "IO_ERROR",
       .metadata = {{"path", "a\xff"}, {"long", std::string(999, 'x')}}});
  const auto metadata = GetErrorInfo(status)->metadata;
  EXPECT_EQ(metadata.at("path"), "a\\xff");
  EXPECT_EQ(metadata.at("long").size(), kMaxEchoBytes);
}

TEST(WithMetadata, AddsButNeverReplaces) {
  const auto status =
      MakeError(StatusCode::kInternal, "x",
                {.reason = "IO_ERROR", .metadata = {{"path", "/a"}}});
  EXPECT_EQ(GetErrorInfo(WithMetadata(status, "project", "fraud"))
                ->metadata.at("project"),
            "fraud");
  EXPECT_EQ(
      GetErrorInfo(WithMetadata(status, "path", "/b"))->metadata.at("path"),
      "/a");
  EXPECT_EQ(WithMetadata(absl::InternalError("bare"), "project", "fraud"),
            absl::InternalError("bare"));
  EXPECT_EQ(WithMetadata(status, "project", "fraud").code(),
            StatusCode::kInternal);
}

absl::StatusOr<int> AddOne(const absl::StatusOr<int>& number) {
  ASSIGN_OR_RETURN(const int value, number);
  return value + 1;
}

absl::Status Check(const absl::Status& status) {
  RETURN_IF_ERROR(status);
  return absl::AbortedError("went on");
}

TEST(StatusMacros, ReturnErrorsAndGoOnOtherwise) {
  EXPECT_EQ(AddOne(1).value(), 2);
  EXPECT_EQ(AddOne(absl::DataLossError("x")).status(),
            absl::DataLossError("x"));
  EXPECT_EQ(Check(absl::OkStatus()), absl::AbortedError("went on"));
  EXPECT_EQ(Check(absl::DataLossError("x")), absl::DataLossError("x"));
}

}  // namespace
}  // namespace mlops::base
