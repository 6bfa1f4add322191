#include "service/rpc/watch_hub.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "service/core/errors.h"
#include "service/rpc/convert.h"

namespace mlops::rpc {
namespace {

// Changes that the hub's thread encodes before it wakes the watchers. After
// more at once, such as a base that was filled by hand, workers help.
constexpr int kMaxEncodedAhead = 256;
// How often watchers are asked whether SYNCED is due.
constexpr absl::Duration kMaxTick = absl::Seconds(1);
constexpr absl::Duration kRetryDelay = absl::Seconds(1);

pb::Change ToProto(core::ChangeKind kind) {
  switch (kind) {
    case core::ChangeKind::kCreated:
      return pb::CHANGE_CREATED;
    case core::ChangeKind::kUpdated:
      return pb::CHANGE_UPDATED;
    case core::ChangeKind::kDeleted:
      return pb::CHANGE_DELETED;
  }
  return pb::CHANGE_UNSPECIFIED;
}

bool Everything(absl::string_view) { return true; }

}  // namespace

WatchHub::WatchHub(core::Catalog* catalog, core::ChangeLog* log,
                   Options options)
    : catalog_(catalog),
      log_(log),
      options_(std::move(options)),
      thread_([this] { Run(); }) {}

WatchHub::~WatchHub() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  log_->Interrupt();
  thread_.join();
}

absl::Status WatchHub::Add(Watcher* watcher) {
  absl::MutexLock lock(&mutex_);
  if (ended_) return core::ShuttingDown();
  if (watcher_count_ >= options_.max_watchers) {
    return core::Overloaded(
        absl::StrCat("watchers; at most ", options_.max_watchers,
                     " may be connected (--max-watchers)"),
        kRetryDelay);
  }
  ++watcher_count_;
  watchers_.Add(watcher);
  return absl::OkStatus();
}

void WatchHub::Remove(Watcher* watcher) {
  watchers_.Remove(watcher);
  absl::MutexLock lock(&mutex_);
  --watcher_count_;
}

void WatchHub::EndAll() {
  {
    absl::MutexLock lock(&mutex_);
    ended_ = true;
  }
  watchers_.ForEach([](Watcher& watcher) { watcher.End(); });
}

bool WatchHub::WaitForWatchers() {
  const auto is_needed = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return stopping_ || watcher_count_ > 0;
  };
  absl::MutexLock lock(&mutex_, absl::Condition(&is_needed));
  return !stopping_;
}

void WatchHub::Run() {
  const absl::Duration tick = std::min(kMaxTick, options_.synced_interval / 4);
  // Without watchers, changes wake nobody.
  while (WaitForWatchers()) {
    int64_t seen = log_->last();
    // The first round has the changes since the first watcher was added.
    while (watchers_.size() > 0) {
      watchers_.ForEach([](Watcher& watcher) { watcher.Wake(); });
      log_->WaitBeyond(seen, tick);
      {
        absl::MutexLock lock(&mutex_);
        if (stopping_) return;
      }
      seen = EncodeNew(seen);
    }
  }
}

int64_t WatchHub::EncodeNew(int64_t seen) {
  const int64_t last = log_->last();
  for (int i = 0; i < kMaxEncodedAhead && seen < last; ++i) {
    const auto found = log_->Next(seen, Everything, 1);
    if (!found.ok() || found->change == nullptr) break;
    seen = found->change->sequence;
    Encode(*found->change, "");
  }
  return last;
}

std::string WatchHub::TokenAt(int64_t sequence, const std::string& view,
                              std::optional<std::string> listed_through) const {
  core::ResumePoint point = log_->PointAt(sequence);
  point.view = view;
  point.listed_through = std::move(listed_through);
  return core::EncodeResumeToken(point);
}

std::string WatchHub::EncodeState(pb::Change kind,
                                  const core::Workspace& workspace,
                                  const std::string& token) const {
  // Without a uid, nothing but the project is known.
  const bool exists = kind != pb::CHANGE_DELETED && !workspace.uid.empty();
  std::optional<core::Lease> lease;
  if (exists && options_.lease_of != nullptr)
    lease = options_.lease_of(workspace);
  const bool over_quota = exists && options_.is_over_quota != nullptr &&
                          options_.is_over_quota(workspace);
  return EncodeWatched(kind, workspace, lease, over_quota, token);
}

std::optional<grpc::ByteBuffer> WatchHub::FindEncoded(
    const core::LoggedChange& change, const std::string& view) {
  absl::ReaderMutexLock lock(&mutex_);
  const auto it = encoded_.find(Key(change.sequence, view));
  if (it == encoded_.end()) return std::nullopt;
  return grpc::ByteBuffer(&it->second, 1);
}

grpc::ByteBuffer WatchHub::Encode(const core::LoggedChange& change,
                                  const std::string& view) {
  if (auto found = FindEncoded(change, view)) return *std::move(found);
  const grpc::Slice slice(EncodeState(ToProto(change.kind), *change.workspace,
                                      TokenAt(change.sequence, view)));
  absl::MutexLock lock(&mutex_);
  const auto [it, added] =
      encoded_.try_emplace(Key(change.sequence, view), slice);
  if (!added) return grpc::ByteBuffer(&it->second, 1);
  encoded_bytes_ += slice.size();
  encoded_order_.push_back(it->first);
  // Watchers that keep up need the newest only.
  while (encoded_bytes_ > options_.max_encoded_bytes) {
    const auto oldest = encoded_.find(encoded_order_.front());
    encoded_bytes_ -= oldest->second.size();
    encoded_.erase(oldest);
    encoded_order_.pop_front();
  }
  return grpc::ByteBuffer(&slice, 1);
}

grpc::ByteBuffer WatchHub::EncodeListed(const core::Workspace& workspace,
                                        const std::string& token) const {
  return ToByteBuffer(EncodeState(pb::CHANGE_CREATED, workspace, token));
}

grpc::ByteBuffer WatchHub::EncodeSynced(const std::string& token) const {
  pb::WatchWorkspacesResponse message;
  message.set_change(pb::CHANGE_SYNCED);
  message.set_resume_token(token);
  return rpc::Encode(message);
}

size_t WatchHub::encoded_bytes() const {
  absl::ReaderMutexLock lock(&mutex_);
  return encoded_bytes_;
}

}  // namespace mlops::rpc
