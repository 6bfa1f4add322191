#include "proto/cpp/wire_status.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/cord.h"
#include "google/rpc/error_details.pb.h"
#include "mlops/workspace/v1/error_reason.pb.h"
#include "proto/cpp/base/error.h"

namespace mlops::wire {
namespace {

using absl::StatusCode;
using base::GetErrorInfo;
using base::MakeError;
using testing::IsEmpty;
using testing::Pair;
using testing::StartsWith;
using testing::UnorderedElementsAre;

// Returns whether `text` is valid UTF-8, and so a valid protobuf string.
bool IsUtf8(const std::string& text) {
  // The wire format of google.rpc.Status.message.
  const std::string field =
      std::string("\x12") + static_cast<char>(text.size()) + text;
  return google::rpc::Status().ParseFromString(field);
}

template <typename Detail>
std::vector<Detail> DetailsOf(const google::rpc::Status& proto) {
  std::vector<Detail> found;
  for (const auto& any : proto.details()) {
    if (Detail detail; any.UnpackTo(&detail)) found.push_back(detail);
  }
  return found;
}

TEST(WireStatus, OkIsOkBothWays) {
  EXPECT_TRUE(ToGrpc(absl::OkStatus()).ok());
  EXPECT_TRUE(FromGrpc(grpc::Status::OK).ok());
  EXPECT_EQ(ToProto(absl::OkStatus()).ByteSizeLong(), 0u);
  EXPECT_TRUE(FromProto({}).ok());
}

TEST(WireStatus, EveryReasonComesBackAsItWent) {
  const auto* reasons = workspace::v1::ErrorReason_descriptor();
  ASSERT_GT(reasons->value_count(), 1);
  for (int i = 1; i < reasons->value_count(); ++i) {
    const auto sent = MakeError(StatusCode::kAborted, "what happened",
                                {.reason = reasons->value(i)->name(),
                                 .metadata = {{"project", "fraud"}}});
    const auto got = FromGrpc(ToGrpc(sent));
    EXPECT_EQ(got.code(), StatusCode::kAborted);
    EXPECT_EQ(got.message(), "what happened");
    ASSERT_TRUE(GetErrorInfo(got).has_value());
    EXPECT_EQ(GetErrorInfo(got)->reason, reasons->value(i)->name());
    EXPECT_THAT(GetErrorInfo(got)->metadata,
                UnorderedElementsAre(Pair("project", "fraud")));
    EXPECT_EQ(GetErrorInfo(got)->retry_delay, std::nullopt);
    EXPECT_EQ(FromProto(ToProto(sent)), got);
  }
}

TEST(WireStatus, ErrorInfoNamesOurDomain) {
  const auto proto = ToProto(MakeError(StatusCode::kNotFound, "gone",
                                       {.reason = "WORKSPACE_NOT_FOUND"}));
  ASSERT_EQ(DetailsOf<google::rpc::ErrorInfo>(proto).size(), 1u);
  EXPECT_EQ(DetailsOf<google::rpc::ErrorInfo>(proto)[0].domain(),
            "mlops.workspace");
}

TEST(WireStatus, InvalidFieldHasBadRequestBesideIt) {
  const auto proto = ToProto(
      MakeError(StatusCode::kInvalidArgument, "project: empty",
                {.reason = "FIELD_INVALID",
                 .metadata = {{"field", "project"}, {"problem", "empty"}}}));
  const auto bad_requests = DetailsOf<google::rpc::BadRequest>(proto);
  ASSERT_EQ(bad_requests.size(), 1u);
  ASSERT_EQ(bad_requests[0].field_violations_size(), 1);
  EXPECT_EQ(bad_requests[0].field_violations(0).field(), "project");
  EXPECT_EQ(bad_requests[0].field_violations(0).description(), "empty");
}

TEST(WireStatus, OtherReasonsHaveNoBadRequest) {
  const auto proto = ToProto(MakeError(
      StatusCode::kInvalidArgument, "token",
      {.reason = "TOKEN_INVALID", .metadata = {{"field", "page_token"}}}));
  EXPECT_THAT(DetailsOf<google::rpc::BadRequest>(proto), IsEmpty());
}

TEST(WireStatus, RetryDelayComesBack) {
  const auto sent = MakeError(
      StatusCode::kUnavailable, "later",
      {.reason = "OVERLOADED", .retry_delay = absl::Milliseconds(1250)});
  const auto retries = DetailsOf<google::rpc::RetryInfo>(ToProto(sent));
  ASSERT_EQ(retries.size(), 1u);
  EXPECT_EQ(retries[0].retry_delay().seconds(), 1);
  EXPECT_EQ(retries[0].retry_delay().nanos(), 250'000'000);
  EXPECT_EQ(GetErrorInfo(FromGrpc(ToGrpc(sent)))->retry_delay,
            absl::Milliseconds(1250));
}

TEST(WireStatus, AnErrorWithoutAReasonBecomesIoError) {
  for (const auto code : {StatusCode::kUnknown, StatusCode::kNotFound,
                          StatusCode::kUnavailable}) {
    const auto got = FromGrpc(ToGrpc(absl::Status(code, "disk on fire")));
    EXPECT_EQ(got.code(), StatusCode::kInternal);
    EXPECT_EQ(base::GetReason(got), "IO_ERROR");
    EXPECT_EQ(got.message(), "disk on fire");
  }
}

TEST(WireStatus, CancellationAndDeadlineKeepTheirCode) {
  for (const auto code :
       {StatusCode::kCancelled, StatusCode::kDeadlineExceeded}) {
    EXPECT_EQ(FromGrpc(ToGrpc(absl::Status(code, "too late"))),
              absl::Status(code, "too late"));
    EXPECT_THAT(ToGrpc(absl::Status(code, "too late")).error_details(),
                IsEmpty());
  }
}

TEST(WireStatus, ErrorsOfTheTransportKeepCodeAndMessage) {
  const grpc::Status broken(grpc::StatusCode::UNAVAILABLE, "failed to connect");
  EXPECT_EQ(FromGrpc(broken),
            absl::Status(StatusCode::kUnavailable, "failed to connect"));
}

TEST(WireStatus, DamagedDetailsAreIgnored) {
  const grpc::Status damaged(grpc::StatusCode::ABORTED, "busy",
                             "\xff\xff not a message");
  EXPECT_EQ(FromGrpc(damaged), absl::Status(StatusCode::kAborted, "busy"));
}

TEST(WireStatus, ErrorInfoOfAnotherDomainIsNotOurs) {
  google::rpc::ErrorInfo other;
  other.set_domain("example.com");
  other.set_reason("WORKSPACE_EXISTS");
  google::rpc::Status proto;
  proto.set_code(static_cast<int>(StatusCode::kAlreadyExists));
  proto.add_details()->PackFrom(other);
  EXPECT_EQ(base::GetReason(FromProto(proto)), "");
}

TEST(WireStatus, ALongMessageIsCut) {
  const auto proto =
      ToProto(MakeError(StatusCode::kAborted, std::string(1'000'000, 'x'),
                        {.reason = "IO_ERROR"}));
  EXPECT_EQ(proto.message().size(), 1024u);
  EXPECT_THAT(proto.message(), StartsWith("xxx"));
}

TEST(WireStatus, InvalidUtf8IsEscaped) {
  const std::string bad = "name \xff\xc0\x80 cut \xe2\x82";
  ASSERT_FALSE(IsUtf8(bad));
  const auto proto =
      ToProto(MakeError(StatusCode::kInternal, bad,
                        {.reason = "IO_ERROR", .metadata = {{"path", bad}}}));
  EXPECT_TRUE(IsUtf8(proto.message()));
  EXPECT_EQ(proto.message(), "name \\xff\\xc0\\x80 cut \\xe2\\x82");
  EXPECT_EQ(GetErrorInfo(FromProto(proto))->metadata["path"], proto.message());
}

TEST(WireStatus, AMessageIsNotCutWithinACharacter) {
  std::string euros;
  for (int i = 0; i < 1000; ++i) euros += "€";
  const auto proto =
      ToProto(MakeError(StatusCode::kAborted, euros, {.reason = "IO_ERROR"}));
  EXPECT_LE(proto.message().size(), 1024u);
  EXPECT_TRUE(google::rpc::Status().ParseFromString(proto.SerializeAsString()));
}

TEST(WireStatus, BadRequestGoesFirstWhenDetailsAreTooLarge) {
  base::ErrorInfo info{.reason = "FIELD_INVALID",
                       .metadata = {{"field", std::string(200, 'f')},
                                    {"problem", std::string(200, 'p')}}};
  for (int i = 0; i < 9; ++i)
    info.metadata["more" + std::to_string(i)] = std::string(240, 'm');
  const auto proto = ToProto(
      MakeError(StatusCode::kInvalidArgument, std::string(900, 'x'), info));
  EXPECT_LE(proto.ByteSizeLong(), kMaxDetailsBytes);
  EXPECT_THAT(DetailsOf<google::rpc::BadRequest>(proto), IsEmpty());
  EXPECT_EQ(GetErrorInfo(FromProto(proto))->metadata, info.metadata);
}

TEST(WireStatus, HugeMetadataIsCutAndTheReasonKept) {
  base::ErrorInfo info{.reason = "FIELD_INVALID",
                       .retry_delay = absl::Seconds(3)};
  for (int i = 0; i < 5000; ++i)
    info.metadata["key" + std::to_string(i)] = std::string(5000, 'v');
  const auto sent =
      MakeError(StatusCode::kInvalidArgument, std::string(5000, 'x'), info);
  EXPECT_LE(ToGrpc(sent).error_details().size(), kMaxDetailsBytes);
  const auto got = GetErrorInfo(FromGrpc(ToGrpc(sent)));
  ASSERT_TRUE(got.has_value());
  EXPECT_EQ(got->reason, "FIELD_INVALID");
  EXPECT_EQ(got->retry_delay, absl::Seconds(3));
  EXPECT_GT(got->metadata.size(), 5u);
}

TEST(WireStatus, APayloadOfAnotherShapeIsNoError) {
  for (const char* payload :
       {"[]", "1", "nonsense", "{}", R"({"reason": 1})",
        R"({"metadata": [], "retry_ms": "soon"})",
        R"({"metadata": {"a": 1, "b": null}, "retry_ms": 1.5})"}) {
    absl::Status status(StatusCode::kInternal, "odd");
    status.SetPayload("mlops.workspace/error_info", absl::Cord(payload));
    EXPECT_EQ(base::GetReason(status), "") << payload;
  }
}

TEST(WireStatus, AMetadataKeyLargerThanAllIsLeftOut) {
  const auto sent = MakeError(
      StatusCode::kInternal, "odd",
      {.reason = "IO_ERROR",
       .metadata = {{"a", "kept"}, {std::string(9000, 'k'), "lost"}}});
  EXPECT_LE(ToGrpc(sent).error_details().size(), kMaxDetailsBytes);
  EXPECT_THAT(GetErrorInfo(FromGrpc(ToGrpc(sent)))->metadata,
              UnorderedElementsAre(Pair("a", "kept")));
}

}  // namespace
}  // namespace mlops::wire
