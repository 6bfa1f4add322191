#include "proto/cpp/wire_data.h"

#include <algorithm>
#include <string>
#include <utility>

#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "google/protobuf/wire_format_lite.h"
#include "grpc/slice.h"
#include "proto/cpp/base/status_macros.h"

namespace mlops::wire {

using google::protobuf::io::CodedInputStream;
using google::protobuf::io::CodedOutputStream;
using WireFormat = google::protobuf::internal::WireFormatLite;

namespace {

// Lets protobuf read from slices without copying them.
class SliceStream final : public google::protobuf::io::ZeroCopyInputStream {
 public:
  explicit SliceStream(const std::vector<grpc::Slice>& slices)
      : slices_(slices) {}

  bool Next(const void** data, int* size) override {
    if (next_ == slices_.size()) return false;
    *data = slices_[next_].begin() + used_;
    *size = static_cast<int>(slices_[next_].size() - used_);
    read_ += *size;
    ++next_;
    used_ = 0;
    return true;
  }
  void BackUp(int count) override {
    --next_;
    used_ = slices_[next_].size() - static_cast<size_t>(count);
    read_ -= count;
  }
  bool Skip(int count) override {
    const void* data;
    int size;
    while (count > 0 && Next(&data, &size)) {
      if (size > count) BackUp(size - count);
      count -= std::min(size, count);
    }
    return count == 0;
  }
  int64_t ByteCount() const override { return read_; }

 private:
  const std::vector<grpc::Slice>& slices_;
  size_t next_ = 0;
  // In the next slice.
  size_t used_ = 0;
  int64_t read_ = 0;
};

// Appends views of the bytes of a field, without copying them.
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

// Copies a field other than the data.
bool CopyField(CodedInputStream& in, uint32_t tag, CodedOutputStream& out) {
  out.WriteTag(tag);
  uint32_t number32;
  uint64_t number64;
  std::string text;
  switch (WireFormat::GetTagWireType(tag)) {
    case WireFormat::WIRETYPE_VARINT:
      if (!in.ReadVarint64(&number64)) return false;
      out.WriteVarint64(number64);
      return true;
    case WireFormat::WIRETYPE_FIXED64:
      if (!in.ReadLittleEndian64(&number64)) return false;
      out.WriteLittleEndian64(number64);
      return true;
    case WireFormat::WIRETYPE_FIXED32:
      if (!in.ReadLittleEndian32(&number32)) return false;
      out.WriteLittleEndian32(number32);
      return true;
    case WireFormat::WIRETYPE_LENGTH_DELIMITED:
      if (!in.ReadVarint32(&number32) ||
          !in.ReadString(&text, static_cast<int>(number32)))
        return false;
      out.WriteVarint32(number32);
      out.WriteString(text);
      return true;
    default:
      return false;
  }
}

uint32_t DataTag(int data_field) {
  return WireFormat::MakeTag(data_field, WireFormat::WIRETYPE_LENGTH_DELIMITED);
}

}  // namespace

bool Decode(const grpc::ByteBuffer& bytes, int data_field,
            google::protobuf::MessageLite* head, Data* data) {
  data->slices.clear();
  data->pieces.clear();
  if (!bytes.Dump(&data->slices).ok()) return false;
  SliceStream stream(data->slices);
  CodedInputStream in(&stream);
  std::string rest;
  {
    google::protobuf::io::StringOutputStream rest_stream(&rest);
    CodedOutputStream out(&rest_stream);
    while (const uint32_t tag = in.ReadTag()) {
      const bool is_data = tag == DataTag(data_field);
      // As in protobuf, the last occurrence of the field counts.
      if (is_data) data->pieces.clear();
      if (!(is_data ? TakePieces(in, &data->pieces) : CopyField(in, tag, out)))
        return false;
    }
  }
  return in.ConsumedEntireMessage() && head->ParseFromString(rest);
}

grpc::ByteBuffer Encode(const google::protobuf::MessageLite& head,
                        int data_field, const grpc::Slice& data) {
  std::string begin = head.SerializeAsString();
  if (data.size() > 0) {
    // Appends to `begin`.
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
  // Writing is safe, because no one else has the slice yet.
  RETURN_IF_ERROR(
      fill(reinterpret_cast<char*>(const_cast<uint8_t*>(slice.begin()))));
  return slice;
}

}  // namespace mlops::wire
