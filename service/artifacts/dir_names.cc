#include "service/artifacts/dir_names.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace mlops::artifacts {
namespace {

// Reading a smaller directory is as fast as a lookup.
constexpr size_t kMinNames = 1000;

std::string KeyOf(const fs::FileStamp& stamp) {
  return absl::StrCat(stamp.device, " ", stamp.inode);
}

}  // namespace

void DirNames::Add(absl::string_view name, fs::EntryType type) {
  begins_.push_back(static_cast<uint32_t>(text_.size()));
  text_.push_back(static_cast<char>(type));
  absl::StrAppend(&text_, name, absl::string_view("\0", 1));
}

void DirNames::Sort() {
  const auto name_at = [this](uint32_t begin) {
    return absl::string_view(text_.data() + begin + 1);
  };
  std::sort(begins_.begin(), begins_.end(),
            [&](uint32_t a, uint32_t b) { return name_at(a) < name_at(b); });
  text_.shrink_to_fit();
  begins_.shrink_to_fit();
}

size_t DirNames::Behind(absl::string_view name) const {
  const auto is_before = [this](absl::string_view wanted, uint32_t begin) {
    return wanted < absl::string_view(text_.data() + begin + 1);
  };
  const auto it =
      std::upper_bound(begins_.begin(), begins_.end(), name, is_before);
  return static_cast<size_t>(it - begins_.begin());
}

std::shared_ptr<const DirNames> DirNamesCache::Find(const fs::Dir& dir,
                                                    absl::string_view after) {
  const auto stamp = dir.StatSelf();
  if (!stamp.ok()) return nullptr;
  absl::MutexLock lock(&mutex_);
  const Known* known = known_.Find(KeyOf(*stamp));
  // Names collected after a later name do not include all that the caller
  // needs.
  return known != nullptr && known->stamp == *stamp && known->after <= after
             ? known->names
             : nullptr;
}

void DirNamesCache::Collector::Add(absl::string_view name, fs::EntryType type) {
  // Only the first name claims the right to collect, so that a directory that
  // fits into one page, for which this is never called, does not block others.
  if (!begun_) {
    begun_ = true;
    absl::MutexLock lock(&cache_->mutex_);
    if (!std::exchange(cache_->collecting_, true))
      names_ = std::make_unique<DirNames>();
  }
  if (names_ == nullptr) return;
  names_->Add(name, type);
  if (names_->bytes() > cache_->max_bytes_) Stop();
}

void DirNamesCache::Collector::Keep(const fs::Dir& dir) {
  if (names_ == nullptr || names_->size() < kMinNames) return;
  // The stamp is taken after the read and compared with the time before it,
  // so a change in between makes the stamp too recent to be trusted.
  const auto stamp = dir.StatSelf();
  if (!stamp.ok() || fs::MayBeRacy(*stamp, begin_)) return;
  names_->Sort();
  Known known{.stamp = *stamp,
              .after = after_,
              .names = std::exchange(names_, nullptr)};
  const size_t bytes = known.names->bytes();
  absl::MutexLock lock(&cache_->mutex_);
  cache_->collecting_ = false;
  cache_->known_.Put(KeyOf(*stamp), std::move(known), bytes);
}

void DirNamesCache::Collector::Stop() {
  if (names_ == nullptr) return;
  names_.reset();
  absl::MutexLock lock(&cache_->mutex_);
  cache_->collecting_ = false;
}

}  // namespace mlops::artifacts
