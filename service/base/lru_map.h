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

// Maps strings to values within a limit on memory in bytes, and evicts
// the least recently used entries. Not thread-safe.
template <typename Value>
class LruMap {
 public:
  explicit LruMap(size_t max_bytes) : max_bytes_(max_bytes) {}

  // Returns the value of `key` and marks it as used, or returns null if there
  // is none. The pointer is valid until the next call of any other method.
  Value* Find(absl::string_view key) {
    const auto it = index_.find(key);
    if (it == index_.end()) return nullptr;
    items_.splice(items_.begin(), items_, it->second);
    return &it->second->value;
  }

  // Sets the value of `key`. `value_bytes` is the memory that the value holds
  // beyond sizeof(Value). An entry larger than the whole limit is dropped.
  void Put(std::string key, Value value, size_t value_bytes) {
    Take(key);
    const size_t bytes =
        sizeof(Item) + kOverhead + key.capacity() + value_bytes;
    items_.push_front(
        {.key = std::move(key), .value = std::move(value), .bytes = bytes});
    // A list node never moves, so the view of its key stays valid.
    index_[items_.front().key] = items_.begin();
    bytes_ += bytes;
    // An entry that exceeds the limit evicts all others and then itself.
    while (bytes_ > max_bytes_) Take(items_.back().key);
  }

  // Removes the entry of `key` and returns its value, or nullopt
  // if there is none.
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

  // Returns the memory in use, in bytes.
  size_t bytes() const { return bytes_; }

 private:
  struct Item {
    std::string key;
    Value value;
    size_t bytes;
  };
  using Items = std::list<Item>;
  // Approximate overhead of list, index and allocator per entry, in bytes.
  static constexpr size_t kOverhead = 80;

  const size_t max_bytes_;
  size_t bytes_ = 0;
  // Most recently used first.
  Items items_;
  // The keys are views of the items' keys.
  absl::flat_hash_map<absl::string_view, typename Items::iterator> index_;
};

}  // namespace mlops::base

#endif  // MLOPS_SERVICE_BASE_LRU_MAP_H_
