#ifndef MLOPS_SERVICE_BASE_MEMO_H_
#define MLOPS_SERVICE_BASE_MEMO_H_

#include <atomic>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"

namespace mlops::base {

// A text that is derived from the object it stands in: made when first asked
// for and kept as long as the object, which must not change from then on.
// Copies of the object, which may be changed, begin without it. Get() is
// thread-safe.
class Memo {
 public:
  Memo() = default;
  Memo(const Memo&) {}
  Memo& operator=(const Memo&) {
    delete text_.exchange(nullptr);
    return *this;
  }
  ~Memo() { delete text_.load(std::memory_order_relaxed); }

  // What `make` returned the first time. Where several ask first at once, each
  // makes it and all get the same one.
  const std::string& Get(absl::FunctionRef<std::string()> make) const {
    const std::string* text = text_.load(std::memory_order_acquire);
    if (text != nullptr) return *text;
    auto made = std::make_unique<const std::string>(make());
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
