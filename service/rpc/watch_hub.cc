#include "service/rpc/watch_hub.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "google/protobuf/wire_format_lite.h"
#include "service/core/errors.h"
#include "service/rpc/convert.h"

namespace mlops::rpc {
namespace {

// Number of projects whose changes the hub's thread encodes before it wakes the
// watchers. Workers encode the rest of a larger burst, for example after a base
// was filled by hand.
constexpr size_t kMaxEncodedAhead = 256;
// How often watchers check whether SYNCED is due.
constexpr absl::Duration kMaxTick = absl::Seconds(1);
constexpr absl::Duration kRetryDelay = absl::Seconds(1);
// During a series of changes, the hub pauses for this many times as long as
// waking the watchers took. Waking then takes at most a twentieth of one
// processor, and each watcher gets several changes at once.
constexpr int kPauseFactor = 20;
constexpr SteadyClock::duration kMinPause = std::chrono::milliseconds(5);
constexpr SteadyClock::duration kMaxPause = std::chrono::milliseconds(250);
// The first change after a pause waits for this fraction of the time that
// waking takes, so that its caller gets the response before many watchers wake.
constexpr int kGatherDivisor = 4;
constexpr SteadyClock::duration kMaxGather = std::chrono::milliseconds(5);

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

// Returns the bytes that precede an encoded response of `size` bytes in a
// batch.
std::string BatchPrefix(size_t size) {
  using google::protobuf::internal::WireFormatLite;
  std::string prefix;
  google::protobuf::io::StringOutputStream stream(&prefix);
  google::protobuf::io::CodedOutputStream coded(&stream);
  WireFormatLite::WriteTag(pb::WatchWorkspacesResponse::kBatchFieldNumber,
                           WireFormatLite::WIRETYPE_LENGTH_DELIMITED, &coded);
  coded.WriteVarint64(size);
  // Trim, so that the string does not keep the stream's unused buffer.
  coded.Trim();
  return prefix;
}

}  // namespace

WatchHub::Message::Message(const std::string& encoded) {
  // Store the batch prefix with the response, so that both forms share one
  // buffer.
  const std::string prefix = BatchPrefix(encoded.size());
  prefix_bytes_ = prefix.size();
  field_ = grpc::Slice(absl::StrCat(prefix, encoded));
}

WatchHub::WatchHub(core::Catalog* catalog, core::ChangeLog* log,
                   Options options)
    : catalog_(catalog),
      log_(log),
      options_(std::move(options)),
      released_(log->last()),
      thread_([this] { Run(); }) {}

WatchHub::~WatchHub() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  // The thread may be waiting in the log rather than for `mutex_`.
  log_->Interrupt();
  thread_.join();
}

absl::Status WatchHub::Add(Watcher* watcher, const Projects& projects) {
  absl::MutexLock lock(&mutex_);
  if (ended_) return core::ShuttingDown();
  if (watcher_count_ >= options_.max_watchers) {
    return core::Overloaded(
        absl::StrCat("watchers; at most ", options_.max_watchers,
                     " may be connected (--max-watchers)"),
        kRetryDelay);
  }
  ++watcher_count_;
  // Add under the lock, so that EndAll() either refuses the watcher or finds
  // it.
  watchers_.Add(watcher);
  if (projects.empty()) of_everything_.insert(watcher);
  for (const core::ProjectName& project : projects)
    of_project_[project.str()].insert(watcher);
  return absl::OkStatus();
}

void WatchHub::Remove(Watcher* watcher, const Projects& projects) {
  // LiveSet::Remove() may wait for a visit, so it must not hold the lock.
  watchers_.Remove(watcher);
  absl::MutexLock lock(&mutex_);
  --watcher_count_;
  of_everything_.erase(watcher);
  for (const core::ProjectName& project : projects) {
    const auto it = of_project_.find(project.str());
    it->second.erase(watcher);
    if (it->second.empty()) of_project_.erase(it);
  }
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
  // Sleep while there are no watchers, because changes then wake nobody.
  while (WaitForWatchers()) {
    // The first round covers the changes since the first watcher was added.
    Round round{.last = log_->last(), .everybody = true};
    int64_t known_to_all = 0;
    SteadyClock::time_point all_woken;
    while (watchers_.size() > 0) {
      const SteadyClock::time_point begin = SteadyClock::now();
      // Wake also those whose projects have not changed, before the log forgets
      // the changes that they must pass over, and for SYNCED.
      if (absl::FromChrono(begin - all_woken) >= tick ||
          log_->IsOld(known_to_all)) {
        round.everybody = true;
      }
      if (round.everybody) {
        known_to_all = round.last;
        all_woken = begin;
      }
      // A change that comes after this ends the wait below.
      released_ = round.last;
      Wake(round);
      const SteadyClock::time_point end = SteadyClock::now();
      const SteadyClock::duration taken = end - begin;
      log_->WaitBeyond(round.last, tick);
      // Pause longer the longer the round took, so that waking many watchers
      // does not starve the changes.
      const SteadyClock::duration pause =
          std::clamp(kPauseFactor * taken, kMinPause, kMaxPause);
      const SteadyClock::duration gather =
          std::min(kMaxGather, taken / kGatherDivisor);
      if (!WaitUntil(std::max(end + pause, SteadyClock::now() + gather)))
        return;
      // Encode the changes before the watchers wake, or each would need a task
      // on the worker pool.
      round = EncodeNew(round.last);
    }
  }
}

void WatchHub::Wake(const Round& round) {
  const auto wake = [](Watcher& watcher) { watcher.Wake(); };
  if (round.everybody) return watchers_.ForEach(wake);
  watchers_.ForEachOf(WatchersOf(round.projects), wake);
}

bool WatchHub::IsWatched(const core::ProjectName& project) const {
  absl::ReaderMutexLock lock(&mutex_);
  return !of_everything_.empty() || of_project_.contains(project.str());
}

std::vector<WatchHub::Watcher*> WatchHub::WatchersOf(
    const absl::flat_hash_set<std::string>& projects) const {
  absl::ReaderMutexLock lock(&mutex_);
  // A watcher of several changed projects wakes once.
  Group found;
  for (const std::string& project : projects) {
    if (const auto it = of_project_.find(project); it != of_project_.end())
      found.insert(it->second.begin(), it->second.end());
  }
  std::vector<Watcher*> watchers(found.begin(), found.end());
  watchers.insert(watchers.end(), of_everything_.begin(), of_everything_.end());
  return watchers;
}

bool WatchHub::WaitUntil(SteadyClock::time_point time) {
  absl::MutexLock lock(&mutex_);
  mutex_.AwaitWithTimeout(absl::Condition(&stopping_),
                          absl::FromChrono(time - SteadyClock::now()));
  return !stopping_;
}

WatchHub::Round WatchHub::EncodeNew(int64_t seen) {
  Round round{.last = log_->last()};
  while (seen < round.last) {
    const auto found = log_->Next(seen, Everything, 1);
    // Wake all watchers if the log has forgotten a change, and do not find out
    // who wants what in a large burst.
    round.everybody = !found.ok() || round.projects.size() >= kMaxEncodedAhead;
    if (round.everybody || found->change == nullptr) break;
    seen = found->change->sequence;
    if (IsWatched(found->change->workspace->project))
      Encode(*found->change, "");
    round.projects.insert(found->change->workspace->project.str());
  }
  return round;
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
  // Without a uid, only the project is known: the record is unreadable.
  const bool exists = kind != pb::CHANGE_DELETED && !workspace.uid.empty();
  std::optional<core::Lease> lease;
  if (exists && options_.lease_of != nullptr)
    lease = options_.lease_of(workspace);
  const bool over_quota = exists && options_.is_over_quota != nullptr &&
                          options_.is_over_quota(workspace);
  return EncodeWatched(kind, workspace, lease, over_quota, token);
}

std::optional<WatchHub::Message> WatchHub::FindEncoded(
    const core::LoggedChange& change, const std::string& view) {
  absl::ReaderMutexLock lock(&mutex_);
  const auto it = encoded_.find(Key(change.sequence, view));
  if (it == encoded_.end()) return std::nullopt;
  return it->second;
}

WatchHub::Message WatchHub::Encode(const core::LoggedChange& change,
                                   const std::string& view) {
  if (auto found = FindEncoded(change, view)) return *std::move(found);
  // Encode without the lock. If two threads encode the same change, the second
  // copy is dropped.
  const Message message(EncodeState(ToProto(change.kind), *change.workspace,
                                    TokenAt(change.sequence, view)));
  absl::MutexLock lock(&mutex_);
  const auto [it, added] =
      encoded_.try_emplace(Key(change.sequence, view), message);
  if (!added) return it->second;
  encoded_bytes_ += message.size();
  encoded_order_.push_back(it->first);
  // Evict the oldest, because watchers that keep up need only the newest.
  while (encoded_bytes_ > options_.max_encoded_bytes) {
    const auto oldest = encoded_.find(encoded_order_.front());
    encoded_bytes_ -= oldest->second.size();
    encoded_.erase(oldest);
    encoded_order_.pop_front();
  }
  return message;
}

WatchHub::Message WatchHub::EncodeListed(const core::Workspace& workspace,
                                         const std::string& token) const {
  return Message(EncodeState(pb::CHANGE_CREATED, workspace, token));
}

WatchHub::Message WatchHub::EncodeSynced(const std::string& token) const {
  pb::WatchWorkspacesResponse message;
  message.set_change(pb::CHANGE_SYNCED);
  message.set_resume_token(token);
  return Message(message.SerializeAsString());
}

size_t WatchHub::encoded_bytes() const {
  absl::ReaderMutexLock lock(&mutex_);
  return encoded_bytes_;
}

}  // namespace mlops::rpc
