#ifndef MLOPS_SERVICE_BASE_LRU_MAP_H_
#define MLOPS_SERVICE_BASE_LRU_MAP_H_

#include <cstddef>
#include <list>
#include <optional>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"

namespace mlops::base {

// A map that keeps within a number of bytes: what was used longest ago goes
// first. Not thread-safe.
template <typename Value>
class LruMap {
 public:
  explicit LruMap(size_t max_bytes) : max_bytes_(max_bytes) {}

  // The value of `key`, which counts as a use, or null. Valid until the next
  // call of another method.
  Value* Find(absl::string_view key) {
    const auto it = index_.find(key);
    if (it == index_.end()) return nullptr;
    items_.splice(items_.begin(), items_, it->second);
    return &it->second->value;
  }

  // Sets the value of `key`, which holds `value_bytes` beside its own size. One
  // that has no room at all is dropped.
  void Put(std::string key, Value value, size_t value_bytes) {
    Take(key);
    const size_t bytes =
        sizeof(Item) + kOverhead + key.capacity() + value_bytes;
    items_.push_front(
        {.key = std::move(key), .value = std::move(value), .bytes = bytes});
    index_[items_.front().key] = items_.begin();
    bytes_ += bytes;
    while (bytes_ > max_bytes_) Take(items_.back().key);
  }

  // Removes the value of `key`, if there is one.
  std::optional<Value> Take(absl::string_view key) {
    const auto it = index_.find(key);
    if (it == index_.end()) return std::nullopt;
    const auto item = it->second;
    index_.erase(it);
    std::optional<Value> value = std::move(item->value);
    bytes_ -= item->bytes;
    items_.erase(item);
    return value;
  }

  size_t bytes() const { return bytes_; }

 private:
  struct Item {
    std::string key;
    Value value;
    size_t bytes;
  };
  using Items = std::list<Item>;
  // About what list, index and allocator add to an item.
  static constexpr size_t kOverhead = 80;

  const size_t max_bytes_;
  size_t bytes_ = 0;
  // The one used last first.
  Items items_;
  // By the items' own keys.
  absl::flat_hash_map<absl::string_view, typename Items::iterator> index_;
};

}  // namespace mlops::base

#endif  // MLOPS_SERVICE_BASE_LRU_MAP_H_
