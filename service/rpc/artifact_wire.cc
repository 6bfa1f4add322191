#include "service/rpc/artifact_wire.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "google/protobuf/wire_format_lite.h"
#include "service/base/status_macros.h"
#include "service/core/errors.h"
#include "service/rpc/convert.h"

namespace mlops::rpc {

using core::FieldInvalid;
using core::ProjectName;
using core::RelativePath;
using google::protobuf::io::CodedInputStream;
using google::protobuf::io::CodedOutputStream;
using WireFormat = google::protobuf::internal::WireFormatLite;

namespace {

constexpr size_t kMaxUploadIdBytes = 64;

template <typename Request>
absl::StatusOr<core::TransferArgs> TransferFromProto(const Request& request) {
  ASSIGN_OR_RETURN(ProjectName project, ProjectName::Parse(request.project()));
  RETURN_IF_ERROR(CheckNoFence(request.fence()));
  ASSIGN_OR_RETURN(RelativePath path, RelativePath::Parse(request.path(), RelativePath::Use::kFind));
  ASSIGN_OR_RETURN(RelativePath destination,
                   RelativePath::Parse(request.destination_path(), RelativePath::Use::kMake, "destination_path"));
  return core::TransferArgs{.project = std::move(project),
                            .path = std::move(path),
                            .destination = std::move(destination),
                            .create_only = request.create_only(),
                            .etag = request.etag()};
}

// Lets protobuf read slices where they lie.
class SliceStream final : public google::protobuf::io::ZeroCopyInputStream {
 public:
  explicit SliceStream(const std::vector<grpc::Slice>& slices) : slices_(slices) {}

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
  size_t used_ = 0;  // Of the next slice.
  int64_t read_ = 0;
};

// Takes the bytes of a field where they lie.
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

// Copies a field that is not data.
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
      if (!in.ReadVarint32(&number32) || !in.ReadString(&text, static_cast<int>(number32))) return false;
      out.WriteVarint32(number32);
      out.WriteString(text);
      return true;
    default:
      return false;
  }
}

bool DecodeWrite(const std::vector<grpc::Slice>& slices, std::vector<absl::string_view>* data,
                 pb::WriteArtifactRequest* head) {
  constexpr uint32_t kDataTag =
      WireFormat::MakeTag(pb::WriteArtifactRequest::kDataFieldNumber, WireFormat::WIRETYPE_LENGTH_DELIMITED);
  SliceStream stream(slices);
  CodedInputStream in(&stream);
  std::string rest;
  {
    google::protobuf::io::StringOutputStream rest_stream(&rest);
    CodedOutputStream out(&rest_stream);
    while (const uint32_t tag = in.ReadTag()) {
      if (tag == kDataTag) data->clear();  // As everywhere, the last of several counts.
      if (!(tag == kDataTag ? TakePieces(in, data) : CopyField(in, tag, out))) return false;
    }
  }
  return in.ConsumedEntireMessage() && head->ParseFromString(rest);
}

}  // namespace

absl::StatusOr<core::ListArtifactsArgs> FromProto(const pb::ListArtifactsRequest& request) {
  ASSIGN_OR_RETURN(ProjectName project, ProjectName::Parse(request.project()));
  if (request.page_size() < 0) return FieldInvalid("page_size", "must not be negative");
  core::ListArtifactsArgs args{.project = std::move(project),
                               .recursive = request.recursive(),
                               .page_size = request.page_size(),
                               .page_token = request.page_token()};
  if (request.path().empty()) return args;
  ASSIGN_OR_RETURN(args.path, RelativePath::Parse(request.path(), RelativePath::Use::kFind));
  return args;
}

absl::StatusOr<core::ReadArgs> FromProto(const pb::ReadArtifactRequest& request) {
  ASSIGN_OR_RETURN(ProjectName project, ProjectName::Parse(request.project()));
  ASSIGN_OR_RETURN(RelativePath path, RelativePath::Parse(request.path(), RelativePath::Use::kFind));
  if (request.offset() < 0) return FieldInvalid("offset", "must not be negative");
  if (request.limit() < 0) return FieldInvalid("limit", "must not be negative");
  return core::ReadArgs{.project = std::move(project),
                        .path = std::move(path),
                        .offset = request.offset(),
                        .limit = request.limit(),
                        .etag = request.etag()};
}

absl::StatusOr<core::DeleteArtifactArgs> FromProto(const pb::DeleteArtifactRequest& request) {
  ASSIGN_OR_RETURN(ProjectName project, ProjectName::Parse(request.project()));
  RETURN_IF_ERROR(CheckNoFence(request.fence()));
  ASSIGN_OR_RETURN(RelativePath path, RelativePath::Parse(request.path(), RelativePath::Use::kFind));
  return core::DeleteArtifactArgs{.project = std::move(project),
                                  .path = std::move(path),
                                  .force = request.force(),
                                  .etag = request.etag(),
                                  .allow_missing = request.allow_missing()};
}

absl::StatusOr<core::TransferArgs> FromProto(const pb::MoveArtifactRequest& request) {
  return TransferFromProto(request);
}

absl::StatusOr<core::TransferArgs> FromProto(const pb::CopyArtifactRequest& request) {
  return TransferFromProto(request);
}

absl::StatusOr<core::WriteArgs> FromProto(const pb::WriteArtifactRequest& first) {
  ASSIGN_OR_RETURN(ProjectName project, ProjectName::Parse(first.project()));
  ASSIGN_OR_RETURN(RelativePath path, RelativePath::Parse(first.path(), RelativePath::Use::kMake));
  if (first.offset() < 0) return FieldInvalid("offset", "must not be negative");
  core::WriteArgs args{.project = std::move(project),
                       .path = std::move(path),
                       .offset = first.offset(),
                       .precondition = {.create_only = first.create_only(), .etag = first.etag()}};
  if (first.upload_id().empty()) return args;
  ASSIGN_OR_RETURN(args.upload_id, ParseUploadId(first.upload_id()));
  return args;
}

absl::StatusOr<std::string> ParseUploadId(absl::string_view text) {
  const auto allowed = [](char c) { return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-'; };
  if (text.empty()) return FieldInvalid("upload_id", "is required");
  if (text.size() > kMaxUploadIdBytes || !std::all_of(text.begin(), text.end(), allowed)) {
    return FieldInvalid("upload_id", "must be 1 to 64 letters, digits, '.', '_' and '-'");
  }
  return std::string(text);
}

void ToProto(const core::Artifact& artifact, pb::Artifact* message) {
  message->set_path(artifact.path);
  message->set_directory(artifact.directory);
  message->set_size_bytes(artifact.size_bytes);
  message->set_sha256(artifact.sha256);
  message->set_etag(artifact.etag);
  ToProto(artifact.modify_time, message->mutable_modify_time());
}

absl::StatusOr<WriteMessage> DecodeWrite(const grpc::ByteBuffer& bytes) {
  WriteMessage message;
  if (!bytes.Dump(&message.slices).ok() || !DecodeWrite(message.slices, &message.data, &message.head)) {
    return FieldInvalid("request", "is no WriteArtifactRequest");
  }
  return message;
}

absl::StatusOr<grpc::ByteBuffer> EncodeData(size_t size, absl::FunctionRef<absl::Status(char* data)> fill) {
  constexpr uint32_t kTag =
      WireFormat::MakeTag(pb::ReadArtifactResponse::kDataFieldNumber, WireFormat::WIRETYPE_LENGTH_DELIMITED);
  const auto length = static_cast<uint32_t>(size);
  const size_t head_size = CodedOutputStream::VarintSize32(kTag) + CodedOutputStream::VarintSize32(length);
  grpc::Slice slice(head_size + size);
  // Nobody else has it yet.
  auto* begin = const_cast<uint8_t*>(slice.begin());
  uint8_t* data = CodedOutputStream::WriteVarint32ToArray(kTag, begin);
  data = CodedOutputStream::WriteVarint32ToArray(length, data);
  RETURN_IF_ERROR(fill(reinterpret_cast<char*>(data)));
  return grpc::ByteBuffer(&slice, 1);
}

grpc::ByteBuffer Encode(const google::protobuf::MessageLite& message) {
  const grpc::Slice slice(message.SerializeAsString());
  return grpc::ByteBuffer(&slice, 1);
}

}  // namespace mlops::rpc
