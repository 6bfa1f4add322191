// Tells ThreadSanitizer about Abseil's locks. Debian's Abseil is not
// instrumented, so that two accesses under one absl::Mutex would look like a
// race. The definitions below take precedence over the library's, call them,
// and report the order that they establish. Only the tests of the tsan preset
// link this file.
#include <dlfcn.h>
#include <sanitizer/tsan_interface.h>

#include <string>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"

// Clang's thread-safety analysis cannot follow these definitions.
#pragma clang diagnostic ignored "-Wthread-safety"

namespace absl {
ABSL_NAMESPACE_BEGIN
namespace {

#define MLOPS_TEXT_(x) #x
#define MLOPS_TEXT(x) MLOPS_TEXT_(x)

// Returns the library's own function. `mangled_end` is the part of its mangled
// name after the namespace, where "S0_" stands for the namespace of an
// argument's type from Abseil.
template <typename Function>
Function* Real(const char* mangled_end, const char* qualifier = "") {
  const std::string space = MLOPS_TEXT(ABSL_OPTION_INLINE_NAMESPACE_NAME);
  const std::string symbol = "_ZN" + std::string(qualifier) + "4absl" +
                             std::to_string(space.size()) + space + mangled_end;
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, symbol.c_str()));
}

// Wraps a condition, which any thread that unlocks the mutex may evaluate
// inside the library. The waiting thread keeps the wrapper on its stack.
class Seen {
 public:
  Seen(Mutex* mutex, const Condition* condition)
      : mutex_(mutex), condition_(condition) {
    __tsan_release(this);
  }

  // Uses a function of void*, because that is the only kind that the library
  // calls without instrumented code from its headers.
  Condition AsCondition() {
    return Condition(&Seen::Ask, static_cast<void*>(this));
  }

 private:
  static bool Ask(void* self) {
    __tsan_acquire(self);
    const Seen& seen = *static_cast<Seen*>(self);
    __tsan_acquire(seen.mutex_);
    const bool result = seen.condition_->Eval();
    __tsan_release(seen.mutex_);
    return result;
  }

  Mutex* const mutex_;
  const Condition* const condition_;
};

}  // namespace

void Mutex::Lock() {
  static auto* const real = Real<void(Mutex*)>("5Mutex4LockEv");
  real(this);
  __tsan_acquire(this);
}

void Mutex::Unlock() {
  static auto* const real = Real<void(Mutex*)>("5Mutex6UnlockEv");
  __tsan_release(this);
  real(this);
}

void Mutex::ReaderLock() {
  static auto* const real = Real<void(Mutex*)>("5Mutex10ReaderLockEv");
  real(this);
  __tsan_acquire(this);
}

void Mutex::ReaderUnlock() {
  static auto* const real = Real<void(Mutex*)>("5Mutex12ReaderUnlockEv");
  __tsan_release(this);
  real(this);
}

void Mutex::LockWhen(const Condition& condition) {
  static auto* const real =
      Real<void(Mutex*, const Condition&)>("5Mutex8LockWhenERKNS0_9ConditionE");
  Seen seen(this, &condition);
  real(this, seen.AsCondition());
  __tsan_acquire(this);
}

void Mutex::Await(const Condition& condition) {
  static auto* const real =
      Real<void(Mutex*, const Condition&)>("5Mutex5AwaitERKNS0_9ConditionE");
  __tsan_release(this);
  Seen seen(this, &condition);
  real(this, seen.AsCondition());
  __tsan_acquire(this);
}

bool Mutex::AwaitWithTimeout(const Condition& condition, Duration timeout) {
  static auto* const real = Real<bool(Mutex*, const Condition&, Duration)>(
      "5Mutex16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE");
  __tsan_release(this);
  Seen seen(this, &condition);
  const bool result = real(this, seen.AsCondition(), timeout);
  __tsan_acquire(this);
  return result;
}

bool CondVar::WaitWithTimeout(Mutex* mutex, Duration timeout) {
  static auto* const real = Real<bool(CondVar*, Mutex*, Duration)>(
      "7CondVar15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE");
  __tsan_release(mutex);
  const bool result = real(this, mutex, timeout);
  __tsan_acquire(mutex);
  return result;
}

void Notification::Notify() {
  static auto* const real =
      Real<void(Notification*)>("12Notification6NotifyEv");
  __tsan_release(this);
  real(this);
}

void Notification::WaitForNotification() const {
  static auto* const real = Real<void(const Notification*)>(
      "12Notification19WaitForNotificationEv", "K");
  real(this);
  __tsan_acquire(const_cast<Notification*>(this));
}

ABSL_NAMESPACE_END
}  // namespace absl
