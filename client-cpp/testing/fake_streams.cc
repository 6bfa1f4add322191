#include "client-cpp/testing/fake_streams.h"

#include <algorithm>
#include <utility>

#include "absl/strings/string_view.h"
#include "proto/cpp/base/status_macros.h"

namespace mlops::testing {
namespace {

namespace v1 = workspace::v1;

constexpr size_t kChunkBytes = 1 << 20;

}  // namespace

FakeReadStream::FakeReadStream(const v1::ReadArtifactRequest& request,
                               absl::StatusOr<FakeArtifacts::File> file)
    : file_(std::move(file)),
      offset_(static_cast<size_t>(request.offset())),
      limit_(request.limit()) {}

absl::StatusOr<bool> FakeReadStream::Read(v1::ReadArtifactResponse* head,
                                          wire::Data* data) {
  RETURN_IF_ERROR(file_.status());
  *data = {};
  if (!std::exchange(described_, true)) {
    *head->mutable_artifact() = file_->artifact;
    const size_t size = file_->content->size();
    end_ = limit_ > 0
               ? offset_ + std::min(static_cast<size_t>(limit_), size - offset_)
               : size;
    return true;
  }
  if (offset_ == end_) return false;
  const size_t size = std::min(end_ - offset_, kChunkBytes);
  // `file_` keeps this memory alive as long as the stream.
  data->pieces = {absl::string_view(*file_->content).substr(offset_, size)};
  offset_ += size;
  return true;
}

FakeWriteStream::FakeWriteStream(FakeArtifacts* artifacts, TargetOf target_of,
                                 TargetOf still)
    : artifacts_(artifacts),
      target_of_(std::move(target_of)),
      still_(std::move(still)) {}

FakeWriteStream::~FakeWriteStream() {
  if (begun_ && status_.ok() && !ended_)
    artifacts_->Keep(target_.uid, first_, content_);
}

bool FakeWriteStream::Write(const First& head, const grpc::Slice& data) {
  if (!std::exchange(begun_, true)) status_ = Begin(head);
  if (!status_.ok()) return false;
  unread_ = true;
  if (head.discard()) return Discard();
  content_.append(reinterpret_cast<const char*>(data.begin()), data.size());
  // Like the server, refuse a file that is too large before all of it has
  // arrived.
  status_ = head.finish()
                ? Finish(head.sha256())
                : artifacts_->CheckRoom(target_.uid, first_.project(),
                                        target_.quota, first_.path(),
                                        static_cast<int64_t>(content_.size()));
  return status_.ok();
}

absl::StatusOr<bool> FakeWriteStream::Read(
    v1::WriteArtifactResponse* response) {
  RETURN_IF_ERROR(status_);
  response->set_offset(static_cast<int64_t>(content_.size()));
  if (artifact_) *response->mutable_artifact() = *artifact_;
  return std::exchange(unread_, false);
}

absl::Status FakeWriteStream::Begin(const First& first) {
  first_ = first;
  ASSIGN_OR_RETURN(target_, target_of_(first));
  if (first.discard()) return absl::OkStatus();
  ASSIGN_OR_RETURN(content_, artifacts_->OpenForWrite(target_.uid, first));
  return absl::OkStatus();
}

absl::Status FakeWriteStream::Finish(const std::string& sha256) {
  // The workspace or its lease may have changed since the first message.
  ASSIGN_OR_RETURN(const Target target, still_(first_));
  ASSIGN_OR_RETURN(artifact_, artifacts_->Finish(target_.uid, target.quota,
                                                 first_, content_, sha256));
  ended_ = true;
  return absl::OkStatus();
}

bool FakeWriteStream::Discard() {
  ended_ = true;
  content_.clear();
  artifact_ = artifacts_->Discard(target_.uid, first_.upload_id());
  return true;
}

}  // namespace mlops::testing
