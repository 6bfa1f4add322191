#include "service/rpc/artifact_wire.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "grpcpp/impl/codegen/proto_utils.h"
#include "tests/support/matchers.h"

namespace mlops::rpc {
namespace {

using support::IsError;

// Splits `bytes` into slices of random sizes.
grpc::ByteBuffer Cut(const std::string& bytes, std::mt19937& random) {
  std::vector<grpc::Slice> slices;
  for (size_t at = 0; at < bytes.size();) {
    const size_t size = std::min<size_t>(bytes.size() - at, random() % 40);
    slices.emplace_back(bytes.substr(at, size));
    at += size;
  }
  return grpc::ByteBuffer(slices.data(), slices.size());
}

pb::WriteArtifactRequest RandomRequest(std::mt19937& random) {
  const auto text = [&random](size_t max) {
    return std::string(random() % max, static_cast<char>('a' + random() % 26));
  };
  pb::WriteArtifactRequest request;
  if (random() % 2 == 0) request.set_project(text(60));
  if (random() % 2 == 0) request.set_path(text(300));
  if (random() % 4 != 0) request.set_data(text(2000));
  if (random() % 2 == 0) request.set_finish(true);
  if (random() % 2 == 0)
    request.set_offset(static_cast<int64_t>(random()) << (random() % 32));
  if (random() % 2 == 0) request.set_sha256(text(70));
  if (random() % 2 == 0) request.set_fence(-1);
  return request;
}

TEST(DecodeWriteTest, TakesApartWhatProtobufPutsTogetherHoweverItIsCut) {
  std::mt19937 random(1);
  for (int i = 0; i < 2000; ++i) {
    pb::WriteArtifactRequest request = RandomRequest(random);
    const auto message = DecodeWrite(Cut(request.SerializeAsString(), random));
    ASSERT_OK(message);
    EXPECT_EQ(absl::StrJoin(message->data.pieces, ""), request.data());
    request.clear_data();
    EXPECT_EQ(message->head.SerializeAsString(), request.SerializeAsString());
  }
}

TEST(DecodeWriteTest, RefusesWhatProtobufRefuses) {
  std::mt19937 random(2);
  int refused = 0;
  for (int i = 0; i < 5000; ++i) {
    std::string bytes = RandomRequest(random).SerializeAsString();
    bytes.resize(random() % (bytes.size() + 1));
    for (int flips = static_cast<int>(random() % 3);
         flips > 0 && !bytes.empty(); --flips) {
      bytes[random() % bytes.size()] ^= static_cast<char>(1 << random() % 8);
    }
    pb::WriteArtifactRequest request;
    const bool ok = request.ParseFromString(bytes);
    const auto message = DecodeWrite(Cut(bytes, random));
    if (message.ok()) {
      EXPECT_TRUE(ok);
      EXPECT_EQ(absl::StrJoin(message->data.pieces, ""), request.data());
    } else {
      // Protobuf accepts groups, which proto3 never writes; DecodeWrite()
      // refuses them.
      EXPECT_THAT(message,
                  IsError(absl::StatusCode::kInvalidArgument, "FIELD_INVALID"));
      ++refused;
    }
  }
  EXPECT_GT(refused, 100);
}

TEST(EncodeDataTest, MakesAMessage) {
  for (const size_t size : {1, 127, 128, 1 << 20}) {
    const std::string text(size, 'x');
    auto bytes = EncodeData(size, [&](char* data) {
      text.copy(data, size);
      return absl::OkStatus();
    });
    ASSERT_OK(bytes);
    pb::ReadArtifactResponse message;
    ASSERT_TRUE(
        grpc::SerializationTraits<pb::ReadArtifactResponse>::Deserialize(
            &*bytes, &message)
            .ok());
    EXPECT_EQ(message.data(), text);
    EXPECT_FALSE(message.has_artifact());
  }
}

}  // namespace
}  // namespace mlops::rpc
