#ifndef MLOPS_PROTO_CPP_WIRE_DATA_H_
#define MLOPS_PROTO_CPP_WIRE_DATA_H_

#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/message_lite.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/slice.h"

// Encodes and decodes messages with one large bytes field, without copying that
// field. Used by both client and server. Thread-safe.
namespace mlops::wire {

// Views of a message's memory, and the message, which keeps the memory alive.
// The message is on the heap because a ByteBuffer stores short slices inside
// itself, and views of those would not survive a move.
struct Data {
  std::unique_ptr<grpc::ByteBuffer> message;
  std::vector<absl::string_view> pieces;
};

// Decodes `bytes`: field `data_field` into `data`, and all other fields into
// `head`. Returns false if `bytes` are not such a message.
bool Decode(const grpc::ByteBuffer& bytes, int data_field,
            google::protobuf::MessageLite* head, Data* data);

// Encodes `head`, whose field `data_field` must be empty, with `data` as that
// field. The result shares the memory of `data`.
grpc::ByteBuffer Encode(const google::protobuf::MessageLite& head,
                        int data_field, const grpc::Slice& data);

// Returns the bytes of `slice` from `begin` up to, but not including, `end`.
// The result keeps the memory of `slice` alive.
grpc::Slice Part(const grpc::Slice& slice, size_t begin, size_t end);

// Returns a slice of `size` bytes that `fill` writes, or the error of `fill`.
absl::StatusOr<grpc::Slice> MakeSlice(
    size_t size, absl::FunctionRef<absl::Status(char* data)> fill);

}  // namespace mlops::wire

#endif  // MLOPS_PROTO_CPP_WIRE_DATA_H_
