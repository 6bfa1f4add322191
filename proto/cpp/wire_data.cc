#include "proto/cpp/wire_data.h"

#include <algorithm>
#include <string>

#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "google/protobuf/wire_format_lite.h"
#include "grpc/slice.h"
#include "grpcpp/support/proto_buffer_reader.h"
#include "proto/cpp/base/status_macros.h"

namespace mlops::wire {

using google::protobuf::io::CodedInputStream;
using google::protobuf::io::CodedOutputStream;
using WireFormat = google::protobuf::internal::WireFormatLite;

namespace {

// Appends views of a field's bytes, without copying them.
bool TakePieces(CodedInputStream& in, std::vector<absl::string_view>* pieces) {
  uint32_t left;
  if (!in.ReadVarint32(&left)) return false;
  while (left > 0) {
    const void* data;
    int size;
    if (!in.GetDirectBufferPointer(&data, &size)) return false;
    const uint32_t taken = std::min(left, static_cast<uint32_t>(size));
    pieces->emplace_back(static_cast<const char*>(data), taken);
    if (!in.Skip(static_cast<int>(taken))) return false;
    left -= taken;
  }
  return true;
}

uint32_t DataTag(int data_field) {
  return WireFormat::MakeTag(data_field, WireFormat::WIRETYPE_LENGTH_DELIMITED);
}

}  // namespace

bool Decode(const grpc::ByteBuffer& bytes, int data_field,
            google::protobuf::MessageLite* head, Data* data) {
  data->pieces.clear();
  // The copy shares the memory of `bytes`.
  data->message = std::make_unique<grpc::ByteBuffer>(bytes);
  grpc::ProtoBufferReader reader(data->message.get());
  if (!reader.status().ok()) return false;
  CodedInputStream in(&reader);
  // Copy all other fields to `rest`, which protobuf then parses as usual.
  std::string rest;
  {
    google::protobuf::io::StringOutputStream rest_stream(&rest);
    CodedOutputStream out(&rest_stream);
    while (const uint32_t tag = in.ReadTag()) {
      const bool is_data = tag == DataTag(data_field);
      // As in protobuf, the last occurrence of a field counts.
      if (is_data) data->pieces.clear();
      if (!(is_data ? TakePieces(in, &data->pieces)
                    : WireFormat::SkipField(&in, tag, &out)))
        return false;
    }
  }
  return in.ConsumedEntireMessage() && head->ParseFromString(rest);
}

grpc::ByteBuffer Encode(const google::protobuf::MessageLite& head,
                        int data_field, const grpc::Slice& data) {
  std::string begin = head.SerializeAsString();
  if (data.size() > 0) {
    // The stream appends to `begin`.
    google::protobuf::io::StringOutputStream stream(&begin);
    CodedOutputStream out(&stream);
    out.WriteTag(DataTag(data_field));
    out.WriteVarint32(static_cast<uint32_t>(data.size()));
  }
  const grpc::Slice slices[] = {grpc::Slice(begin), data};
  return grpc::ByteBuffer(slices, data.size() > 0 ? 2 : 1);
}

grpc::Slice Part(const grpc::Slice& slice, size_t begin, size_t end) {
  return grpc::Slice(grpc_slice_sub_no_ref(slice.c_slice(), begin, end),
                     grpc::Slice::STEAL_REF);
}

absl::StatusOr<grpc::Slice> MakeSlice(
    size_t size, absl::FunctionRef<absl::Status(char* data)> fill) {
  grpc::Slice slice(size);
  // Writing is safe, because nobody else has the slice yet.
  RETURN_IF_ERROR(
      fill(reinterpret_cast<char*>(const_cast<uint8_t*>(slice.begin()))));
  return slice;
}

}  // namespace mlops::wire
