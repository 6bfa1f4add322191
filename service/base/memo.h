#ifndef MLOPS_SERVICE_BASE_MEMO_H_
#define MLOPS_SERVICE_BASE_MEMO_H_

#include <atomic>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"

namespace mlops::base {

// Holds a text derived from the object that contains it: computed on first use,
// then kept for the object's lifetime. The object must not change after that.
// A copy of the object may change, so it starts without the text. Get()
// is thread-safe.
class Memo {
 public:
  Memo() = default;
  Memo(const Memo&) {}
  Memo& operator=(const Memo&) {
    delete text_.exchange(nullptr);
    return *this;
  }
  ~Memo() { delete text_.load(std::memory_order_relaxed); }

  // Returns the text, calling `make` if it has not been computed. Concurrent
  // first callers may each call `make`, but all get the same result.
  const std::string& Get(absl::FunctionRef<std::string()> make) const {
    const std::string* text = text_.load(std::memory_order_acquire);
    if (text != nullptr) return *text;
    auto made = std::make_unique<const std::string>(make());
    // Another thread may have stored its text first: then use that one.
    if (!text_.compare_exchange_strong(text, made.get(),
                                       std::memory_order_acq_rel))
      return *text;
    return *made.release();
  }

 private:
  mutable std::atomic<const std::string*> text_ = nullptr;
};

}  // namespace mlops::base

#endif  // MLOPS_SERVICE_BASE_MEMO_H_
