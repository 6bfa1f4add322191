#ifndef MLOPS_PROTO_CPP_WIRE_DATA_H_
#define MLOPS_PROTO_CPP_WIRE_DATA_H_

#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/message_lite.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/slice.h"

// Messages of which one field of bytes is the payload, encoded and taken apart
// without a copy of it, for both ends. Thread-safe.
namespace mlops::wire {

// Pieces of memory, and what keeps them alive.
struct Data {
  std::vector<grpc::Slice> slices;
  std::vector<absl::string_view> pieces;
};

// Takes `bytes` apart: what field `data_field` has goes into `data`, all else
// into `head`. False if the bytes are no such message.
bool Decode(const grpc::ByteBuffer& bytes, int data_field,
            google::protobuf::MessageLite* head, Data* data);

// The message `head`, whose field `data_field` is empty, with `data` there. A
// receiver may keep `data` alive.
grpc::ByteBuffer Encode(const google::protobuf::MessageLite& head,
                        int data_field, const grpc::Slice& data);

// The bytes from `begin` to before `end` of `slice`, which stays alive with
// them.
grpc::Slice Part(const grpc::Slice& slice, size_t begin, size_t end);

// `size` bytes that `fill` sets, or its error.
absl::StatusOr<grpc::Slice> MakeSlice(
    size_t size, absl::FunctionRef<absl::Status(char* data)> fill);

}  // namespace mlops::wire

#endif  // MLOPS_PROTO_CPP_WIRE_DATA_H_
