#ifndef MLOPS_PROTO_CPP_BASE_UNIQUE_FD_H_
#define MLOPS_PROTO_CPP_BASE_UNIQUE_FD_H_

#include <unistd.h>

#include <utility>

namespace mlops::base {

// Owns a file descriptor and closes it on destruction. Ignores errors of
// close(2); to see them after a write, call Release() and then close(2).
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.Release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) Reset(other.Release());
    return *this;
  }
  ~UniqueFd() { Reset(); }

  int get() const { return fd_; }
  bool ok() const { return fd_ >= 0; }
  int Release() { return std::exchange(fd_, -1); }
  void Reset(int fd = -1) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

}  // namespace mlops::base

#endif  // MLOPS_PROTO_CPP_BASE_UNIQUE_FD_H_
