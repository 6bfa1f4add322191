#include "proto/cpp/wire_data.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "mlops/workspace/v1/workspace_service.pb.h"

namespace mlops::wire {
namespace {

using workspace::v1::WriteArtifactRequest;

constexpr int kData = WriteArtifactRequest::kDataFieldNumber;

grpc::ByteBuffer InSlicesOf(const std::string& bytes, size_t size) {
  std::vector<grpc::Slice> slices;
  for (size_t i = 0; i < bytes.size(); i += size)
    slices.emplace_back(bytes.substr(i, size));
  return grpc::ByteBuffer(slices.data(), slices.size());
}

std::string BytesOf(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  EXPECT_TRUE(buffer.Dump(&slices).ok());
  std::string bytes;
  for (const grpc::Slice& slice : slices)
    bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return bytes;
}

std::string Joined(const Data& data) {
  std::string joined;
  for (const absl::string_view piece : data.pieces)
    joined.append(piece.data(), piece.size());
  return joined;
}

WriteArtifactRequest Message(const std::string& data) {
  WriteArtifactRequest message;
  message.set_project("fraud");
  message.set_path("outputs/x");
  message.set_data(data);
  message.set_finish(true);
  message.set_offset(1'000'000'000'000);
  return message;
}

TEST(WireData, WhatIsEncodedIsTheMessage) {
  for (const size_t size : {0, 1, 100, 100'000}) {
    WriteArtifactRequest head = Message("");
    head.clear_data();
    WriteArtifactRequest parsed;
    ASSERT_TRUE(parsed.ParseFromString(
        BytesOf(Encode(head, kData, grpc::Slice(std::string(size, 'x'))))));
    EXPECT_EQ(parsed.SerializeAsString(),
              Message(std::string(size, 'x')).SerializeAsString());
  }
}

TEST(WireData, AMessageIsTakenApartHoweverItIsCut) {
  std::string data;
  for (int i = 0; i < 3000; ++i) data += static_cast<char>(i * 7);
  const std::string bytes = Message(data).SerializeAsString();
  for (const size_t size :
       {size_t{1}, size_t{2}, size_t{7}, size_t{1000}, bytes.size()}) {
    WriteArtifactRequest head;
    Data parts;
    ASSERT_TRUE(Decode(InSlicesOf(bytes, size), kData, &head, &parts)) << size;
    EXPECT_EQ(Joined(parts), data) << size;
    EXPECT_TRUE(head.data().empty());
    head.set_data(data);
    EXPECT_EQ(head.SerializeAsString(), bytes);
  }
}

TEST(WireData, TheLastOfSeveralCounts) {
  const std::string bytes = Message("first").SerializeAsString() +
                            Message("second").SerializeAsString();
  WriteArtifactRequest head;
  Data parts;
  ASSERT_TRUE(Decode(InSlicesOf(bytes, 3), kData, &head, &parts));
  EXPECT_EQ(Joined(parts), "second");
}

TEST(WireData, WhatIsNoMessageIsRefused) {
  const std::string bytes = Message(std::string(50, 'x')).SerializeAsString();
  for (const std::string& wrong :
       {bytes.substr(0, bytes.size() - 1), bytes.substr(0, 40),
        std::string("\xff\xff\xff"),
        std::string("\x1a\xff\xff\xff\xff\x0f", 6)}) {
    WriteArtifactRequest head;
    Data parts;
    EXPECT_FALSE(Decode(InSlicesOf(wrong, 5), kData, &head, &parts))
        << wrong.size();
  }
}

TEST(WireData, APartStaysAliveAlone) {
  grpc::Slice part;
  {
    const auto whole = MakeSlice(100'000, [](char* data) {
      std::fill(data, data + 100'000, 'y');
      data[500] = 'z';
      return absl::OkStatus();
    });
    ASSERT_TRUE(whole.ok());
    part = Part(*whole, 500, 99'000);
  }
  EXPECT_EQ(part.size(), 98'500u);
  EXPECT_EQ(*part.begin(), 'z');
  EXPECT_EQ(MakeSlice(5, [](char*) { return absl::InternalError(""); })
                .status()
                .code(),
            absl::StatusCode::kInternal);
}

}  // namespace
}  // namespace mlops::wire
